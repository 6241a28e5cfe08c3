"""Ctrl-C and SIGTERM while a model trains: a checkpoint, and a line that says how to go on."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Dict, Optional

import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Of a key on which the processes of a job agree; trainings of one job have one each.
_num_trainings = 0


class TrainingStopped(KeyboardInterrupt):
    """
    A training that a signal has ended; the message says how to go on, and is empty in the
    processes that do not speak.

    Attributes:
        status: exit status of the program, as shells have it.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class StopSignals:
    """
    Within the block the first SIGINT or SIGTERM is remembered, and a SIGINT after it ends the
    process at once, whatever it is doing.

    Attributes:
        requested: the signal that was received, or None.
        may_raise: a signal raises :class:`KeyboardInterrupt` where it is received.
    """

    def __init__(self) -> None:
        self.requested: Optional[signal.Signals] = None
        self.may_raise = False
        self._pid = os.getpid()
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        # Elsewhere Python takes no handlers.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._receive)
            _FORKS.is_watched = True
        return self

    def __exit__(self, *exception: object) -> None:
        _FORKS.is_watched = False
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != self._pid:
            return  # Ctrl-C in a process that has inherited the handler: its parent decides.
        if self.requested is not None:
            return  # Once is enough.
        self.requested = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # A signal to all processes of a job ends the data workers too, and PyTorch would raise an
        # error for that in the middle of a step.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if comm.is_main_process():
            text = f"{self.requested.name}: a checkpoint follows; Ctrl-C ends at once, without one"
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
        if self.may_raise:
            raise KeyboardInterrupt


class _Forks:
    """
    What is forked meanwhile (data workers, panopticapi's pool) ends by SIGTERM, whenever it comes.

    Python forgets the signals that a new process receives before it has got its bearings, if they
    have a handler: whoever had started the process would wait for its end forever. So they are
    held back until SIGTERM has no handler there.

    Attributes:
        is_watched: signals have the handler of :class:`StopSignals`.
    """

    def __init__(self) -> None:
        self.is_watched = False
        self._masks = threading.local()
        os.register_at_fork(
            before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child
        )

    def _before(self) -> None:
        self._masks.value = None
        if self.is_watched:
            self._masks.value = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def _in_parent(self) -> None:
        if self._masks.value is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.value)

    def _in_child(self) -> None:
        if self._masks.value is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.value)


_FORKS = _Forks()


class StopHook(HookBase):
    """
    After a step, end a training that has been asked to, all processes after the same step.

    Stands after the learning rate and the checkpoints, and before what may take long, evaluation.
    """

    def __init__(self, signals: StopSignals):
        global _num_trainings
        _num_trainings += 1
        self._key = f"deeplab2_d2/stop_{_num_trainings}"
        self._signals = signals
        self._has_asked = False

    def before_step(self) -> None:
        self._signals.may_raise = False

    def after_step(self) -> None:
        if self._is_agreed():
            # After the last step there is a checkpoint, and nothing to end but evaluation.
            if self.trainer.iter + 1 < self.trainer.max_iter:
                raise KeyboardInterrupt
        # What follows may be ended anywhere, where no other process waits.
        self._signals.may_raise = comm.get_world_size() == 1

    def _is_agreed(self) -> bool:
        is_requested = self._signals.requested is not None
        if comm.get_world_size() == 1:
            return is_requested
        store = dist.distributed_c10d._get_default_store()
        if is_requested and not self._has_asked:
            self._has_asked = True
            # Gradients are exchanged in each step, so that no process is two steps ahead.
            store.compare_set(self._key, "", str(self.trainer.iter + 2))
        return store.check([self._key]) and self.trainer.iter >= int(store.get(self._key))


def describe_stop(signals: StopSignals, iteration: int, max_iter: int, path: str) -> str:
    """
    Args:
        signals: that have been received.
        iteration: the last that is done; -1 for none.
        max_iter: of the training.
        path: of the checkpoint; "" for none.
    """
    program = os.path.basename(sys.argv[0]) or "training"
    name = signals.requested.name if signals.requested is not None else "KeyboardInterrupt"
    head = f"{program}: stopped by {name} after {iteration + 1} of {max_iter} iterations"
    if not path:
        return f"{head}; there is no checkpoint yet"
    return f"{head}; the same command with --resume goes on from {path}"
