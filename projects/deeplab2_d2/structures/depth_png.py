"""Depth on disk: PNGs of 16 bits, as Cityscapes-DVPS and SemKITTI-DVPS have them."""

import numpy as np
from PIL import Image

from .atomic import atomic_path
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


def depth_units(depth: np.ndarray) -> np.ndarray:
    """
    Predicted depth as the numbers of a depth PNG.

    Args:
        depth: (H, W) float, meters.

    Returns:
        (H, W) uint16, meters times ``UNITS_PER_METER``, from 1 to 65535: no prediction is unknown.
    """
    return np.clip(np.rint(depth * UNITS_PER_METER), 1, 65535).astype(np.uint16)


def write_depth_png(path: str, depth: np.ndarray) -> None:
    """Write predicted depth, whole or not at all; see :func:`depth_units`."""
    with atomic_path(path) as temporary:
        Image.fromarray(depth_units(depth)).save(temporary, format="PNG")
