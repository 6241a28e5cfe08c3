"""Upsampling and weighted cross-entropy, one after the other."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor


def upsampled_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Optional[Tensor], *, ignore_label: int
) -> Tensor:
    """See `deeplab2_d2.ops.upsampled_cross_entropy`."""
    logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=True)
    losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=ignore_label)
    return losses if weights is None else losses * weights.to(losses.dtype)
