"""A simple feature pyramid on the one map of a plain vision transformer."""

from typing import Any, Dict, List, Sequence, Tuple

from torch import Tensor, nn

from ...layers import ChannelLayerNorm

# Of each feature: whether the map is enlarged twice, once, not at all or shrunk.
_STEPS: Dict[str, int] = {"res2": 2, "res3": 1, "res4": 0, "res5": -1}
_EPSILON = 1e-6


class SimpleFeaturePyramid(nn.Module):
    """
    Maps of strides 4, 8, 16 and 32 from one of stride 16.

    Reference: ViTDet (arXiv:2203.16527), Sec. 3: transposed convolutions (2x2, stride 2) or max
    pooling, then a 1x1 and a 3x3 convolution with layer norm each; no lateral connections.
    """

    def __init__(
        self, in_channels: int, channels: int, features: Sequence[str], output_stride: int
    ):
        """
        Args:
            in_channels: of the map.
            channels: of each feature.
            features: of res2, res3, res4, res5, in this order.
            output_stride: features of a larger stride have this one: 8, 16 or 32.
        """
        super().__init__()
        self.features = tuple(features)
        coarsest = {8: 1, 16: 0, 32: -1}[output_stride]
        for name in self.features:
            step = max(_STEPS[name], coarsest)
            layers, width = _resizing(in_channels, step)
            for kernel_size in (1, 3):
                conv = nn.Conv2d(width, channels, kernel_size, padding=kernel_size // 2, bias=False)
                layers += [conv, ChannelLayerNorm(channels, eps=_EPSILON)]
                width = channels
            self.add_module(name, nn.Sequential(*layers))

    def forward(self, features: Tensor) -> List[Tensor]:
        return [getattr(self, name)(features) for name in self.features]


def _resizing(channels: int, step: int) -> Tuple[List[nn.Module], int]:
    """Layers that enlarge by 2 ** step, and their output's channels."""
    if step < 0:
        return [nn.MaxPool2d(2, stride=2)], channels
    layers: List[nn.Module] = []
    for index in range(step):
        if index:
            layers += [ChannelLayerNorm(channels, eps=_EPSILON), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels //= 2
    return layers, channels


class PyramidBody(nn.Module):
    """A plain vision transformer and its pyramid."""

    def __init__(self, model: nn.Module, pyramid: SimpleFeaturePyramid):
        """
        Args:
            model: timm's, of which the last block's map, normalised, is taken.
            pyramid: on it.
        """
        super().__init__()
        self.model: Any = model
        self.pyramid = pyramid

    def forward(self, images: Tensor) -> List[Tensor]:
        (features,) = self.model.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return self.pyramid(features)
