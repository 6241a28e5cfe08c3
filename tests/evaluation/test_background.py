"""An evaluator in a thread of its own is what it is without."""

import threading

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator

from deeplab2_d2 import ops
from deeplab2_d2.evaluation import BackgroundEvaluator
from deeplab2_d2.ops import extension


class Recorder(DatasetEvaluator):
    """Notes what it is given; fails at a batch; waits until it may go on."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at
        self.gate = threading.Event()
        self.gate.set()

    def reset(self):
        self.calls.append("reset")

    def process(self, inputs, outputs):
        self.gate.wait(10)
        if inputs[0]["file_name"] == self.fails_at:
            raise ValueError("no such class")
        self.calls.append((inputs[0]["file_name"], outputs[0]))

    def evaluate(self):
        return {"calls": len(self.calls)}


def feed(evaluator, names):
    for number, name in enumerate(names):
        evaluator.process([{"file_name": name}], [number])


def test_batches_come_in_their_order_and_all_before_the_evaluation():
    inner = Recorder()
    with BackgroundEvaluator(inner) as evaluator:
        for _ in range(2):
            evaluator.reset()
            feed(evaluator, "abcdefgh")
            evaluator.evaluate()
    once = ["reset", *((name, number) for number, name in enumerate("abcdefgh"))]
    assert inner.calls == 2 * once


def test_results_are_the_evaluators():
    with BackgroundEvaluator(Recorder()) as evaluator:
        evaluator.reset()
        assert evaluator.evaluate() == {"calls": 1}
        feed(evaluator, "abc")
        assert evaluator.evaluate() == {"calls": 4}


def test_the_caller_waits_when_three_batches_are_unfinished():
    inner = Recorder()
    inner.gate.clear()
    with BackgroundEvaluator(inner) as evaluator:
        # One is at work, two wait.
        feed(evaluator, "abc")
        caller = threading.Thread(target=feed, args=(evaluator, "d"), daemon=True)
        caller.start()
        caller.join(0.2)
        assert caller.is_alive() and inner.calls == []
        inner.gate.set()
        caller.join(10)
        assert not caller.is_alive() and evaluator.evaluate() == {"calls": 4}


def test_an_error_reaches_the_caller_with_the_image_that_it_was_at():
    inner = Recorder(fails_at="b")
    with BackgroundEvaluator(inner) as evaluator:
        evaluator.reset()
        with pytest.raises(ValueError, match="no such class") as caught:
            feed(evaluator, "abcdefgh")
            evaluator.evaluate()
        assert caught.value.__notes__ == ["while b was evaluated"]
        # Nothing behind it is processed, and another round begins anew.
        assert inner.calls == ["reset", ("a", 0)]
        inner.fails_at = None
        evaluator.reset()
        feed(evaluator, "xy")
        assert evaluator.evaluate() == {"calls": 5}


def test_an_error_of_the_last_batch_is_raised_by_the_evaluation():
    with BackgroundEvaluator(Recorder(fails_at="a")) as evaluator:
        feed(evaluator, "a")
        with pytest.raises(ValueError, match="no such class"):
            evaluator.evaluate()


def test_the_thread_ends_with_the_block_whatever_happens():
    inner = Recorder()
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="network"):
        with BackgroundEvaluator(inner) as evaluator:
            feed(evaluator, "a")
            raise RuntimeError("network")
    assert threading.active_count() == before


def test_what_holds_for_the_caller_holds_for_the_evaluator():
    seen = []

    class Watcher(DatasetEvaluator):
        def process(self, inputs, outputs):
            seen.append((extension._NUM_OPEN.get(), torch.is_grad_enabled()))

    with ops.use_reference(), BackgroundEvaluator(Watcher()) as evaluator:
        feed(evaluator, "a")
        evaluator.evaluate()
    assert seen == [(1, False)]
