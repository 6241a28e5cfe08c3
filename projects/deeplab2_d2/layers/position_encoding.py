"""Learned position encodings: relative, for axial attention, and absolute, for global attention."""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initialization import truncated_normal_
from .norm import Norm
from .resizing import resize_align_corners

# Longest sequence whose relative positions all have an encoding of their own, as in DeepLab2: one
# table serves all lengths, so that weights can be carried from one image size to another.
MAX_SPAN = 255

_ABSOLUTE_STD = 0.2
ABSOLUTE_KINDS = ("1D", "2D")


class RelativePositionEncoding(nn.Module):
    """
    A vector for every relative position ``key - query``; heads share them.

    Reference: Axial-DeepLab (arXiv:2003.07853), Sec. 3.2.

    Attributes:
        is_embedding: its weight is no kernel, and never decays.
    """

    is_embedding = True

    def __init__(self, depth: int, *, std: float = 1.0):
        """
        Args:
            depth: length of a vector.
            std: standard deviation of the initial values.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * MAX_SPAN - 1, depth))
        truncated_normal_(self.weight, std=std)

    def forward(self, query_length: int, key_length: Optional[int] = None) -> Tensor:
        """
        Args:
            query_length: L.
            key_length: M, default L. Queries stand in the middle of longer keys, so ``M - L`` is
                even.

        Returns:
            (L, M, depth). Up to ``MAX_SPAN`` the table is sliced. Where a relative position would
            be beyond it, the table is stretched to the positions there are (linearly), where
            DeepLab2 gives all that are beyond the last vector.

        Raises:
            ValueError: if ``M - L`` is odd.
        """
        key_length = query_length if key_length is None else key_length
        if (key_length - query_length) % 2:
            raise ValueError(
                f"key_length - query_length must be even, got {key_length - query_length}"
            )
        flange = (key_length - query_length) // 2
        reach = query_length + flange - 1
        table = self.table(reach)
        keys = torch.arange(key_length, device=table.device)
        queries = torch.arange(query_length, device=table.device)
        return table[keys[None, :] - queries[:, None] - flange + reach]

    def table(self, reach: int) -> Tensor:
        """(2 * reach + 1, depth), the vectors of the relative positions from -reach to reach."""
        if reach >= MAX_SPAN:
            stretched = F.interpolate(
                self.weight.t()[None], size=2 * reach + 1, mode="linear", align_corners=True
            )
            return stretched[0].t()
        center = MAX_SPAN - 1
        return self.weight[center - reach : center + reach + 1]


class AbsolutePositionEncoding(nn.Module):
    """
    Add a learned vector for every position, after batch norm.

    "2D" has one for every pixel. "1D" has two for every row; as in DeepLab2 the second, which is
    named after the width, is added along the height, too.
    """

    def __init__(self, channels: int, *, kind: str, size: Tuple[int, int], norm: Norm):
        """
        Args:
            kind: "1D" or "2D".
            size: (height, width) of the features that the encodings are made for; for others
                they are resized.

        Raises:
            ValueError: for another kind.
        """
        super().__init__()
        if kind not in ABSOLUTE_KINDS:
            raise ValueError(
                f"position encoding kind must be one of {ABSOLUTE_KINDS}, got {kind!r}"
            )
        self.kind = kind
        height, width = size
        if kind == "2D":
            self.embeddings = _embeddings(channels, height, width)
            self.batch_norm = norm.build_batch_norm(channels)
        else:
            self.height_axis_embeddings = _embeddings(channels, height, 1)
            self.height_axis_batch_norm = norm.build_batch_norm(channels)
            self.width_axis_embeddings = _embeddings(channels, height, 1)
            self.width_axis_batch_norm = norm.build_batch_norm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        height, width = features.shape[-2:]
        if self.kind == "2D":
            encoding = self.batch_norm(self.embeddings)
            return features + resize_align_corners(encoding, (height, width))
        rows = self.height_axis_batch_norm(self.height_axis_embeddings)
        rows = rows + self.width_axis_batch_norm(self.width_axis_embeddings)
        return features + resize_align_corners(rows, (height, 1))


def _embeddings(channels: int, height: int, width: int) -> nn.Parameter:
    values = torch.empty(1, channels, height, width)
    truncated_normal_(values, std=_ABSOLUTE_STD)
    return nn.Parameter(values)
