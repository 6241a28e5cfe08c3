"""
The named residual networks: a row is a stem and a list of stages.

Reference: DeepLab2's ``axial_resnet_instances``; REFERENCE for the channels: ResNet
(arXiv:1512.03385), Wide-ResNet-38 (arXiv:1611.10080), SWideRNet (arXiv:2011.11675).
"""

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

from ..layers import StageSpec


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
        drop_path_beyond_stride: see :class:`StageOptions`.
        attention_expansion: see :class:`StageOptions`.
        checkpointed_kinds: see :class:`StageOptions`.
    """

    stem: str
    stages: Tuple[StageSpec, ...]
    stem_channels: int = 64
    has_wide_first_stage: bool = False
    drop_path_beyond_stride: int = 16
    attention_expansion: int = 2
    checkpointed_kinds: Tuple[str, ...] = ()


def _resnet(num_blocks: Sequence[int], kind: str = "bottleneck") -> Tuple[StageSpec, ...]:
    strides = (2, 4, 8, 16)
    return tuple(StageSpec(kind, 32 * s, n, input_stride=s) for s, n in zip(strides, num_blocks))


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
)

RESIDUAL_NETWORKS: Dict[str, ResidualNetworkSpec] = {
    "resnet50": ResidualNetworkSpec("conv7x7", _resnet((3, 4, 6, 3))),
    "resnet50_beta": ResidualNetworkSpec("inception", _resnet((3, 4, 6, 3))),
    "resnet101": ResidualNetworkSpec("conv7x7", _resnet((3, 4, 23, 3))),
    "resnet101_beta": ResidualNetworkSpec("inception", _resnet((3, 4, 23, 3))),
    "wide_resnet41": _WIDE_RESNET,
    "swidernet": _WIDE_RESNET,
    # For demonstrations and tests on a CPU: 0.7 million parameters, not in DeepLab2.
    "resnet_tiny": ResidualNetworkSpec(
        "conv3x3",
        (
            StageSpec("basic", 8, 1, input_stride=2),
            StageSpec("basic", 16, 1, input_stride=4),
            StageSpec("basic", 24, 2, input_stride=8),
            StageSpec("basic", 32, 1, input_stride=16),
        ),
        stem_channels=16,
    ),
}
