"""A stage: blocks in a row, the first of which may have a stride."""

from dataclasses import dataclass
from math import log2
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from .attention_spec import AttentionSpec
from .block import SAC_KINDS, BlockSpec, GeneralBlock
from .checkpointing import checkpointed
from .drop_path import drop_path_keep_prob
from .dual_path_transformer import DualPathSpec, DualPathTransformerLayer
from .norm import Norm
from .position_encoding import AbsolutePositionEncoding


@dataclass(frozen=True)
class StageSpec:
    """
    A stage as data: what a row of the table of backbones is made of.

    Attributes:
        kind: a key of ``STAGE_KINDS``. Blocks that :class:`StageOptions` gives attention have none
            of its convolutions.
        width: base number of channels f; a stage returns 4 f.
        num_blocks: how many.
        input_stride: stride of its input in the undilated network.
        stride: 1 or 2, of the undilated network.
    """

    kind: str
    width: int
    num_blocks: int
    input_stride: int
    stride: int = 2


CHECKPOINTED_KINDS = ("basic", "bottleneck", "axial", "global", "transformer")


@dataclass(frozen=True)
class StageOptions:
    """
    What the stages of a network share.

    Attributes:
        output_stride: beyond this stride, atrous rates replace strides; a power of 2.
        activation: see :class:`Activation`.
        use_squeeze_and_excite: in every block.
        sac_beyond_stride: switchable atrous convolutions in stages whose undilated output stride is
            at least this; 0 or less for none.
        drop_path_keep_prob: see :func:`drop_path_keep_prob`.
        drop_path_schedule: "constant" or "linear".
        drop_path_beyond_stride: no drop path in blocks of a smaller undilated input stride.
        axial_beyond_stride: blocks whose undilated input stride is at least this are axial
            attention; 0 or less for none.
        global_beyond_stride: the same for global attention, which comes before axial.
        position_encoding: "none", "1D" or "2D" absolute positions, which are added where a stage
            arrives at ``global_beyond_stride``.
        image_size: (height, width) of the images that these are made for.
        attention: of both kinds.
        attention_expansion: first 1x1 convolution of an attention block, over the width.
        checkpointed_kinds: kinds of blocks whose inner values are computed again in backward;
            "transformer" names the dual-path layers.
    """

    output_stride: int = 32
    activation: str = "relu"
    use_squeeze_and_excite: bool = False
    sac_beyond_stride: int = -1
    drop_path_keep_prob: float = 1.0
    drop_path_schedule: str = "constant"
    drop_path_beyond_stride: int = 16
    axial_beyond_stride: int = -1
    global_beyond_stride: int = -1
    position_encoding: str = "none"
    image_size: Tuple[int, int] = (0, 0)
    attention: AttentionSpec = AttentionSpec()
    attention_expansion: float = 2.0
    checkpointed_kinds: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.output_stride < 1 or self.output_stride & (self.output_stride - 1):
            raise ValueError(f"output_stride must be a power of 2, got {self.output_stride}")
        unknown = [kind for kind in self.checkpointed_kinds if kind not in CHECKPOINTED_KINDS]
        if unknown:
            raise ValueError(f"checkpointed_kinds must be of {CHECKPOINTED_KINDS}, got {unknown}")
        if self.position_encoding != "none" and min(self.image_size) < 1:
            raise ValueError(
                f"image_size must be positive for position encodings, got {self.image_size}"
            )

    def attention_channels(self, width: int) -> int:
        """What the first 1x1 convolution of an attention block returns."""
        return int(round(width * self.attention_expansion))

    def stride_of(self, undilated_stride: int) -> int:
        """The stride that a feature has in the dilated network."""
        return min(undilated_stride, self.output_stride)


# Kind of a stage: kind of its blocks, and their channels for the width f.
STAGE_KINDS: Dict[str, Tuple[str, Callable[[int, StageOptions], Tuple[int, ...]]]] = {
    "basic": ("basic", lambda f, options: (4 * f, 4 * f)),
    "bottleneck": ("bottleneck", lambda f, options: (f, f, 4 * f)),
    "wide_bottleneck": ("bottleneck", lambda f, options: (f, 2 * f, 4 * f)),
    "axial": ("axial", lambda f, options: (options.attention_channels(f), f, 4 * f)),
    "global": ("global", lambda f, options: (options.attention_channels(f), f, 4 * f)),
}


def plan_blocks(stage: StageSpec, options: StageOptions) -> List[BlockSpec]:
    """
    The blocks of a stage at an output stride.

    Where the stride is beyond ``output_stride`` it becomes a rate. The first block still has the
    rate of its input (and its second convolution the new one), so that the dense network computes
    the strided network's values at every pixel that the latter has.
    """
    output_stride = stage.input_stride * stage.stride
    blocks = []
    for index in range(stage.num_blocks):
        is_first = index == 0
        current_stride = stage.input_stride if is_first else output_stride
        block_kind, channels = STAGE_KINDS[_kind(stage, current_stride, options)]
        blocks.append(
            BlockSpec(
                kind=block_kind,
                channels=channels(stage.width, options),
                stride=stage.stride if is_first and current_stride < options.output_stride else 1,
                atrous_rate=max(1, current_stride // options.output_stride),
                second_atrous_rate=max(1, output_stride // options.output_stride),
                activation=options.activation,
                use_sac=(
                    block_kind in SAC_KINDS and output_stride >= options.sac_beyond_stride > 0
                ),
                use_squeeze_and_excite=options.use_squeeze_and_excite,
                attention=options.attention.of_kind(block_kind),
                drop_path_keep_prob=_keep_prob(current_stride, options),
                use_checkpoint=block_kind in options.checkpointed_kinds,
            )
        )
    return blocks


def _kind(stage: StageSpec, current_stride: int, options: StageOptions) -> str:
    if stage.kind not in STAGE_KINDS:
        raise ValueError(f"stage kind must be one of {sorted(STAGE_KINDS)}, got {stage.kind!r}")
    if current_stride >= options.global_beyond_stride > 0:
        return "global"
    if current_stride >= options.axial_beyond_stride > 0:
        return "axial"
    return stage.kind


def _keep_prob(current_stride: int, options: StageOptions) -> float:
    if current_stride < options.drop_path_beyond_stride:
        return 1.0
    return drop_path_keep_prob(
        options.drop_path_keep_prob,
        options.drop_path_schedule,
        stage=int(round(log2(current_stride) - 1)),
    )


class Stage(nn.Module):
    """
    Blocks ``block1``, ``block2``, ... one after the other.

    With a memory path, each is followed by a dual-path transformer layer, ``block1_transformer``
    and so on.
    """

    def __init__(
        self,
        in_channels: int,
        blocks: Sequence[BlockSpec],
        *,
        norm: Norm,
        transformer: Optional[DualPathSpec] = None,
        memory_channels: int = 0,
        checkpoint_transformer: bool = False,
        position_encoding: str = "none",
        position_encoding_size: Tuple[int, int] = (0, 0),
    ):
        """
        Args:
            transformer: the layers between the pixel and the memory path; None for no exchange.
            memory_channels: of the memory path, where there is an exchange.
            checkpoint_transformer: compute its inner values again in backward.
            position_encoding: "1D" or "2D" adds learned positions after the first block.
            position_encoding_size: (height, width) of the stage's output that they are made for.
        """
        super().__init__()
        self.num_blocks = len(blocks)
        self.has_transformer = transformer is not None
        self.checkpoint_transformer = checkpoint_transformer
        for index, spec in enumerate(blocks, start=1):
            self.add_module(f"block{index}", GeneralBlock(in_channels, spec, norm=norm))
            in_channels = spec.channels[-1]
            if transformer is not None:
                layer = DualPathTransformerLayer(
                    in_channels,
                    memory_channels,
                    transformer,
                    norm=norm,
                    drop_path_keep_prob=spec.drop_path_keep_prob,
                )
                self.add_module(f"block{index}_transformer", layer)
        self.out_channels = in_channels
        self.add_absolute_positional_encoding = None
        if position_encoding != "none":
            self.add_absolute_positional_encoding = AbsolutePositionEncoding(
                blocks[0].channels[-1],
                kind=position_encoding,
                size=position_encoding_size,
                norm=norm,
            )

    def forward(
        self, features: Tensor, memory: Optional[Tensor] = None
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """
        Args:
            features: (N, in_channels, h, w), not activated.
            memory: (N, memory_channels, M), where there is a memory path.

        Returns:
            (N, out_channels, h', w'), not activated, and the memory.
        """
        for index in range(1, self.num_blocks + 1):
            features = getattr(self, f"block{index}")(features)
            if index == 1 and self.add_absolute_positional_encoding is not None:
                features = self.add_absolute_positional_encoding(features)
            if self.has_transformer:
                layer = getattr(self, f"block{index}_transformer")
                if self.checkpoint_transformer and self.training:
                    features, memory = checkpointed(layer, layer, features, memory)
                else:
                    features, memory = layer(features, memory)
        return features, memory
