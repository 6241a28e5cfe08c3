"""The assignment of pixels to cluster centers, a step of k-means."""

import torch.nn.functional as F
from torch import Tensor, nn


class PixelAssignment(nn.Module):
    """
    To which of K centers each pixel belongs.

    Reference: k-means Mask Transformer (arXiv:2207.04044), Eq. 7. A module, so that hooks see what
    it returns.
    """

    def forward(self, mask_logits: Tensor, values: Tensor) -> Tensor:
        """
        Args:
            mask_logits: (N, K, h, w); a pixel belongs to the center of its largest, of equal ones
                to the first.
            values: of the dtype that the result is to have.

        Returns:
            (N, h * w, K) of 0 and 1, without gradient.
        """
        owners = mask_logits.detach().flatten(2).argmax(dim=1)
        return F.one_hot(owners, mask_logits.shape[1]).to(values.dtype)
