"""Gradient checkpointing that updates batch norm's moving statistics once."""

from contextlib import contextmanager, nullcontext
from typing import Any, Callable, ContextManager, Iterator, Tuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked for norm in norms]
    counts = [None if counter is None else counter.clone() for counter in counters]
    for norm in norms:
        # The statistics are still given to the operator, which must save what it saved before.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counter, count in zip(norms, momenta, counters, counts):
            norm.momentum = momentum
            if counter is not None and count is not None:
                counter.copy_(count)


def checkpointed(module: nn.Module, function: Callable[..., Any], *inputs: Any) -> Any:
    """
    ``function(*inputs)``, whose intermediate results are computed again in backward.

    The second computation would move batch norm's statistics a second time, which
    ``torch.utils.checkpoint`` leaves to its callers: here it does not. Random numbers (drop path)
    are the same both times.

    Args:
        module: holds the parameters that ``function`` uses.
        function: often ``module`` itself.
        inputs: tensors, or what ``function`` takes.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)

    def contexts() -> Tuple[ContextManager[None], ContextManager[None]]:
        return nullcontext(), _frozen_running_statistics(module)

    return checkpoint(function, *inputs, use_reentrant=False, context_fn=contexts)
