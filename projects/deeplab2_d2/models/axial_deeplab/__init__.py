"""Axial-DeepLab (arXiv:2003.07853): Panoptic-DeepLab's record serves it, too."""

from .network import DeepLab2AxialDeepLab

__all__ = ["DeepLab2AxialDeepLab"]
