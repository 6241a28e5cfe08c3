"""What the search has found, as data."""

from dataclasses import dataclass
from typing import Dict, Tuple

# (state that is read, operation). States 0 and 1 are the cell before and the one before that, 2 is
# the sum of the first two entries, 3 that of the next two, and so on.
Genotype = Tuple[Tuple[int, str], ...]

# Reference: arXiv:1901.02985, Fig. 3; the order of the sums is the released implementation's.
CELL: Genotype = (
    (1, "atrous_5x5"),
    (0, "separable_3x3"),
    (1, "separable_3x3"),
    (0, "atrous_3x3"),
    (3, "separable_3x3"),
    (1, "separable_3x3"),
    (4, "separable_5x5"),
    (2, "separable_5x5"),
    (3, "separable_5x5"),
    (5, "atrous_5x5"),
)

# Of each cell the level: stride 4, 8, 16 or 32.
PATH = (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1)
NUM_LEVELS = 4


@dataclass(frozen=True)
class AutoDeepLabSpec:
    """
    A network as data.

    Attributes:
        filters: F, channels of an operation at stride 4, which double with the stride.
        genotype: of every cell.
        path: level of each cell.
        has_head: go on with what ImageNet's classifier stands on.
        keep_prob: of the last cell's operations at the end of a training; it falls evenly from 1
            over the cells and, in each, over the training.
        stem_channels: of the first two convolutions; the third has twice as many.
    """

    filters: int
    genotype: Genotype = CELL
    path: Tuple[int, ...] = PATH
    has_head: bool = False
    keep_prob: float = 1.0
    stem_channels: int = 64


AUTO_DEEPLAB_NETWORKS: Dict[str, AutoDeepLabSpec] = {
    "auto_deeplab_s": AutoDeepLabSpec(20),
    "auto_deeplab_m": AutoDeepLabSpec(32),
    "auto_deeplab_l": AutoDeepLabSpec(48),
    # The name in Panoptic-DeepLab (arXiv:1911.10194), Tab. 5.
    "auto_deeplab_xl": AutoDeepLabSpec(64),
}
