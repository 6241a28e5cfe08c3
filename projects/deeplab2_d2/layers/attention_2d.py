"""Attention of feature maps: along the height and then the width, or of all pixels."""

from typing import Any, Dict

from torch import Tensor, nn

from .attention_spec import AttentionSpec
from .axial_attention import AxialAttention
from .norm import Norm


class AxialAttention2d(nn.Module):
    """Attention along the height, then along the width, each followed by its stride."""

    def __init__(
        self, in_channels: int, *, width: int, spec: AttentionSpec, norm: Norm, stride: int = 1
    ):
        """
        Args:
            width: base number of channels, see :class:`AttentionSpec`.
        """
        super().__init__()
        self.stride = stride
        self.out_channels = spec.value_channels(width)
        options: Dict[str, Any] = {
            "key_depth": spec.key_channels(width),
            "value_depth": self.out_channels,
            "spec": spec,
            "norm": norm,
        }
        self.height_axis = AxialAttention(in_channels, **options)
        self.width_axis = AxialAttention(self.out_channels, **options)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        features = self.height_axis(features)[:, :, :: self.stride]
        features = self.width_axis(features.transpose(2, 3))[:, :, :: self.stride]
        return features.transpose(2, 3)


class GlobalAttention2d(nn.Module):
    """Every pixel attends to every pixel, by content alone."""

    def __init__(
        self, in_channels: int, *, width: int, spec: AttentionSpec, norm: Norm, stride: int = 1
    ):
        """
        Args:
            width: base number of channels, see :class:`AttentionSpec`.
            spec: its relative encodings and span are not used.
        """
        super().__init__()
        spec = spec.of_kind("global")
        self.stride = stride
        self.out_channels = spec.value_channels(width)
        self.num_layers = spec.num_global_layers
        for index in range(self.num_layers):
            layer = AxialAttention(
                in_channels,
                key_depth=spec.key_channels(width),
                value_depth=self.out_channels,
                spec=spec,
                norm=norm,
            )
            self.add_module(self._name(index), layer)
            in_channels = self.out_channels

    @staticmethod
    def _name(index: int) -> str:
        # DeepLab2's names, but torch.export cannot take a keyword of Python.
        return f"global{index + 1}" if index else "global_"

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        pixels = features.flatten(2)[..., None]
        for index in range(self.num_layers):
            pixels = getattr(self, self._name(index))(pixels)
        pixels = pixels.view(features.shape[0], -1, *features.shape[-2:])
        return pixels[:, :, :: self.stride, :: self.stride]
