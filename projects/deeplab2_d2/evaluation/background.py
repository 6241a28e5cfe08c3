"""Evaluators that work while the network sees the next images."""

import contextvars
import logging
import queue
import threading
from types import TracebackType
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Type

import torch
from detectron2.evaluation import DatasetEvaluator

logger = logging.getLogger(__name__)

# Batches that wait, at most: their outputs are in memory.
_MAX_WAITING = 2


class _Batch(NamedTuple):
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]


class BackgroundEvaluator(DatasetEvaluator):
    """
    An evaluator whose ``process`` runs in a thread of its own.

    Batches are processed one after the other in their order, so results are what they are without.
    What the evaluator raises is raised again by the next ``process`` or by ``evaluate``, which
    waits for the thread. To be used in a ``with``: without ``evaluate``, its end drops what waits.
    """

    def __init__(self, evaluator: DatasetEvaluator):
        """
        Args:
            evaluator: its ``reset`` and ``evaluate`` are called in the caller's thread.
        """
        self._evaluator = evaluator
        self._waiting: "queue.Queue[Optional[_Batch]]" = queue.Queue(_MAX_WAITING)
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[BaseException] = None

    def __enter__(self) -> "BackgroundEvaluator":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._drop()

    def reset(self) -> None:
        """Begin anew; batches of a round without an end are dropped."""
        self._drop()
        self._evaluator.reset()

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Hand a batch to the thread; waits while ``_MAX_WAITING`` are there.

        Raises:
            what the evaluator has raised of a batch before.
        """
        if self._thread is None:
            # What holds for the caller (`ops.use_reference`) holds for the thread.
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(self._work,), name="evaluator", daemon=True
            )
            self._thread.start()
        self._raise()
        self._waiting.put(_Batch(inputs, outputs))

    def evaluate(self) -> Any:
        """
        Returns:
            the evaluator's results, when all batches are processed.

        Raises:
            what the evaluator has raised of a batch.
        """
        self._join()
        self._raise()
        return self._evaluator.evaluate()

    def _work(self) -> None:
        with torch.no_grad():
            while True:
                batch = self._waiting.get()
                if batch is None:
                    return
                if self._error is not None:
                    # Whoever waits for a place in the queue shall have it, and see the error.
                    continue
                try:
                    self._evaluator.process(batch.inputs, batch.outputs)
                except BaseException as error:
                    _name_images(error, batch.inputs)
                    self._error = error

    def _join(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _raise(self) -> None:
        if self._error is not None:
            error = self._error
            self._drop()
            raise error

    def _drop(self) -> None:
        """End the thread after the batch that it is at."""
        while not self._waiting.empty():
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                break
        self._join()
        self._error = None


def _name_images(error: BaseException, inputs: Sequence[Mapping[str, Any]]) -> None:
    names = ", ".join(str(sample.get("file_name", "an image")) for sample in inputs)
    if hasattr(error, "add_note"):
        error.add_note(f"while {names} was evaluated")
    else:  # before Python 3.11
        logger.error("while %s was evaluated: %r", names, error)
