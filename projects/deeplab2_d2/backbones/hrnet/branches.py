"""Branches of several resolutions side by side, and their fusion."""

from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import Activation, BlockSpec, ConvNormAct, GeneralBlock, Norm
from ..xception import XceptionModule, XceptionModuleSpec
from .table import BRANCH_STRIDES, BranchStageSpec

# How a branch is brought to a larger size. Detail is lost between them: HRNet's ImageNet weights
# were trained with "nearest", its segmentation models go on with bilinear resizing, of which
# corners are aligned or not.
FUSIONS: Dict[str, Dict[str, Any]] = {
    "aligned": {"mode": "bilinear", "align_corners": True},
    "unaligned": {"mode": "bilinear", "align_corners": False},
    "nearest": {"mode": "nearest"},
}


def enlarge(features: Tensor, size: Tuple[int, int], fusion: str) -> Tensor:
    """
    Resize (N, C, h, w) to (N, C, \\*size).

    Args:
        fusion: a key of ``FUSIONS``.
    """
    if tuple(features.shape[-2:]) == size:
        return features
    return F.interpolate(features, size=size, **FUSIONS[fusion])


def _basic_block(channels: int, atrous_rate: int, norm: Norm) -> nn.Module:
    spec = BlockSpec(
        "basic",
        (channels, channels),
        atrous_rate=atrous_rate,
        second_atrous_rate=atrous_rate,
    )
    return GeneralBlock(channels, spec, norm=norm)


class _XceptionBlock(XceptionModule):
    """Three separable convolutions, added to their input."""

    def __init__(self, channels: int, atrous_rate: int, norm: Norm):
        spec = XceptionModuleSpec("", (channels,) * 3, stride=1, shortcut="sum")
        super().__init__(channels, spec, stride=1, atrous_rates=(atrous_rate,) * 3, norm=norm)

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(features)[1]


# Kind of the branches' blocks: (channels, atrous rate, norm) to a block, of which neither input nor
# output need be activated.
BRANCH_BLOCKS: Dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "basic": _basic_block,
    "xception": _XceptionBlock,
}


class Step:
    """
    From a branch to the next, at an output stride.

    Where the stride would leave the output stride behind, the convolution has none, and the rate of
    the branch it reads.
    """

    def __init__(self, source: int, output_stride: int):
        """
        Args:
            source: index of the branch that is read.
            output_stride: of the network.
        """
        stride = BRANCH_STRIDES[source]
        self.stride = 2 if stride < output_stride else 1
        self.atrous_rate = rate_of(source, output_stride)

    def convolution(
        self, in_channels: int, out_channels: int, norm: Norm, activation: str
    ) -> ConvNormAct:
        """The 3x3 convolution of the step."""
        return ConvNormAct(
            in_channels,
            out_channels,
            3,
            stride=self.stride,
            atrous_rate=self.atrous_rate,
            norm=norm,
            activation=activation,
        )


def rate_of(branch: int, output_stride: int) -> int:
    """The atrous rate in a branch."""
    return max(1, BRANCH_STRIDES[branch] // output_stride)


class BranchModule(nn.Module):
    """
    Blocks in every branch, then each branch becomes the sum of all.

    Reference: arXiv:1908.07919, Sec. 3.1 and 3.2.
    """

    def __init__(
        self,
        spec: BranchStageSpec,
        *,
        block: str,
        output_stride: int,
        fusion: str,
        norm: Norm,
    ):
        """
        Args:
            spec: of the stage.
            block: a key of ``BRANCH_BLOCKS``.
            fusion: a key of ``FUSIONS``.
        """
        super().__init__()
        self.fusion = fusion
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    BRANCH_BLOCKS[block](channels, rate_of(index, output_stride), norm)
                    for _ in range(num_blocks)
                )
            )
            for index, (channels, num_blocks) in enumerate(zip(spec.channels, spec.num_blocks))
        )
        self.fusions = nn.ModuleList(
            nn.ModuleList(
                _fusion_layer(source, target, spec.channels, output_stride, norm)
                for source in range(len(spec.channels))
            )
            for target in range(len(spec.channels))
        )
        self.activation = Activation("relu")

    def forward(self, features: Sequence[Tensor]) -> List[Tensor]:
        """Activated features of each branch, (N, C, h, w), to the same of the same shapes."""
        branched = [
            self.activation(branch(feature)) for branch, feature in zip(self.branches, features)
        ]
        fused: List[Tensor] = []
        rows: Iterable[Any] = self.fusions
        for own, row in zip(branched, rows):
            size = (own.shape[-2], own.shape[-1])
            terms = [
                enlarge(layer(feature), size, self.fusion) for layer, feature in zip(row, branched)
            ]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            fused.append(self.activation(total))
        return fused


def _fusion_layer(
    source: int, target: int, channels: Sequence[int], output_stride: int, norm: Norm
) -> nn.Module:
    """
    What a branch goes through on its way to another.

    To a finer one a 1x1 convolution (before it is enlarged), to a coarser one a strided convolution
    a step, of which the last has the new channels and no activation.
    """
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(ConvNormAct(channels[source], channels[target], 1, norm=norm))
    convolutions = []
    for index in range(source, target):
        is_last = index == target - 1
        convolutions.append(
            Step(index, output_stride).convolution(
                channels[source],
                channels[target] if is_last else channels[source],
                norm,
                "none" if is_last else "relu",
            )
        )
    return nn.Sequential(*convolutions)
