"""HRNet (arXiv:1908.07919) and its variants of Panoptic-DeepLab (arXiv:1911.10194), Sec. A."""

from . import config
from .network import HighResolutionNetwork
from .table import HIGH_RESOLUTION_NETWORKS, BranchStageSpec, HighResolutionSpec

__all__ = [
    "BranchStageSpec",
    "HIGH_RESOLUTION_NETWORKS",
    "HighResolutionNetwork",
    "HighResolutionSpec",
    "config",
]
