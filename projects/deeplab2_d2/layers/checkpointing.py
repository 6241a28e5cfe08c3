"""Gradient checkpointing that updates batch norm's moving statistics once."""

from contextlib import contextmanager, nullcontext
from typing import Any, Callable, ContextManager, Iterator, Tuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.momentum, norm.track_running_stats = 0.0, False
    try:
        yield
    finally:
        for norm, (momentum, track_running_stats) in zip(norms, before):
            norm.momentum, norm.track_running_stats = momentum, track_running_stats


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
