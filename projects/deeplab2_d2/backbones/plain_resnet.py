"""
ResNets (arXiv:1512.03385) as other releases of DeepLab have them.

``resnet101_caffe`` is that of DeepLab v2: the authors of ResNet put a stage's stride into the first
1x1 convolution of its first unit. The ``resnet_v1_*_beta`` of Google's release of v3+ have it in
the 3x3 convolution of a stage's last unit, so that a stage's map is computed before it shrinks.
``resnet50_torchvision`` has it in the 3x3 convolution of a stage's first unit, as torchvision and
Detectron2 (with ``STRIDE_IN_1X1 False``).
DeepLab2's own ResNets are of the residual family.
"""

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import ConvNormAct, Norm, build_max_pool
from . import vgg, xception
from .endpoints import EndpointBackbone
from .family import BackboneFamily, SharedOptions, register_family
from .mobile_network import make_divisible

_DIVISOR = 8
_OUT_FEATURES = ("res2", "res3", "res4", "res5")
_EXPANSION = 4


@dataclass(frozen=True)
class PlainResNetSpec:
    """
    A network as data.

    Attributes:
        num_units: of the four stages.
        stem: (kernel size, channels) of its convolutions; the first has stride 2.
        strides_last: a stage ends with its stride, and its endpoint is what the unit before adds
            to its shortcut; else it begins with it, and the endpoint is its output.
        strides_in_3x3: a unit's stride is there, not in its first convolution.
    """

    num_units: Tuple[int, int, int, int]
    stem: Tuple[Tuple[int, int], ...] = ((7, 64),)
    strides_last: bool = False
    strides_in_3x3: bool = False


_BETA_STEM = ((3, 64), (3, 64), (3, 128))

PLAIN_RESNETS: Dict[str, PlainResNetSpec] = {
    "resnet50_torchvision": PlainResNetSpec((3, 4, 6, 3), strides_in_3x3=True),
    "resnet101_caffe": PlainResNetSpec((3, 4, 23, 3)),
    "resnet_v1_50_beta": PlainResNetSpec(
        (3, 4, 6, 3), _BETA_STEM, strides_last=True, strides_in_3x3=True
    ),
    "resnet_v1_101_beta": PlainResNetSpec(
        (3, 4, 23, 3), _BETA_STEM, strides_last=True, strides_in_3x3=True
    ),
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, and what is added to them."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        atrous_rate: int,
        strides_in_3x3: bool,
        has_projection: bool,
        norm: Norm,
    ):
        """
        Args:
            channels: of the 3x3 convolution; the output has four times as many.
            strides_in_3x3: the stride is there, not in the first convolution.
            has_projection: the shortcut is a 1x1 convolution, not the (subsampled) input.
        """
        super().__init__()
        first, second = (1, stride) if strides_in_3x3 else (stride, 1)
        out_channels = _EXPANSION * channels
        self.conv1 = ConvNormAct(
            in_channels, channels, 1, stride=first, norm=norm, activation="relu"
        )
        self.conv2 = ConvNormAct(
            channels,
            channels,
            3,
            stride=second,
            atrous_rate=atrous_rate,
            norm=norm,
            activation="relu",
        )
        self.conv3 = ConvNormAct(channels, out_channels, 1, norm=norm)
        self.stride, self.has_projection = stride, has_projection
        if has_projection:
            self.shortcut = ConvNormAct(in_channels, out_channels, 1, stride=stride, norm=norm)

    def forward(self, features: Tensor) -> Tuple[Tensor, Tensor]:
        """What is added to the shortcut, and the output."""
        residual = self.conv3(self.conv2(self.conv1(features)))
        if self.has_projection:
            shortcut = self.shortcut(features)
        else:
            shortcut = features[:, :, :: self.stride, :: self.stride]
        return residual, F.relu(residual + shortcut)


class PlainResNet(EndpointBackbone):
    """A stem, a pool and four stages; endpoints ``res2`` to ``res5``."""

    def __init__(
        self,
        *,
        spec: PlainResNetSpec,
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        width_multiplier: float = 1.0,
        rounds_up: bool = False,
        multi_grid: Sequence[int] = (1, 1, 1),
        out_features: Sequence[str] = _OUT_FEATURES,
    ):
        """
        Args:
            spec: a row of ``PLAIN_RESNETS``.
            in_channels: of the images.
            output_stride: beyond this stride, atrous rates replace strides: from where the stride
                would have been.
            width_multiplier: factor on channels, which are then rounded to multiples of 8.
            rounds_up: see :func:`build_max_pool`.
            multi_grid: factors on the atrous rates of the last stage's units.
            out_features: endpoints that ``forward`` returns.
        """
        super().__init__()
        self._strides_last = spec.strides_last

        def widen(channels: int) -> int:
            return make_divisible(channels * width_multiplier, _DIVISOR)

        channels = in_channels
        self._stem = []
        for number, (kernel_size, stem_channels) in enumerate(spec.stem, start=1):
            conv = ConvNormAct(
                channels,
                widen(stem_channels),
                kernel_size,
                stride=2 if number == 1 else 1,
                norm=norm,
                activation="relu",
            )
            self._stem.append(f"conv1_{number}")
            self.add_module(self._stem[-1], conv)
            channels = widen(stem_channels)
        self.pool = build_max_pool(2, rounds_up=rounds_up)
        self.endpoint_shapes = {}
        current_stride, rate = 4, 1
        for number, num_units in enumerate(spec.num_units, start=2):
            width = widen(16 << number)
            wanted = 1 if number == (5 if spec.strides_last else 2) else 2
            units = nn.ModuleDict()
            for unit in range(num_units):
                stride, unit_rate = 1, rate
                if unit == (num_units - 1 if spec.strides_last else 0):
                    if current_stride < output_stride:
                        stride = wanted
                    else:
                        rate *= wanted
                        unit_rate = unit_rate if spec.strides_in_3x3 else rate
                module = Bottleneck(
                    channels,
                    width,
                    stride=stride,
                    atrous_rate=unit_rate * (multi_grid[unit] if number == 5 else 1),
                    strides_in_3x3=spec.strides_in_3x3,
                    has_projection=unit == 0,
                    norm=norm,
                )
                units[f"unit{unit + 1}"] = module
                channels, current_stride = _EXPANSION * width, current_stride * stride
                if unit == self._endpoint_unit(number, num_units):
                    shape = ShapeSpec(channels=channels, stride=current_stride)
                    self.endpoint_shapes[f"res{number}"] = shape
            self.add_module(f"block{number - 1}", units)
        self.set_out_features(out_features)

    def _endpoint_unit(self, number: int, num_units: int) -> int:
        """The unit of a stage that has the endpoint: the last before a stride at its end."""
        return max(0, num_units - 2) if self._strides_last and number < 5 else num_units - 1

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features, endpoints = images, {}
        for name in self._stem:
            features = getattr(self, name)(features)
        features = self.pool(features)
        for number in range(2, 6):
            units = getattr(self, f"block{number - 1}")
            for unit, module in enumerate(units.values()):
                residual, features = module(features)
                if unit == self._endpoint_unit(number, len(units)):
                    is_inside = self._strides_last and number < 5
                    endpoints[f"res{number}"] = residual if is_inside else features
        return endpoints


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    vgg.add_config(node)
    # Factors on the atrous rates of the last stage's three units.
    node.MULTI_GRID = [1, 1, 1]


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    vgg.check_config(node, prefix)
    xception.check_config(node, prefix)


def build(name: str, node: CfgNode, shared: SharedOptions) -> PlainResNet:
    """A network of the family."""
    return PlainResNet(
        spec=PLAIN_RESNETS[name],
        norm=shared.norm,
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        width_multiplier=shared.width_multiplier,
        rounds_up=node.CEIL_POOLING,
        multi_grid=node.MULTI_GRID,
    )


register_family(
    BackboneFamily("PLAIN_RESNET", tuple(PLAIN_RESNETS), add_config, check_config, build)
)
