"""
Functions of many independent rows, computed a few rows at a time and again in backward.

What a function makes in between is never in memory for more than a chunk. Inputs and outputs are
(N, C, S, L); a row is an image and a place on the third axis.
"""

from contextlib import nullcontext
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

Chunk = Tuple[slice, slice]
Function = Callable[..., Tensor]


def split_rows(features: Tensor, num_rows: int) -> List[Chunk]:
    """
    Slices of the first and of the third axis, of about ``num_rows`` (at least 1) together.

    Whole images if one fits, parts of an image otherwise; none where the graph is seen as a whole.
    """
    if _sees_whole_graph():
        return []
    num_images, others = features.shape[0], features.shape[2]
    num_rows = max(1, num_rows)
    images = max(1, num_rows // others)
    width = others if num_rows >= others else num_rows
    return [
        (slice(first, first + images), slice(start, start + width))
        for first in range(0, num_images, images)
        for start in range(0, others, width)
    ]


def map_rows(
    function: Function,
    chunks: Sequence[Chunk],
    features: Tensor,
    shared: Sequence[Optional[Tensor]],
    *,
    out_channels: int,
) -> Tensor:
    """
    ``function(features, *shared)`` of (N, C, S, L), which is (N, out_channels, S, L).

    Args:
        function: treats each row by itself, and has no other inputs that need gradients.
        chunks: from :func:`split_rows`.
        shared: what all rows share.
    """
    if _sees_whole_graph():
        return function(features, *shared)
    return _MapRows.apply(function, chunks, out_channels, features, *shared)


def sum_rows(
    function: Function,
    chunks: Sequence[Chunk],
    features: Tensor,
    shared: Sequence[Optional[Tensor]],
) -> Tensor:
    """``function(features, *shared)``, where that is the sum of what it is of the rows."""
    if _sees_whole_graph():
        return function(features, *shared)
    return _SumRows.apply(function, chunks, features, *shared)


def _sees_whole_graph() -> bool:
    """Compilers and counters of operations look into functions, and not into autograd's nodes."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class _MapRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Function,
        chunks: Sequence[Chunk],
        out_channels: int,
        features: Tensor,
        *shared: Optional[Tensor],
    ) -> Tensor:
        _remember(ctx, function, chunks, features, shared)
        size = (features.shape[0], out_channels) + tuple(features.shape[2:])
        output = features.new_empty(size)
        for images, others in chunks:
            part = function(features[images, :, others], *shared)
            output[images, :, others] = part
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        found = _backward(ctx, lambda images, others: gradient[images, :, others])
        return (None, None, None, *found)


class _SumRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Function,
        chunks: Sequence[Chunk],
        features: Tensor,
        *shared: Optional[Tensor],
    ) -> Tensor:
        _remember(ctx, function, chunks, features, shared)
        total: Optional[Tensor] = None
        for images, others in chunks:
            part = function(features[images, :, others], *shared)
            total = part if total is None else total + part
        assert total is not None
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return (None, None, *_backward(ctx, lambda images, others: gradient))


def _remember(
    ctx: Any,
    function: Function,
    chunks: Sequence[Chunk],
    features: Tensor,
    shared: Sequence[Optional[Tensor]],
) -> None:
    ctx.function, ctx.chunks = function, chunks
    ctx.save_for_backward(features, *shared)
    device = features.device.type
    ctx.autocast = None
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        ctx.autocast = {"device_type": device, "dtype": torch.get_autocast_dtype(device)}


def _backward(ctx: Any, gradient_of: Callable[[slice, slice], Tensor]) -> List[Optional[Tensor]]:
    """Gradients of the features and of what is shared; None where none is needed."""
    features, *shared = ctx.saved_tensors
    needs_features, *needs = ctx.needs_input_grad[-1 - len(shared) :]
    leaves = [
        None if tensor is None else tensor.detach().requires_grad_(needed)
        for tensor, needed in zip(shared, needs)
    ]
    gradient = torch.empty_like(features) if needs_features else None
    for images, others in ctx.chunks:
        part = features[images, :, others].detach().requires_grad_(needs_features)
        autocast = torch.autocast(**ctx.autocast) if ctx.autocast else nullcontext()
        with torch.enable_grad(), autocast:
            output = ctx.function(part, *leaves)
        torch.autograd.backward(output, gradient_of(images, others).to(output.dtype))
        if gradient is not None:
            gradient[images, :, others] = part.grad
    return [gradient] + [None if leaf is None else leaf.grad for leaf in leaves]
