"""
Softmax over channels (mask slots, classes) at each pixel, some pixels at a time.

What is made in between stays small: losses keep maps of one channel for the backward pass, which
computes the softmax anew.
"""

import functools
from typing import Any, Callable, Iterator, Tuple, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Backward = TypeVar("Backward", bound=Callable[..., Any])

# Elements of one temporary tensor: 2 MiB in float32.
_CHUNK_ELEMENTS = 1 << 19


def pixel_chunks(maps: Tensor, other_channels: int = 0) -> Iterator[slice]:
    """
    Slices of the last axis, in order.

    Args:
        maps: (N, C, P).
        other_channels: of a second map that is made beside each chunk.
    """
    num_images, num_channels, num_pixels = maps.shape
    channels = max(num_channels, other_channels, 1)
    width = max(_CHUNK_ELEMENTS // (max(num_images, 1) * channels), 1)
    for start in range(0, num_pixels, width):
        yield slice(start, min(start + width, num_pixels))


def one_hot(ids: Tensor, num_ids: int, dtype: torch.dtype) -> Tensor:
    """(N, P) integers as (N, num_ids, P) of 0 and 1; a column of 0 where they are negative."""
    places = torch.arange(num_ids, device=ids.device)[:, None]
    return (ids[:, None] == places).to(dtype)


def add_at(maps: Tensor, channels: Tensor, values: Tensor) -> None:
    """
    Add to one channel of each pixel, in place.

    Args:
        maps: (N, C, P).
        channels: (N, P) int64 in [0, C).
        values: (N, P).
    """
    # A pixel has one place: nothing is added to it twice, in no order.
    maps.scatter_add_(1, channels[:, None], values[:, None])


def measure_partition(logits: Tensor) -> Tensor:
    """
    ``logsumexp`` over the channels, in two parts, so that small losses are exact.

    Args:
        logits: (N, C, P) float, C at least 1.

    Returns:
        (N, 2, P): the largest logit, and what ``logsumexp`` exceeds it by. In float32 (float64 for
        float64).
    """
    num_images, _, num_pixels = logits.shape
    partition = logits.new_empty((num_images, 2, num_pixels), dtype=full_precision(logits.dtype))
    for chunk in pixel_chunks(logits):
        exponentials(logits[:, :, chunk], partition[:, :, chunk])
    return partition


def exponentials(logits: Tensor, partition: Tensor) -> Tuple[Tensor, Tensor]:
    """
    ``exp(logits - largest)`` (N, C, P) and its sum over the channels (N, P), of the partition's
    dtype.

    Fills the partition, see :func:`measure_partition`.
    """
    logits = logits.to(partition.dtype)
    largest = logits.amax(1)
    values = (logits - largest[:, None]).exp_()
    total = values.sum(1)
    partition[:, 0], partition[:, 1] = largest, total.log()
    return values, total


def softmax(logits: Tensor, partition: Tensor) -> Tensor:
    """(N, C, P) softmax over the channels."""
    values = logits.to(partition.dtype) - partition[:, :1]
    return values.sub_(partition[:, 1:]).exp_()


def cross_entropy(partition: Tensor, chosen: Tensor) -> Tensor:
    """(N, P) cross-entropy where the logits (N, P) are those of the right channels."""
    return (partition[:, 0] - chosen) + partition[:, 1]


def without_autocast(backward: Backward) -> Backward:
    """Decorator of a Function's backward, which autocast would give lower precision."""

    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Tensor) -> Any:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return backward(ctx, *gradients)

    return cast(Backward, run)


def full_precision(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


# The logit of a slot that does not exist.
ABSENT_LOGIT = -99999.0


class _SlotCrossEntropy(torch.autograd.Function):
    """Keeps logits and two maps for the backward pass, not the (N, K, P) log-probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, slots: Tensor, has_mask: Tensor) -> Tensor:
        partition = measure_partition(logits)
        ctx.save_for_backward(logits, slots, partition)
        return loss_of_slots(logits, partition, slots, has_mask)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Tensor, None, None]:
        logits, slots, partition = ctx.saved_tensors
        (gradient,) = gradients
        chosen = torch.where(slots >= 0, -gradient, 0.0)
        slots = slots.clamp(min=0)
        result = torch.empty_like(logits)
        for chunk in pixel_chunks(logits):
            part = softmax(logits[:, :, chunk], partition[:, :, chunk]).mul_(
                gradient[:, None, chunk]
            )
            add_at(part, slots[:, chunk], chosen[:, chunk])
            result[:, :, chunk] = part
        return result, None, None


def loss_of_slots(logits: Tensor, partition: Tensor, slots: Tensor, has_mask: Tensor) -> Tensor:
    """(N, P) losses, of :func:`slot_cross_entropy`, from the logits' partition."""
    chosen = logits.gather(1, slots.clamp(min=0)[:, None])[:, 0].to(partition.dtype)
    chosen = torch.where(slots >= 0, chosen, ABSENT_LOGIT)
    return torch.where(has_mask, cross_entropy(partition, chosen), 0.0)


def slot_cross_entropy(logits: Tensor, slots: Tensor, has_mask: Tensor) -> Tensor:
    """
    Cross-entropy of the slots' softmax at each pixel.

    Reference: the mask-ID loss of MaX-DeepLab (arXiv:2012.00759), Sec. 3.4. As in DeepLab2, a pixel
    without a mask has loss 0 but the gradient of one without a label (``softmax``), and the mask
    of a pixel may have no slot: its loss is that of a logit of -99999.

    Args:
        logits: (N, K, P) float; float16 and bfloat16 are computed in float32.
        slots: (N, P) int64, the slot of each pixel's mask; -1 = none.
        has_mask: (N, P) bool; where False, ``slots`` must be -1.

    Returns:
        (N, P) float32, or float64 for float64.
    """
    return _SlotCrossEntropy.apply(logits, slots, has_mask)
