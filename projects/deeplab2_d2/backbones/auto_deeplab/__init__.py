"""Auto-DeepLab (arXiv:1901.02985): a searched path over resolutions, of one searched cell."""

from . import config
from .genotype import AUTO_DEEPLAB_NETWORKS, AutoDeepLabSpec, Genotype
from .network import AutoDeepLabNetwork

__all__ = [
    "AUTO_DEEPLAB_NETWORKS",
    "AutoDeepLabNetwork",
    "AutoDeepLabSpec",
    "Genotype",
    "config",
]
