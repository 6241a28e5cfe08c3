"""Reading images, panoptic PNGs and maps of depths, with errors that name the file."""

import numpy as np
from detectron2.data import detection_utils

from ..structures import naming_broken_images, read_label_map, read_panoptic_png

__all__ = ["read_depth_png", "read_image", "read_panoptic_png"]


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """
    Read an image.

    Args:
        file_name: by any path that Detectron2's ``PathManager`` opens.
        image_format: "RGB", "BGR", ... of ``detection_utils.read_image``.

    Returns:
        (H, W, 3) float32, 0 to 255.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that can be read.
    """
    with naming_broken_images(file_name):
        image = detection_utils.read_image(file_name, format=image_format)
    return image.astype(np.float32)


def read_depth_png(file_name: str) -> np.ndarray:
    """
    Read a PNG of depths.

    Args:
        file_name: the PNG, by any path that Detectron2's ``PathManager`` opens.

    Returns:
        (H, W) int32, meters times 256; 0 is unknown.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image, or has several channels.
    """
    return read_label_map(file_name, "depth PNG").astype(np.int32)
