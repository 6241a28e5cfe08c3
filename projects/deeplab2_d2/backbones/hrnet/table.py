"""The named HRNets: a row says what each stage's branches are made of."""

from dataclasses import dataclass, replace
from typing import Dict, Tuple

# Of the branches, in order.
BRANCH_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class BranchStageSpec:
    """
    A stage as data: the same modules in a row.

    Attributes:
        num_modules: each runs its branches, then fuses them.
        num_blocks: of a module's branches, from stride 4 on.
        channels: of the branches.
    """

    num_modules: int
    num_blocks: Tuple[int, ...]
    channels: Tuple[int, ...]


@dataclass(frozen=True)
class HighResolutionSpec:
    """
    A network as data.

    Attributes:
        stages: those after the first, each with one branch more than the one before.
        block: of the branches, a key of ``BRANCH_BLOCKS``.
        stem_channels: of the two strided convolutions.
        first_width, first_blocks: of the bottlenecks of the first stage, at stride 4.
        keeps_head: go on with what ImageNet's classifier stands on ("HRNet+").
    """

    stages: Tuple[BranchStageSpec, ...]
    block: str = "basic"
    stem_channels: int = 64
    first_width: int = 64
    first_blocks: int = 4
    keeps_head: bool = False


def high_resolution_spec(channels: Tuple[int, int, int, int]) -> HighResolutionSpec:
    """The paper's network (arXiv:1908.07919, Sec. 3) of four branches with these channels."""
    return HighResolutionSpec(
        tuple(
            BranchStageSpec(num_modules, (4,) * count, channels[:count])
            for count, num_modules in ((2, 1), (3, 4), (4, 3))
        )
    )


def _doubling(width: int) -> HighResolutionSpec:
    return high_resolution_spec((width, 2 * width, 4 * width, 8 * width))


HIGH_RESOLUTION_NETWORKS: Dict[str, HighResolutionSpec] = {
    **{f"hrnet_w{width}": _doubling(width) for width in (18, 32, 48)},
    **{
        f"hrnet_w{width}_plus": replace(_doubling(width), keeps_head=True) for width in (18, 32, 48)
    },
    # Panoptic-DeepLab (arXiv:1911.10194), Sec. A.3. What that leaves open is as in HRNet+.
    "hrnet_wider_plus": replace(
        high_resolution_spec((64, 256, 384, 384)), block="xception", keeps_head=True
    ),
}
