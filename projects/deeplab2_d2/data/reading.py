"""Reading images, with errors that name the file."""

import numpy as np

from ..structures import read_panoptic_png, read_photo

# The reader of the annotation, too, for scripts that look for it here.
__all__ = ["read_image", "read_image_bytes", "read_panoptic_png"]


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """
    Read an image as everything here does: upright, as its EXIF data tell.

    Args:
        file_name: by any path that Detectron2's ``PathManager`` opens.
        image_format: "RGB" or "BGR".

    Returns:
        (H, W, 3) float32, 0 to 255. Values of 16 bits are divided by 257, alpha is left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that can be read, or has floats or 32 bits a channel.
    """
    if image_format not in ("RGB", "BGR"):
        raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
    image = read_photo(file_name)
    return image if image_format == "RGB" else np.ascontiguousarray(image[:, :, ::-1])


def read_image_bytes(file_name: str, image_format: str) -> np.ndarray:
    """As :func:`read_image`, (H, W, 3) uint8, for transforms that take no floats."""
    return np.rint(read_image(file_name, image_format)).astype(np.uint8)
