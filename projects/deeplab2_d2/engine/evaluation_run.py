"""What an evaluation does beside the network: evaluators at work in the background."""

import contextlib
from typing import Iterator, List, Sequence

from detectron2.evaluation import DatasetEvaluator

from ..evaluation import BackgroundEvaluator, need_scores
from ..models import labels_are_enough


@contextlib.contextmanager
def evaluators_at_work(evaluators: Sequence[DatasetEvaluator]) -> Iterator[List[DatasetEvaluator]]:
    """
    Evaluators that take a batch's outputs while the network sees the next.

    Within the block models are asked for semantic labels alone, unless one of the evaluators may
    read the scores of all classes.
    """
    with contextlib.ExitStack() as stack:
        if not need_scores(evaluators):
            stack.enter_context(labels_are_enough())
        yield [stack.enter_context(BackgroundEvaluator(evaluator)) for evaluator in evaluators]
