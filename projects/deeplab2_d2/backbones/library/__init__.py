"""Networks of timm and torchvision under the contract of our own families."""

from . import config
from .build import build_deeplab2_timm_backbone, build_deeplab2_torchvision_backbone
from .network import LibraryBackbone
from .pyramid import SimpleFeaturePyramid

__all__ = [
    "LibraryBackbone",
    "SimpleFeaturePyramid",
    "build_deeplab2_timm_backbone",
    "build_deeplab2_torchvision_backbone",
    "config",
]
