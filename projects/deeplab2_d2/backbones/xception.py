"""
Xception (arXiv:1610.02357) as DeepLab changed it (arXiv:1802.02611, Sec. 3.2) for dense prediction.

Every maximum pooling is a separable convolution with a stride, and every depthwise convolution has
a norm of its own. Xception-41 has half the middle flow of Xception-65; Xception-71 has two more
modules in its entry flow.
"""

from dataclasses import dataclass, replace
from typing import Dict, Sequence, Tuple

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import ConvNormAct, Norm, SeparableConvNormAct
from .endpoints import EndpointBackbone
from .family import BackboneFamily, SharedOptions, register_family
from .mobile_network import make_divisible

_DIVISOR = 8
# Of the middle flow bowenc0221's Panoptic-DeepLab reads the output, where DeepLab v3+ has res4.
_MIDDLE = "middle_flow"
_OUT_FEATURES = ("res2", "res3", _MIDDLE, "res4", "res5")


@dataclass(frozen=True)
class XceptionModuleSpec:
    """
    A module of Xception as data.

    Attributes:
        name: of the module, after its flow and a dot.
        channels: of its three separable convolutions.
        stride: of the third of them.
        shortcut: "conv" (1x1, of the input), "sum" (the input) or "none".
        endpoint: name of the output of the second convolution, which has not yet the stride.
        has_late_activation: ReLU after every norm; else one before each separable convolution.
    """

    name: str
    channels: Tuple[int, int, int]
    stride: int
    shortcut: str = "conv"
    endpoint: str = ""
    has_late_activation: bool = False


def _network(
    entry: Sequence[Tuple[int, int, str]], num_middle: int
) -> Tuple[XceptionModuleSpec, ...]:
    flow = [
        XceptionModuleSpec(
            f"entry_flow.block{number}", (channels, channels, channels), stride, "conv", endpoint
        )
        for number, (channels, stride, endpoint) in enumerate(entry, start=1)
    ]
    flow += [
        XceptionModuleSpec(f"middle_flow.block{number}", (728, 728, 728), 1, "sum")
        for number in range(1, num_middle + 1)
    ]
    flow.append(XceptionModuleSpec("exit_flow.block1", (728, 1024, 1024), 2, "conv", "res4"))
    last = XceptionModuleSpec(
        "exit_flow.block2", (1536, 1536, 2048), 1, "none", has_late_activation=True
    )
    return (*flow, last)


_ENTRY = ((128, 2, ""), (256, 2, "res2"), (728, 2, "res3"))
_LONG_ENTRY = ((128, 2, ""), (256, 1, ""), (256, 2, "res2"), (728, 1, ""), (728, 2, "res3"))

XCEPTION_NETWORKS: Dict[str, Tuple[XceptionModuleSpec, ...]] = {
    "xception_41": _network(_ENTRY, 8),
    "xception_65": _network(_ENTRY, 16),
    "xception_71": _network(_LONG_ENTRY, 16),
}


class XceptionModule(nn.Module):
    """Three separable convolutions, and what is added to them."""

    def __init__(
        self,
        in_channels: int,
        spec: XceptionModuleSpec,
        *,
        stride: int,
        atrous_rates: Sequence[int],
        norm: Norm,
    ):
        """
        Args:
            spec: its channels are already those of this network.
            stride: of this network, instead of the row's.
            atrous_rates: of the three depthwise convolutions.
        """
        super().__init__()
        self.shortcut_kind = spec.shortcut
        self.has_late_activation = spec.has_late_activation
        channels = (in_channels, *spec.channels)
        for index, rate in enumerate(atrous_rates):
            conv = SeparableConvNormAct(
                channels[index],
                channels[index + 1],
                3,
                stride=stride if index == 2 else 1,
                atrous_rate=rate,
                norm=norm,
                activation="relu" if spec.has_late_activation else "none",
            )
            self.add_module(f"separable_conv{index + 1}", conv)
        if spec.shortcut == "conv":
            self.shortcut = ConvNormAct(in_channels, channels[-1], 1, stride=stride, norm=norm)

    def forward(self, features: Tensor) -> Tuple[Tensor, Tensor]:
        """The second separable convolution's output, without a ReLU, and the module's."""
        hidden = self._convolve(0, features)
        hidden = self._convolve(1, hidden)
        output = self._convolve(2, hidden)
        if self.shortcut_kind == "conv":
            output = output + self.shortcut(features)
        elif self.shortcut_kind == "sum":
            output = output + features
        return hidden, output

    def _convolve(self, index: int, features: Tensor) -> Tensor:
        if not self.has_late_activation:
            features = F.relu(features)
        return getattr(self, f"separable_conv{index + 1}")(features)


class XceptionNetwork(EndpointBackbone):
    """
    Xception up to its last module; endpoints ``res2`` ... ``res5`` and ``middle_flow``.

    ``res2`` to ``res4`` are inside modules, before the stride and before a ReLU, where DeepLab v3+
    takes its low-level features; ``res5`` is the output, after a ReLU. ``middle_flow`` is that
    flow's output, before a ReLU.
    """

    def __init__(
        self,
        *,
        specs: Sequence[XceptionModuleSpec],
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        width_multiplier: float = 1.0,
        multi_grid: Sequence[int] = (1, 1, 1),
        out_features: Sequence[str] = _OUT_FEATURES,
    ):
        """
        Args:
            specs: a row of ``XCEPTION_NETWORKS``.
            in_channels: of the images (with what a video network appends to them).
            output_stride: beyond this stride, atrous rates replace strides; a multiple of 4.
            width_multiplier: factor on channels, which are then rounded to multiples of 8.
            multi_grid: factors on the atrous rates of the last module's convolutions
                (arXiv:1706.05587, Sec. 3.2.1).
            out_features: endpoints that ``forward`` returns.

        Raises:
            ValueError: for a width multiplier or a stride that is none of these.
        """
        super().__init__()
        if width_multiplier <= 0:
            raise ValueError(f"width_multiplier must be positive, got {width_multiplier}")
        if output_stride < 4 or output_stride % 4:
            raise ValueError(f"output_stride must be a multiple of 4, got {output_stride}")

        def widen(channels: int) -> int:
            return make_divisible(channels * width_multiplier, _DIVISOR)

        stem = (widen(32), widen(64))
        self.conv1_1 = ConvNormAct(in_channels, stem[0], 3, stride=2, norm=norm, activation="relu")
        self.conv1_2 = ConvNormAct(stem[0], stem[1], 3, norm=norm, activation="relu")
        self.entry_flow, self.middle_flow = nn.Module(), nn.Module()
        self.exit_flow = nn.Module()
        self._specs = tuple(specs)
        self.endpoint_shapes = {}
        channels, current_stride, rate = stem[1], 2, 1
        for spec in specs:
            widths = (widen(spec.channels[0]), widen(spec.channels[1]), widen(spec.channels[2]))
            stride, next_rate = spec.stride, rate
            if spec.endpoint:
                shape = ShapeSpec(channels=widths[1], stride=current_stride)
                self.endpoint_shapes[spec.endpoint] = shape
            if current_stride == output_stride:
                stride, next_rate = 1, rate * spec.stride
            is_last = spec is specs[-1]
            module = XceptionModule(
                channels,
                replace(spec, channels=widths),
                stride=stride,
                atrous_rates=[rate * (factor if is_last else 1) for factor in multi_grid],
                norm=norm,
            )
            flow, _, name = spec.name.partition(".")
            getattr(self, flow).add_module(name, module)
            channels, current_stride, rate = widths[-1], current_stride * stride, next_rate
            if flow == _MIDDLE:
                shape = ShapeSpec(channels=channels, stride=current_stride)
                self.endpoint_shapes[_MIDDLE] = shape
        self.endpoint_shapes["res5"] = ShapeSpec(channels=channels, stride=current_stride)
        self.set_out_features(out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features, endpoints = self.conv1_2(self.conv1_1(images)), {}
        for spec in self._specs:
            hidden, features = self.get_submodule(spec.name)(features)
            if spec.endpoint:
                endpoints[spec.endpoint] = hidden
            if spec.name.startswith(_MIDDLE):
                endpoints[_MIDDLE] = features
        endpoints["res5"] = features
        return endpoints


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # Factors on the atrous rates of the last module's three convolutions.
    node.MULTI_GRID = [1, 1, 1]


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    value = node.MULTI_GRID
    if len(value) != 3 or not all(isinstance(rate, int) and rate >= 1 for rate in value):
        raise ValueError(
            f"config key {prefix}MULTI_GRID must be three rates of at least 1, got {value!r}"
        )


def build(name: str, node: CfgNode, shared: SharedOptions) -> XceptionNetwork:
    """A network of the family."""
    return XceptionNetwork(
        specs=XCEPTION_NETWORKS[name],
        norm=shared.norm,
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        width_multiplier=shared.width_multiplier,
        multi_grid=node.MULTI_GRID,
    )


register_family(
    BackboneFamily("XCEPTION", tuple(XCEPTION_NETWORKS), add_config, check_config, build)
)
