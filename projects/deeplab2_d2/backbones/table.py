"""
The named residual networks: a row is a stem and a list of stages.

Reference: DeepLab2's ``axial_resnet_instances``. The papers: ResNet (arXiv:1512.03385),
Wide-ResNet (arXiv:1611.10080), SWideRNet (arXiv:2011.11675), Axial-DeepLab (arXiv:2003.07853),
MaX-DeepLab (arXiv:2012.00759).
"""

from dataclasses import dataclass, replace
from typing import Dict, Optional, Sequence, Tuple

from ..layers import AttentionSpec, StageSpec


@dataclass(frozen=True)
class MemoryPathSpec:
    """
    The memory path of MaX-DeepLab as data.

    Attributes:
        channels: of the memory.
        transformer_beyond_stride: stages whose undilated output stride is at least this exchange
            with the memory.
        base_expansion: width of the transformer layers at stride 16, over 128; in proportion to
            the stride elsewhere.
        feature_channels: of the class and the mask features at the end.
        num_slots: mask slots that are used, N.
        max_num_slots: slots that the learned memory has.
        num_heads, feed_forward_channels: see :class:`DualPathSpec`.
        use_memory_self_attention, use_pixel_feedback, attention_activation: see the same.
    """

    channels: int = 256
    transformer_beyond_stride: int = 32
    base_expansion: float = 1.0
    feature_channels: int = 256
    num_slots: int = 128
    max_num_slots: int = 128
    num_heads: int = 8
    feed_forward_channels: int = 2048
    use_memory_self_attention: bool = True
    use_pixel_feedback: bool = True
    attention_activation: str = "softmax"


@dataclass(frozen=True)
class StackedDecoderSpec:
    """
    MaX-DeepLab's decoder stacks inside the backbone, as data.

    A stack goes up from the output stride to stride 4, and down again.

    Attributes:
        kinds: of the convolutional blocks, by undilated stride; see ``STAGE_KINDS``. The blocks at
            the output stride are those of stride 32.
        channels_per_stride: output channels of its stages, over their undilated stride.
        num_backbone_stacks: stacks that belong to the pretrained backbone, one block a stage.
        num_extra_stacks: stacks after that. The last way up to stride 4 comes after them all.
        num_extra_blocks: blocks of a stage after the backbone.
    """

    kinds: Tuple[Tuple[int, str], ...]
    num_backbone_stacks: int = 0
    num_extra_stacks: int = 0
    num_extra_blocks: int = 1
    channels_per_stride: int = 64


@dataclass(frozen=True)
class ResidualNetworkSpec:
    """
    A residual network as data.

    Attributes:
        stem: "conv7x7" or "conv3x3" (one convolution), or "inception" (three 3x3), with stride 2.
        stages: in order; the last is called ``stage5``. The width of a stage is the row's times
            the width multiplier.
        stem_channels: of the stem, times the stem's width multiplier ("inception": twice that).
        has_wide_first_stage: the first stage has stride 1 and its width follows the stem's
            multiplier, its number of blocks none (SWideRNet).
        width: factor on the widths of all stages but a wide first one.
        drop_path_beyond_stride: see :class:`StageOptions`.
        axial_beyond_stride: see :class:`StageOptions`.
        attention: see :class:`StageOptions`.
        attention_expansion: see :class:`StageOptions`.
        checkpointed_kinds: see :class:`StageOptions`. DeepLab2 checkpoints axial blocks, too; the
            lean form of attention does so inside them.
        decoder: decoder stacks, if there are any.
        memory: the memory path, if there is one.
        is_panoptic: with the layers after the backbone, up to ``feature_panoptic``.
    """

    stem: str
    stages: Tuple[StageSpec, ...]
    stem_channels: int = 64
    has_wide_first_stage: bool = False
    width: float = 1.0
    drop_path_beyond_stride: int = 16
    axial_beyond_stride: int = -1
    attention: AttentionSpec = AttentionSpec()
    attention_expansion: float = 2.0
    checkpointed_kinds: Tuple[str, ...] = ()
    decoder: Optional[StackedDecoderSpec] = None
    memory: Optional[MemoryPathSpec] = None
    is_panoptic: bool = False


_INPUT_STRIDES = (2, 4, 8, 16)


def _resnet(num_blocks: Sequence[int] = (3, 4, 6, 3)) -> Tuple[StageSpec, ...]:
    return tuple(
        StageSpec("bottleneck", 32 * stride, repeats, input_stride=stride)
        for stride, repeats in zip(_INPUT_STRIDES, num_blocks)
    )


_RESNET50 = ResidualNetworkSpec("conv7x7", _resnet())
# Attention in every block.
_AXIAL_RESNET = replace(_RESNET50, axial_beyond_stride=2)
_WIDE_RESNET = ResidualNetworkSpec(
    stem="conv3x3",
    stages=(
        StageSpec("basic", 32, 3, input_stride=2, stride=1),
        StageSpec("basic", 64, 3, input_stride=2),
        StageSpec("basic", 128, 6, input_stride=4),
        StageSpec("basic", 256, 3, input_stride=8),
        StageSpec("wide_bottleneck", 512, 3, input_stride=16),
    ),
    has_wide_first_stage=True,
    drop_path_beyond_stride=4,
    # Where there is attention.
    attention=AttentionSpec(key_expansion=2.0, value_expansion=4.0),
    attention_expansion=4.0,
    checkpointed_kinds=("basic", "bottleneck"),
)
_AXIAL_WIDE_RESNET = replace(_WIDE_RESNET, axial_beyond_stride=16)
_MAX_S_BACKBONE = replace(_RESNET50, stem="inception", axial_beyond_stride=16)
_MAX_S = replace(
    _MAX_S_BACKBONE,
    decoder=StackedDecoderSpec(
        kinds=((4, "bottleneck"), (8, "bottleneck"), (16, "bottleneck"), (32, "bottleneck"))
    ),
    memory=MemoryPathSpec(),
    is_panoptic=True,
)
_WIDE_DECODER = StackedDecoderSpec(
    kinds=((4, "basic"), (8, "basic"), (16, "basic"), (32, "wide_bottleneck")),
    num_extra_blocks=3,
)
_WIDE_MEMORY = MemoryPathSpec(
    channels=512, transformer_beyond_stride=16, base_expansion=2.0, feature_channels=512
)
_MAX_L_BACKBONE = replace(
    _AXIAL_WIDE_RESNET,
    checkpointed_kinds=(),
    decoder=replace(_WIDE_DECODER, num_backbone_stacks=1, num_extra_stacks=1),
)
_MAX_L = replace(_MAX_L_BACKBONE, memory=_WIDE_MEMORY, is_panoptic=True)

_RESNET_TINY = ResidualNetworkSpec(
    "conv3x3",
    (
        StageSpec("basic", 8, 1, input_stride=2),
        StageSpec("basic", 16, 1, input_stride=4),
        StageSpec("basic", 24, 2, input_stride=8),
        StageSpec("basic", 32, 1, input_stride=16),
    ),
    stem_channels=16,
)

RESIDUAL_NETWORKS: Dict[str, ResidualNetworkSpec] = {
    "resnet50": _RESNET50,
    "resnet50_beta": replace(_RESNET50, stem="inception"),
    # The 101-layer networks are not in DeepLab2.
    "resnet101": replace(_RESNET50, stages=_resnet((3, 4, 23, 3))),
    "resnet101_beta": replace(_RESNET50, stages=_resnet((3, 4, 23, 3)), stem="inception"),
    "wide_resnet41": _WIDE_RESNET,
    "swidernet": _WIDE_RESNET,
    # The small ones are half as wide; in DeepLab2 the config has to say so.
    "axial_resnet_s": replace(_AXIAL_RESNET, width=0.5),
    "axial_resnet_l": _AXIAL_RESNET,
    "axial_deeplab_s": replace(_AXIAL_RESNET, stem="inception", width=0.5),
    "axial_deeplab_l": replace(_AXIAL_RESNET, stem="inception"),
    "axial_swidernet": _AXIAL_WIDE_RESNET,
    "max_deeplab_s_backbone": _MAX_S_BACKBONE,
    "max_deeplab_l_backbone": _MAX_L_BACKBONE,
    "max_deeplab_s": _MAX_S,
    "max_deeplab_l": _MAX_L,
    # The network of the paper's ablations (MaX-DeepLab, Sec. 4.2), not in DeepLab2.
    "max_deeplab_wide_resnet41": replace(
        _WIDE_RESNET, decoder=_WIDE_DECODER, memory=_WIDE_MEMORY, is_panoptic=True
    ),
    # For demonstrations and tests on a CPU, not in DeepLab2: 0.7 million parameters, ...
    "resnet_tiny": _RESNET_TINY,
    # ... and 1.2 million, with all of MaX-DeepLab-S's parts.
    "max_deeplab_tiny": replace(
        _RESNET_TINY,
        stages=_RESNET_TINY.stages[:3] + (StageSpec("bottleneck", 32, 1, input_stride=16),),
        axial_beyond_stride=16,
        decoder=StackedDecoderSpec(
            kinds=((4, "basic"), (8, "basic"), (16, "bottleneck"), (32, "bottleneck")),
            channels_per_stride=8,
        ),
        memory=MemoryPathSpec(
            channels=128,
            base_expansion=0.5,
            feature_channels=128,
            num_slots=32,
            max_num_slots=32,
            feed_forward_channels=256,
        ),
        is_panoptic=True,
    ),
}
