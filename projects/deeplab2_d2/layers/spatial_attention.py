"""Multi-head self-attention over the pixels of a map or of its windows."""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .axis_parts import split_axis

_STD = 0.02


class HeadProjection(nn.Module):
    """
    A dense layer between channels and heads, its weight as DeepLab2 keeps it.

    Attributes:
        weight: (*input, *output), of which either is (heads, channels of a head).
        bias: of the output's shape.
    """

    def __init__(self, input_shape: Tuple[int, ...], output_shape: Tuple[int, ...]):
        super().__init__()
        self.num_input_dims = len(input_shape)
        self.weight = nn.Parameter(torch.empty(*input_shape, *output_shape))
        self.bias = nn.Parameter(torch.zeros(output_shape))
        nn.init.normal_(self.weight, std=_STD)

    def forward(self, values: Tensor) -> Tensor:
        """(N, L, *input) to (N, L, output), the heads side by side."""
        weight = self.weight.flatten(self.num_input_dims).flatten(0, self.num_input_dims - 1)
        rows = values.reshape(-1, weight.shape[0])
        return split_axis(torch.addmm(self.bias.flatten(), rows, weight), 0, values.shape[:2])


class SpatialAttention(nn.Module):
    """
    Self-attention with learned biases of relative positions, one a head.

    Reference: MOAT (arXiv:2210.01820), Sec. 3; DeepLab2's ``moat_attention``. The table of biases
    is made for a window of some size and resized for others.
    """

    def __init__(self, channels: int, *, head_channels: int, position_size: Optional[int] = None):
        """
        Args:
            channels: of input and output.
            head_channels: of a head; divides ``channels``.
            position_size: height and width of the window that the biases are learned for; None
                for no positions.

        Raises:
            ValueError: if the heads do not divide the channels.
        """
        super().__init__()
        if channels % head_channels:
            raise ValueError(
                f"channels of attention must be a multiple of {head_channels} a head, "
                f"got {channels}"
            )
        self.num_heads = channels // head_channels
        heads = (self.num_heads, head_channels)
        self.q_proj = HeadProjection((channels,), heads)
        self.k_proj = HeadProjection((channels,), heads)
        self.v_proj = HeadProjection((channels,), heads)
        self.o_proj = HeadProjection(heads, (channels,))
        self.relative_position_embedding: Optional[nn.Parameter] = None
        if position_size is not None:
            side = 2 * position_size - 1
            self.relative_position_embedding = nn.Parameter(torch.empty(self.num_heads, side, side))
            nn.init.normal_(self.relative_position_embedding, std=_STD)

    def forward(self, windows: Tensor, is_inside: Optional[Tensor] = None) -> Tensor:
        """
        Args:
            windows: (N, h, w, channels).
            is_inside: (N, h * w) bool, pixels that are attended to; None: all of them.

        Returns:
            (N, h, w, channels).
        """
        height, width = windows.shape[1:3]
        sequence = windows.flatten(1, 2)
        query, key, value = (
            split_axis(projection(sequence), 2, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = self._position_biases(height, width)
        mask = None if bias is None else bias.to(query.dtype)
        if is_inside is not None:
            outside = torch.zeros_like(is_inside, dtype=query.dtype)
            outside = outside.masked_fill(~is_inside, float("-inf"))[:, None, None]
            mask = outside if mask is None else mask + outside
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.o_proj(found.transpose(1, 2)).view_as(windows)

    def _position_biases(self, height: int, width: int) -> Optional[Tensor]:
        """(heads, h * w, h * w): what each pixel adds to its similarity with each other one."""
        if self.relative_position_embedding is None:
            return None
        table = F.interpolate(
            self.relative_position_embedding[None],
            size=(2 * height - 1, 2 * width - 1),
            mode="bilinear",
            align_corners=False,
        )[0]
        rows = _relative_positions(height, table.device)[:, None, :, None]
        columns = _relative_positions(width, table.device)[None, :, None, :]
        return table[:, rows, columns].flatten(3, 4).flatten(1, 2)


def _relative_positions(length: int, device: torch.device) -> Tensor:
    """(length, length): where the distance from a query to a key stands in the table."""
    position = torch.arange(length, device=device)
    return position[None, :] - position[:, None] + length - 1
