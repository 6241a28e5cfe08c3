"""Signals to a training: remembered once, at once the second time, agreed on by processes."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from deeplab2_d2.command import run_command
from deeplab2_d2.engine import interrupt
from deeplab2_d2.engine.interrupt import StopHook, StopSignals, TrainingStopped, describe_stop


def send(number):
    os.kill(os.getpid(), number)


def test_the_first_signal_is_remembered_and_handlers_are_put_back(capfd):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        send(signal.SIGTERM)
        assert signals.requested == signal.SIGTERM
        # A scheduler may send it again and again.
        send(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert capfd.readouterr().err == (
        "\nSIGTERM: a checkpoint follows; Ctrl-C ends at once, without one\n"
    )


def test_what_is_forked_meanwhile_ends_by_sigterm_however_early_it_comes():
    with StopSignals() as signals:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(7)
            # Its interpreter has hardly begun.
            os.kill(child, signal.SIGTERM)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
        assert signals.requested is None


def test_ctrl_c_after_a_signal_ends_the_process_at_once_whatever_it_does():
    child = os.fork()
    if child == 0:
        with StopSignals():
            send(signal.SIGINT)
            send(signal.SIGINT)
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT


def test_ctrl_c_lets_started_processes_go_on_and_sigterm_ends_them():
    # A pool ends its processes so.
    for number, status in ((signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM)):
        with StopSignals() as signals:
            child = os.fork()
            if child == 0:
                send(number)
                send(number)
                os._exit(7 if signals.requested is None else 8)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status


def test_a_signal_while_nothing_is_computed_is_met_where_it_comes(capfd):
    with StopSignals() as signals:
        hook = StopHook(signals)
        hook.trainer = SimpleNamespace(iter=3, max_iter=10)
        hook.after_step()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
            time.sleep(10)
        signals.requested = None
        hook.before_step()
        assert not signals.may_raise


class Store:
    """What processes of a job share, as far as the hook needs it."""

    def __init__(self):
        self.values = {}

    def compare_set(self, key, expected, value):
        self.values.setdefault(key, value)

    def check(self, keys):
        return all(key in self.values for key in keys)

    def get(self, key):
        return self.values[key].encode()


def test_processes_stop_after_the_same_step_whichever_the_signal_reaches(monkeypatch):
    store = Store()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(interrupt.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(interrupt, "_num_trainings", 0)
    first, second = StopHook(StopSignals()), StopHook(StopSignals())
    monkeypatch.setattr(second, "_key", first._key)

    def steps(hook, iteration):
        hook.trainer = SimpleNamespace(iter=iteration, max_iter=100)
        try:
            hook.after_step()
        except KeyboardInterrupt:
            return False
        return True

    assert steps(first, 4) and steps(second, 4)
    first._signals.requested = signal.SIGINT
    # The other is a step ahead when the first asks for a stop two steps later.
    assert steps(second, 5) and steps(first, 5)
    second._signals.requested = signal.SIGINT
    assert steps(second, 6) and steps(first, 6)
    assert not steps(first, 7) and not steps(second, 7)


def test_the_last_line_says_how_to_go_on_and_the_status_is_the_signals(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["somewhere/train_net.py", "--config-file", "x"])
    signals = StopSignals()
    signals.requested = signal.SIGINT
    text = describe_stop(signals, 4, 100, "out/model_0000004.pth")
    head = "train_net.py: stopped by SIGINT after 5 of 100 iterations"
    assert text == f"{head}; the same command with --resume goes on from out/model_0000004.pth"
    text = describe_stop(signals, -1, 100, "")
    assert text.endswith("after 0 of 100 iterations; there is no checkpoint yet")

    def stop(message):
        raise TrainingStopped(message, 130)

    assert run_command("train_net.py", stop, text) == 130
    # Another process of the job has said it.
    assert run_command("train_net.py", stop, "") == 130
    assert capsys.readouterr().err == text + "\n"
