"""Which evaluators do without semantic scores."""

from typing import Any, Callable, Iterable, TypeVar

from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
)

Process = TypeVar("Process", bound=Callable[..., None])

_MARK = "reads_labels"
# Detectron2's that read nothing semantic.
_OTHERS = (CityscapesInstanceEvaluator, COCOEvaluator, COCOPanopticEvaluator, LVISEvaluator)


def reads_labels(process: Process) -> Process:
    """
    Decorator of an evaluator's ``process`` that takes ``sem_seg_labels``, or nothing semantic.

    It marks the method and not the class: a subclass with a ``process`` of its own may read the
    scores.
    """
    setattr(process, _MARK, True)
    return process


def need_scores(evaluators: Iterable[DatasetEvaluator]) -> bool:
    """Whether one of them may read ``sem_seg``, the scores of all classes."""
    return any(_needs_scores(evaluator) for evaluator in evaluators)


def _needs_scores(evaluator: Any) -> bool:
    if type(evaluator) is DatasetEvaluators:
        return need_scores(evaluator._evaluators)
    process = type(evaluator).process
    return not hasattr(process, _MARK) and process not in [kind.process for kind in _OTHERS]
