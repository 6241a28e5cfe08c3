"""Per-pixel cross-entropy over mask slots."""

from typing import Any, Tuple

import torch
from torch import Tensor

# The logit of a slot that does not exist.
_ABSENT_LOGIT = -99999.0


class _SlotCrossEntropy(torch.autograd.Function):
    """Keeps logits and two maps for the backward pass, not the (N, K, P) log-probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, slots: Tensor, has_mask: Tensor) -> Tensor:
        log_partition = torch.logsumexp(logits, 1)
        chosen = logits.gather(1, slots.clamp(min=0)[:, None])[:, 0]
        chosen = torch.where(slots >= 0, chosen, _ABSENT_LOGIT)
        ctx.save_for_backward(logits, slots, log_partition)
        return torch.where(has_mask, log_partition - chosen, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Tensor, None, None]:
        logits, slots, log_partition = ctx.saved_tensors
        (gradient,) = gradients
        result = (logits - log_partition[:, None]).exp_() * gradient[:, None]
        chosen = torch.where(slots >= 0, -gradient, 0.0)[:, None]
        return result.scatter_add_(1, slots.clamp(min=0)[:, None], chosen), None, None


def slot_cross_entropy(logits: Tensor, slots: Tensor, has_mask: Tensor) -> Tensor:
    """
    Cross-entropy of the slots' softmax at each pixel.

    Reference: the mask-ID loss of MaX-DeepLab (arXiv:2012.00759), Sec. 3.4. As in DeepLab2, a pixel
    without a mask has loss 0 but the gradient of one without a label (``softmax``), and the mask
    of a pixel may have no slot: its loss is that of a logit of -99999.

    Args:
        logits: (N, K, P) float32 or float64.
        slots: (N, P) int64, the slot of each pixel's mask; -1 = none.
        has_mask: (N, P) bool; where False, ``slots`` must be -1.

    Returns:
        (N, P) float.
    """
    return _SlotCrossEntropy.apply(logits, slots, has_mask)
