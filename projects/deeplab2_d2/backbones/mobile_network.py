"""MobileNetV3 (arXiv:1905.02244) for dense prediction."""

from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Tuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import BlockSpec, ConvNormAct, GeneralBlock, Norm
from .endpoints import EndpointBackbone
from .family import BackboneFamily, SharedOptions, register_family

OUT_FEATURES = ("res2", "res3", "res4", "res5")

_DIVISOR = 8
_SE_RATIO = 0.25


@dataclass(frozen=True)
class MobileBlockSpec:
    """
    A block of MobileNetV3 as data.

    Attributes:
        kernel_size, stride, channels: of the convolution; ``channels`` of the block's output.
        activation: see :class:`Activation`.
        expansion: of the inverted bottleneck; None for a plain convolution.
        use_squeeze_and_excite: see :class:`BlockSpec`.
        is_endpoint: the next ``resN``. Of an inverted bottleneck that is the output of its
            depthwise convolution.
    """

    kernel_size: int
    stride: int
    channels: int
    activation: str
    expansion: Optional[float] = None
    use_squeeze_and_excite: bool = False
    is_endpoint: bool = False


_RELU, _SWISH = "relu", "hard_swish"

MOBILE_NETWORKS: Dict[str, Tuple[MobileBlockSpec, ...]] = {
    "mobilenet_v3_small": (
        MobileBlockSpec(3, 2, 16, _SWISH, None, False, True),
        MobileBlockSpec(3, 2, 16, _RELU, 1.0, True, True),
        MobileBlockSpec(3, 2, 24, _RELU, 72 / 16, False),
        MobileBlockSpec(3, 1, 24, _RELU, 88 / 24, False, True),
        MobileBlockSpec(5, 2, 40, _SWISH, 4.0, True),
        MobileBlockSpec(5, 1, 40, _SWISH, 6.0, True),
        MobileBlockSpec(5, 1, 40, _SWISH, 6.0, True),
        MobileBlockSpec(5, 1, 48, _SWISH, 3.0, True),
        MobileBlockSpec(5, 1, 48, _SWISH, 3.0, True, True),
        MobileBlockSpec(5, 2, 96, _SWISH, 6.0, True),
        MobileBlockSpec(5, 1, 96, _SWISH, 6.0, True),
        MobileBlockSpec(5, 1, 96, _SWISH, 6.0, True),
        MobileBlockSpec(1, 1, 576, _SWISH, None, False, True),
    ),
    "mobilenet_v3_large": (
        MobileBlockSpec(3, 2, 16, _SWISH),
        MobileBlockSpec(3, 1, 16, _RELU, 1.0, False, True),
        MobileBlockSpec(3, 2, 24, _RELU, 4.0),
        MobileBlockSpec(3, 1, 24, _RELU, 3.0, False, True),
        MobileBlockSpec(5, 2, 40, _RELU, 3.0, True),
        MobileBlockSpec(5, 1, 40, _RELU, 3.0, True),
        MobileBlockSpec(5, 1, 40, _RELU, 3.0, True, True),
        MobileBlockSpec(3, 2, 80, _SWISH, 6.0),
        MobileBlockSpec(3, 1, 80, _SWISH, 2.5),
        MobileBlockSpec(3, 1, 80, _SWISH, 2.3),
        MobileBlockSpec(3, 1, 80, _SWISH, 2.3),
        MobileBlockSpec(3, 1, 112, _SWISH, 6.0, True),
        MobileBlockSpec(3, 1, 112, _SWISH, 6.0, True, True),
        MobileBlockSpec(5, 2, 160, _SWISH, 6.0, True),
        MobileBlockSpec(5, 1, 160, _SWISH, 6.0, True),
        MobileBlockSpec(5, 1, 160, _SWISH, 6.0, True),
        MobileBlockSpec(1, 1, 960, _SWISH, None, False, True),
    ),
}


class MobileNetwork(EndpointBackbone):
    """
    MobileNetV3's blocks up to its last convolution; endpoints ``res1`` ... ``res5``.

    An endpoint inside an inverted bottleneck is the output of its depthwise convolution, which
    has the expanded channels.
    """

    def __init__(
        self,
        *,
        specs: Sequence[MobileBlockSpec],
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        width_multiplier: float = 1.0,
        reduces_last_block: bool = False,
        out_features: Sequence[str] = OUT_FEATURES,
    ):
        """
        Args:
            specs: a row of ``MOBILE_NETWORKS``.
            in_channels: of the images (with what a video network appends to them).
            output_stride: beyond this stride, atrous rates replace strides; a multiple of 4.
            width_multiplier: factor on channels, which are then rounded to multiples of 8.
            reduces_last_block: halve the channels after ``res4``, and the expansion of the first
                block there (rounded down), so that ``res5`` has half its channels; Panoptic-DeepLab
                (arXiv:1911.10194), Tab. 9. Not reachable from DeepLab2's configs.
            out_features: endpoints that ``forward`` returns.

        Raises:
            ValueError: for a width multiplier or a stride that is none of these.
        """
        super().__init__()
        if width_multiplier <= 0:
            raise ValueError(f"width_multiplier must be positive, got {width_multiplier}")
        if output_stride < 4 or output_stride % 4:
            raise ValueError(f"output_stride must be a multiple of 4, got {output_stride}")
        self.blocks = nn.ModuleList()
        self._endpoint_names: List[str] = []
        self.endpoint_shapes = {}
        current_stride, pending_rate = 1, 1
        follows_endpoint = False
        for spec in specs:
            channels = make_divisible(spec.channels * width_multiplier, _DIVISOR)
            if reduces_last_block and len(self.endpoint_shapes) == 4:
                channels //= 2
                if follows_endpoint and spec.expansion is not None:
                    spec = replace(spec, expansion=spec.expansion // 2)
            follows_endpoint = spec.is_endpoint
            if current_stride == output_stride:
                stride, rate = 1, pending_rate
                pending_rate *= spec.stride
            else:
                stride, rate = spec.stride, 1
                current_stride *= spec.stride
            block, endpoint_channels = _build_block(
                spec, in_channels, channels, stride=stride, atrous_rate=rate, norm=norm
            )
            self.blocks.append(block)
            name = f"res{len(self.endpoint_shapes) + 1}" if spec.is_endpoint else ""
            self._endpoint_names.append(name)
            if name:
                shape = ShapeSpec(channels=endpoint_channels, stride=current_stride)
                self.endpoint_shapes[name] = shape
            in_channels = channels
        self.set_out_features(out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features, endpoints = images, {}
        for block, name in zip(self.blocks, self._endpoint_names):
            if isinstance(block, GeneralBlock):
                hidden, features = block.hidden_and_output(features)
            else:
                hidden = features = block(features)
            if name:
                endpoints[name] = hidden
        return endpoints


def make_divisible(value: float, divisor: int) -> int:
    """
    The multiple of ``divisor`` nearest to ``value``, at least one, not below 0.9 ``value``.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _build_block(
    spec: MobileBlockSpec,
    in_channels: int,
    channels: int,
    *,
    stride: int,
    atrous_rate: int,
    norm: Norm,
) -> Tuple[nn.Module, int]:
    if spec.expansion is None:
        conv = ConvNormAct(
            in_channels,
            channels,
            spec.kernel_size,
            stride=stride,
            atrous_rate=atrous_rate,
            norm=norm,
            activation=spec.activation,
        )
        return conv, channels
    expanded = in_channels
    if spec.expansion > 1:
        expanded = make_divisible(in_channels * spec.expansion, _DIVISOR)
    squeezed = make_divisible(max(1, int(expanded * _SE_RATIO)), _DIVISOR)
    block = BlockSpec(
        kind="inverted",
        channels=(expanded if spec.expansion > 1 else 0, channels),
        kernel_size=spec.kernel_size,
        stride=stride,
        atrous_rate=atrous_rate,
        activation=spec.activation,
        squeezed_channels=squeezed if spec.use_squeeze_and_excite else 0,
        has_shortcut=spec.stride == 1,
    )
    return GeneralBlock(in_channels, block, norm=norm), expanded


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # Half the channels after res4 (Panoptic-DeepLab, Tab. 9).
    node.REDUCED_LAST_BLOCK = False


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    value = node.REDUCED_LAST_BLOCK
    if not isinstance(value, bool):
        raise ValueError(f"config key {prefix}REDUCED_LAST_BLOCK must be a bool, got {value!r}")


def build(name: str, node: CfgNode, shared: SharedOptions) -> MobileNetwork:
    """A network of the family."""
    return MobileNetwork(
        specs=MOBILE_NETWORKS[name],
        norm=shared.norm,
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        width_multiplier=shared.width_multiplier,
        reduces_last_block=node.REDUCED_LAST_BLOCK,
    )


register_family(
    BackboneFamily("MOBILENET_V3", tuple(MOBILE_NETWORKS), add_config, check_config, build)
)
