"""The block of ConvNeXt (arXiv:2201.03545, Sec. 2.6)."""

import torch
from torch import Tensor, nn

from .checkpointing import checkpointed
from .drop_path import DropPath
from .initialization import truncated_normal_, zeros_

_EPSILON = 1e-6
_INITIAL_SCALE = 1e-6
_STD = 0.02
_KERNEL_SIZE = 7


def convnext_norm(channels: int) -> nn.LayerNorm:
    """Layer norm over the last dimension."""
    return nn.LayerNorm(channels, eps=_EPSILON)


def initialise_convnext_(layer: nn.Module) -> None:
    """Weights of a convolution or a dense layer, in place."""
    truncated_normal_(layer.weight, std=_STD)  # type: ignore[arg-type]
    zeros_(layer.bias)  # type: ignore[arg-type]


class ConvNeXtBlock(nn.Module):
    """
    Depthwise 7x7 convolution, layer norm, two dense layers with GELU between them, and the input.

    (N, C, h, w) to the same, not activated. Reference: DeepLab2's ``ConvNeXtBlock``.
    """

    def __init__(
        self,
        channels: int,
        *,
        atrous_rate: int = 1,
        drop_path_keep_prob: float = 1.0,
        use_checkpoint: bool = False,
    ):
        """
        Args:
            atrous_rate: of the depthwise convolution.
            drop_path_keep_prob: probability to keep the residual of a sample in training.
            use_checkpoint: in training, compute the inner values again in backward.
        """
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.depthwise_conv = nn.Conv2d(
            channels,
            channels,
            _KERNEL_SIZE,
            padding=_KERNEL_SIZE // 2 * atrous_rate,
            dilation=atrous_rate,
            groups=channels,
        )
        self.norm = convnext_norm(channels)
        self.pointwise_conv1 = nn.Linear(channels, 4 * channels)
        self.activation = nn.GELU()
        self.pointwise_conv2 = nn.Linear(4 * channels, channels)
        self.layer_scale = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))
        self.drop_path = DropPath(drop_path_keep_prob)
        for layer in (self.depthwise_conv, self.pointwise_conv1, self.pointwise_conv2):
            initialise_convnext_(layer)

    def forward(self, features: Tensor) -> Tensor:
        if self.use_checkpoint and self.training:
            return checkpointed(self, self._forward, features)
        return self._forward(features)

    def _forward(self, features: Tensor) -> Tensor:
        residual = self.norm(self.depthwise_conv(features).movedim(1, 3))
        residual = self.pointwise_conv2(self.activation(self.pointwise_conv1(residual)))
        residual = (self.layer_scale * residual).movedim(3, 1)
        return features + self.drop_path(residual)
