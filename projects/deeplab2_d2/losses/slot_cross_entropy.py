"""Per-pixel cross-entropy over mask slots or classes, a part of the pixels at a time."""

from typing import Any, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .pixel_chunks import (
    add_at,
    cross_entropy,
    measure_partition,
    pixel_chunks,
    softmax,
    without_autocast,
)

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
