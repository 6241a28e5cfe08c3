"""Reading images, with errors that name the file."""

import numpy as np
from detectron2.data import detection_utils

from ..structures import naming_broken_images


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
