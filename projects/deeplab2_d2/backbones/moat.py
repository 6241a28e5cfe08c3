"""MOAT (arXiv:2210.01820) for dense prediction: two stages of convolutions, two with attention."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import Activation, MoatBlock, MoatBlockSpec, Norm, moat_conv
from .endpoints import EndpointBackbone
from .family import PREFIX, BackboneFamily, SharedOptions, register_family

OUT_FEATURES = ("res2", "res3", "res4", "res5")

_HEAD_CHANNELS = 32
# Whether the blocks of a stage have attention, and the window that its positions are learned for.
_HAS_ATTENTION = (False, False, True, True)
_POSITION_SIZES = (None, None, 14, 7)


@dataclass(frozen=True)
class MoatSpec:
    """
    A network of MOAT as data.

    Attributes:
        stem: channels of the stem's convolutions, the first of which has stride 2.
        channels, num_blocks: of the four stages.
    """

    stem: Tuple[int, ...]
    channels: Tuple[int, ...]
    num_blocks: Tuple[int, ...]


MOATS: Dict[str, MoatSpec] = {
    "moat0": MoatSpec((64, 64), (96, 192, 384, 768), (2, 3, 7, 2)),
    "moat1": MoatSpec((64, 64), (96, 192, 384, 768), (2, 6, 14, 2)),
    "moat2": MoatSpec((128, 128), (128, 256, 512, 1024), (2, 6, 14, 2)),
    "moat3": MoatSpec((160, 160), (160, 320, 640, 1280), (2, 12, 28, 2)),
    "moat4": MoatSpec((256, 256), (256, 512, 1024, 2048), (2, 12, 28, 2)),
    "tiny_moat0": MoatSpec((32, 32), (32, 64, 128, 256), (2, 3, 7, 2)),
    "tiny_moat1": MoatSpec((40, 40), (40, 80, 160, 320), (2, 3, 7, 2)),
    "tiny_moat2": MoatSpec((56, 56), (56, 112, 224, 448), (2, 3, 7, 2)),
    "tiny_moat3": MoatSpec((80, 80), (80, 160, 320, 640), (2, 3, 7, 2)),
}


@dataclass(frozen=True)
class MoatOptions:
    """
    What the blocks of a network share.

    Attributes:
        drop_path_keep_prob: what it falls to linearly, block by block, from 1 at the first.
        pool_size: see :class:`MoatBlockSpec`.
        has_positions: learned biases of relative positions in the attention.
        windows: (height, width) of the attention in the last two stages, or None for whole maps.
        last_is_global: the last block of a stage attends to the whole map.
        use_checkpoint: see :class:`MoatBlockSpec`.
    """

    drop_path_keep_prob: float = 1.0
    pool_size: int = 3
    has_positions: bool = True
    windows: Optional[Tuple[Tuple[int, int], ...]] = None
    last_is_global: bool = False
    use_checkpoint: bool = False


class Moat(EndpointBackbone):
    """
    A stem of stride 2 and four stages.

    Endpoints are ``stage1`` (the stem) ... ``stage5``, and ``res1`` ... ``res5`` after GELU.
    """

    pooled_endpoint = "stage5"
    pooled_norm_epsilon = 1e-5

    def __init__(
        self,
        *,
        spec: MoatSpec,
        options: MoatOptions,
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        out_features: Sequence[str] = OUT_FEATURES,
    ):
        """
        Args:
            spec: a row of ``MOATS``.
            options: what the blocks share.
            in_channels: of the images.
            output_stride: beyond this stride, atrous rates replace strides; a power of 2 from 4 on.
            out_features: endpoints that ``forward`` returns.
        """
        super().__init__()
        self.activation = Activation("gelu")
        self.stem = nn.ModuleList()
        channels = in_channels
        for index, width in enumerate(spec.stem):
            if index:
                self.stem.append(norm.build(channels))
            self.stem.append(moat_conv(channels, width, 3, stride=1 if index else 2))
            channels = width
        self.endpoint_shapes = {}
        self._add_endpoint(1, channels, 2)
        self.blocks = nn.ModuleList()
        stride, rate = 2, 1
        for index in range(len(spec.channels)):
            is_strided = stride < output_stride
            blocks = _plan_stage(spec, options, index, stride=2 if is_strided else 1, rate=rate)
            stride, rate = (2 * stride, rate) if is_strided else (stride, 2 * rate)
            stage = nn.ModuleList()
            for block in blocks:
                stage.append(MoatBlock(channels, block, norm=norm))
                channels = block.channels
            self.blocks.append(stage)
            self._add_endpoint(index + 2, channels, stride)
        self.set_out_features(out_features)

    def _add_endpoint(self, number: int, channels: int, stride: int) -> None:
        for prefix in ("stage", "res"):
            self.endpoint_shapes[f"{prefix}{number}"] = ShapeSpec(channels=channels, stride=stride)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features = images
        for index, layer in enumerate(self.stem):
            is_norm = index % 2
            features = self.activation(layer(features)) if is_norm else layer(features)
        endpoints = {"stage1": features}
        for index in range(len(self.blocks)):
            stage: Any = self.blocks[index]
            for block in stage:
                features = block(features)
            endpoints[f"stage{index + 2}"] = features
        for name in list(endpoints):
            endpoints[name.replace("stage", "res")] = self.activation(endpoints[name])
        return endpoints


def _plan_stage(
    spec: MoatSpec, options: MoatOptions, stage: int, *, stride: int, rate: int
) -> List[MoatBlockSpec]:
    """The blocks of a stage whose input has an atrous rate; its stride is a rate where it is 1."""
    has_attention = _HAS_ATTENTION[stage]
    first, total = sum(spec.num_blocks[:stage]), sum(spec.num_blocks)
    window = None
    if has_attention and options.windows is not None:
        window = options.windows[stage - _HAS_ATTENTION.index(True)]
    blocks = []
    for index in range(spec.num_blocks[stage]):
        is_last = index == spec.num_blocks[stage] - 1
        dropped = (1.0 - options.drop_path_keep_prob) * (first + index) / total
        blocks.append(
            MoatBlockSpec(
                channels=spec.channels[stage],
                has_attention=has_attention,
                stride=1 if index else stride,
                atrous_rate=rate if not index or stride == 2 else 2 * rate,
                pool_size=options.pool_size,
                head_channels=_HEAD_CHANNELS,
                position_size=_POSITION_SIZES[stage] if options.has_positions else None,
                window=None if is_last and options.last_is_global else window,
                drop_path_keep_prob=1.0 - dropped,
                use_checkpoint=options.use_checkpoint,
            )
        )
    return blocks


def scale_channels(spec: MoatSpec, factor: float) -> MoatSpec:
    """The network with a factor on its channels; those of attention stay multiples of a head's."""
    if factor == 1.0:
        return spec
    channels = tuple(
        _multiple_of(width * factor, _HEAD_CHANNELS if has_attention else 1)
        for width, has_attention in zip(spec.channels, _HAS_ATTENTION)
    )
    stem = tuple(_multiple_of(width * factor, 1) for width in spec.stem)
    return MoatSpec(stem, channels, spec.num_blocks)


def _multiple_of(value: float, divisor: int) -> int:
    return max(1, int(round(value / divisor))) * divisor


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # Stochastic depth: what the probability to keep a block in training falls to, linearly from 1.
    node.DROP_PATH = 1.0
    # Learned biases of relative positions in the attention (the releases without: "no_pe").
    node.POSITIONS = True
    # Windows that pixels attend in at strides 16 and 32: [[14, 14], [7, 7]], ...; []: whole maps.
    node.WINDOWS = []
    # With windows, the last block of a stage attends to the whole map.
    node.LAST_IS_GLOBAL = False
    # Window of the mean in a shortcut with a stride: 2 as in classification, or 3, which keeps the
    # pixels of all strides aligned.
    node.POOL_SIZE = 3
    # Compute the attention's inner values again in backward, which saves memory.
    node.CHECKPOINT = False


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    if not 0.0 < node.DROP_PATH <= 1.0:
        raise ValueError(f"config key {prefix}DROP_PATH must be in (0, 1], got {node.DROP_PATH!r}")
    if node.POOL_SIZE not in (2, 3):
        raise ValueError(f"config key {prefix}POOL_SIZE must be 2 or 3, got {node.POOL_SIZE!r}")
    windows = list(node.WINDOWS)
    if windows and (len(windows) != 2 or any(len(w) != 2 or min(w) < 1 for w in windows)):
        raise ValueError(
            f"config key {prefix}WINDOWS must be [] or two (height, width) of positive numbers, "
            f"got {windows!r}"
        )
    for key in ("POSITIONS", "LAST_IS_GLOBAL", "CHECKPOINT"):
        if not isinstance(node[key], bool):
            raise ValueError(f"config key {prefix}{key} must be a bool, got {node[key]!r}")


def build(name: str, node: CfgNode, shared: SharedOptions) -> Moat:
    """
    A network of the family.

    Raises:
        ValueError: for a key that has no effect without windows.
    """
    windows = tuple((height, width) for height, width in node.WINDOWS)
    if node.LAST_IS_GLOBAL and not windows:
        raise ValueError(
            f"config key {PREFIX}{_NODE}.LAST_IS_GLOBAL must be False without WINDOWS, got True"
        )
    return Moat(
        spec=scale_channels(MOATS[name], shared.width_multiplier),
        options=MoatOptions(
            drop_path_keep_prob=node.DROP_PATH,
            pool_size=node.POOL_SIZE,
            has_positions=node.POSITIONS,
            windows=windows or None,
            last_is_global=node.LAST_IS_GLOBAL,
            use_checkpoint=node.CHECKPOINT,
        ),
        norm=shared.norm,
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
    )


_NODE = "MOAT"

register_family(
    BackboneFamily(_NODE, tuple(MOATS), add_config, check_config, build, {"POOL_SIZE": 2})
)
