"""
The blocks of MOAT (arXiv:2210.01820): mobile convolution, alone or followed by attention.

Reference: DeepLab2's ``moat_blocks``. Neither input nor output is activated.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activation import Activation
from .axis_parts import split_axis
from .checkpointing import checkpointed
from .drop_path import DropPath
from .initialization import zeros_
from .norm import Norm
from .same_padding import SameConv2d, same_average_pool
from .spatial_attention import SpatialAttention
from .squeeze_and_excite import SqueezeAndExcite

_STD = 0.02
_EXPANSION = 4
_KERNEL_SIZE = 3
_ATTENTION_EPSILON = 1e-5


@dataclass(frozen=True)
class MoatBlockSpec:
    """
    A block of MOAT as data.

    Attributes:
        channels: of the output.
        has_attention: after the convolutions; else there is squeeze-and-excite among them.
        stride: 1 or 2.
        atrous_rate: of the depthwise convolution, in pixels of its input.
        pool_size: of the shortcut's mean where there is a stride: 2, or 3, which keeps the pixels
            of all strides aligned.
        squeeze_ratio: inner channels of squeeze-and-excite over those of the output; 0 for none.
        head_channels: of the attention.
        position_size: see :class:`SpatialAttention`.
        window: (height, width) that pixels attend in; None: the whole map.
        drop_path_keep_prob: probability to keep a residual of a sample in training.
        use_checkpoint: in training, compute the attention's inner values again in backward.
    """

    channels: int
    has_attention: bool = False
    stride: int = 1
    atrous_rate: int = 1
    pool_size: int = 3
    squeeze_ratio: float = 0.25
    head_channels: int = 32
    position_size: Optional[int] = None
    window: Optional[Tuple[int, int]] = None
    drop_path_keep_prob: float = 1.0
    use_checkpoint: bool = False


def moat_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    stride: int = 1,
    atrous_rate: int = 1,
    groups: int = 1,
    use_bias: bool = True,
) -> SameConv2d:
    """A convolution with MOAT's initial weights."""
    conv = SameConv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        atrous_rate=atrous_rate,
        groups=groups,
        use_bias=use_bias,
    )
    nn.init.normal_(conv.weight, std=_STD)
    zeros_(conv.bias)
    return conv


class MoatBlock(nn.Module):
    """``x + convolutions(x)``, with attention also ``y + attention(y)`` of that."""

    def __init__(self, in_channels: int, spec: MoatBlockSpec, *, norm: Norm):
        super().__init__()
        self.spec = spec
        inner = spec.channels * _EXPANSION
        self.activation = Activation("gelu")
        self.shortcut_conv = None
        if in_channels != spec.channels:
            self.shortcut_conv = moat_conv(in_channels, spec.channels)
        self.pre_norm = norm.build(in_channels)
        self.expand_conv = moat_conv(in_channels, inner, use_bias=False)
        self.expand_norm = norm.build(inner)
        self.depthwise_conv = moat_conv(
            inner,
            inner,
            _KERNEL_SIZE,
            stride=spec.stride,
            atrous_rate=spec.atrous_rate,
            groups=inner,
            use_bias=False,
        )
        self.depthwise_norm = norm.build(inner)
        self.se = None
        if spec.squeeze_ratio and not spec.has_attention:
            squeezed = max(1, int(spec.channels * spec.squeeze_ratio))
            self.se = SqueezeAndExcite(inner, squeezed, activation="swish")
            for layer in (self.se.se_reduce, self.se.se_expand):
                nn.init.normal_(layer.weight, std=_STD)
        self.shrink_conv = moat_conv(inner, spec.channels)
        self.drop_path = DropPath(spec.drop_path_keep_prob)
        self.attention: Optional[SpatialAttention] = None
        if spec.has_attention:
            self.attention_norm = nn.LayerNorm(spec.channels, eps=_ATTENTION_EPSILON)
            self.attention = SpatialAttention(
                spec.channels,
                head_channels=spec.head_channels,
                position_size=spec.position_size,
            )

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, channels, ceil(h / stride), ceil(w / stride))."""
        residual = self.activation(self.expand_norm(self.expand_conv(self.pre_norm(features))))
        residual = self.activation(self.depthwise_norm(self.depthwise_conv(residual)))
        if self.se is not None:
            residual = self.se(residual)
        features = self._carry(features) + self.drop_path(self.shrink_conv(residual))
        if self.attention is None:
            return features
        if self.spec.use_checkpoint and self.training:
            attended = checkpointed(self, self._attend, features)
        else:
            attended = self._attend(features)
        return features + self.drop_path(attended)

    def _carry(self, features: Tensor) -> Tensor:
        if self.spec.stride > 1:
            features = same_average_pool(features, self.spec.pool_size, self.spec.stride)
        return features if self.shortcut_conv is None else self.shortcut_conv(features)

    def _attend(self, features: Tensor) -> Tensor:
        assert self.attention is not None
        pixels = self.attention_norm(features.movedim(1, 3))
        if self.spec.window is None:
            return self.attention(pixels).movedim(3, 1)
        return attend_in_windows(self.attention, pixels, self.spec.window).movedim(3, 1)


def attend_in_windows(
    attention: SpatialAttention, pixels: Tensor, window: Tuple[int, int]
) -> Tensor:
    """
    Attention inside each window of a map; the last ones are cut where the map ends.

    Args:
        pixels: (N, h, w, C).
        window: (height, width).

    Returns:
        (N, h, w, C).
    """
    height, width = pixels.shape[1:3]
    rows, columns = -(-height // window[0]), -(-width // window[1])
    bottom, right = rows * window[0] - height, columns * window[1] - width
    is_inside = None
    if bottom or right:
        inside = torch.ones(1, height, width, 1, dtype=torch.bool, device=pixels.device)
        inside = F.pad(inside, (0, 0, 0, right, 0, bottom))
        is_inside = _split(inside, window)[..., 0].flatten(1).repeat(pixels.shape[0], 1)
        pixels = F.pad(pixels, (0, 0, 0, right, 0, bottom))
    windows = attention(_split(pixels, window), is_inside)
    joined = split_axis(windows, 0, (-1, rows, columns)).transpose(2, 3)
    return joined.flatten(1, 2).flatten(2, 3)[:, :height, :width]


def _split(pixels: Tensor, window: Tuple[int, int]) -> Tensor:
    """(N, h, w, C) to (N * windows, *window, C), the windows of a map row by row."""
    split = split_axis(split_axis(pixels, 1, (-1, window[0])), 3, (-1, window[1]))
    return split.transpose(2, 3).flatten(0, 2)
