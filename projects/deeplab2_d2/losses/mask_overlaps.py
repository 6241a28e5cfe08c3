"""What matching and losses need to know of the predicted masks, from one pass over the pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .mask_targets import MaskTargets
from .pixel_chunks import exponentials, full_precision, one_hot, pixel_chunks


@dataclass(frozen=True)
class MaskOverlaps:
    """
    Sums of the masks' probabilities (softmax over K slots), float32 or float64.

    Attributes:
        overlap: (N, G, K) over the pixels of each ground truth mask.
        crowd_area: (N, K) over labeled pixels without a mask.
        void_area: (N, K) over void pixels.
        partition: (N, 2, P) of the slots' logits at each pixel, see :func:`measure_partition`.
    """

    overlap: Tensor
    crowd_area: Tensor
    void_area: Tensor
    partition: Tensor

    @property
    def largest(self) -> Tensor:
        """(N, P) the largest logit of each pixel."""
        return self.partition[:, 0]

    @property
    def mask_area(self) -> Tensor:
        """(N, K) over pixels with a mask."""
        return self.overlap.sum(1)


@torch.no_grad()
def measure_overlaps(mask_logits: Tensor, targets: MaskTargets) -> MaskOverlaps:
    """
    Args:
        mask_logits: (N, K, P) float; float16 and bfloat16 are computed in float32.
        targets: G masks over the P pixels.
    """
    num_masks = targets.classes.shape[1]
    # Two more rows take the pixels without a mask.
    other = torch.where(targets.is_labeled, num_masks, num_masks + 1)
    rows = torch.where(targets.mask_ids >= 0, targets.mask_ids, other)
    dtype = full_precision(mask_logits.dtype)
    partition = mask_logits.new_empty((len(rows), 2, rows.shape[1]), dtype=dtype)
    sums = partition.new_zeros(len(rows), num_masks + 2, mask_logits.shape[1])
    with torch.autocast(mask_logits.device.type, enabled=False):
        for chunk in pixel_chunks(mask_logits, other_channels=num_masks + 2):
            values, total = exponentials(mask_logits[:, :, chunk], partition[:, :, chunk])
            values /= total[:, None]
            sums.baddbmm_(one_hot(rows[:, chunk], num_masks + 2, dtype), values.transpose(1, 2))
    return MaskOverlaps(
        overlap=sums[:, :num_masks],
        crowd_area=sums[:, num_masks],
        void_area=sums[:, num_masks + 1],
        partition=partition,
    )
