"""What an evaluation does beside the network: evaluators at work in the background."""

import contextlib
import itertools
import os
from typing import Iterator, List, Sequence

import torch
from detectron2.evaluation import DatasetEvaluator
from torch import nn

from ..evaluation import BackgroundEvaluator, need_scores
from ..models import labels_are_enough


@contextlib.contextmanager
def evaluators_at_work(
    evaluators: Sequence[DatasetEvaluator], model: nn.Module
) -> Iterator[List[DatasetEvaluator]]:
    """
    Evaluators that take a batch's outputs while the network sees the next.

    Of a model on a CPU whose threads take all processors they take them before: beside them, an
    evaluator would keep the other threads of a convolution waiting for the one in whose place it
    is. Within the block models are asked for semantic labels alone, unless one of the evaluators
    may read the scores of all classes.
    """
    with contextlib.ExitStack() as stack:
        if not need_scores(evaluators):
            stack.enter_context(labels_are_enough())
        if not has_idle_processor(model):
            yield list(evaluators)
            return
        yield [stack.enter_context(BackgroundEvaluator(evaluator)) for evaluator in evaluators]


def has_idle_processor(model: nn.Module) -> bool:
    """Whether there is a processor that the model's operations do not use."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return True
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else (os.cpu_count() or 1)
    return torch.get_num_threads() < count
