"""Depth on disk: PNGs of 16 bits, as Cityscapes-DVPS and SemKITTI-DVPS have them."""

import numpy as np

from .image_files import read_label_map

# A PNG holds meters times this; 0 is unknown.
UNITS_PER_METER = 256


def read_depth_png(file_name: str) -> np.ndarray:
    """
    The numbers of a depth PNG.

    Args:
        file_name: by any path that Detectron2's ``PathManager`` opens.

    Returns:
        (H, W) int32, meters times ``UNITS_PER_METER``; 0 is unknown.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image, or has several channels.
    """
    return read_label_map(file_name, "depth PNG").astype(np.int32)


def read_depth(file_name: str) -> np.ndarray:
    """(H, W) float32 meters of a depth PNG, 0 unknown; as :func:`read_depth_png`."""
    return read_depth_png(file_name).astype(np.float32) / np.float32(UNITS_PER_METER)
