"""Reading images and panoptic PNGs, with errors that name the file."""

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image


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
    if not PathManager.isfile(file_name):
        raise FileNotFoundError(f"image {file_name} does not exist")
    try:
        image = detection_utils.read_image(file_name, format=image_format)
    except OSError as error:
        raise ValueError(f"image {file_name} cannot be read: {error}") from error
    return image.astype(np.float32)


def read_panoptic_png(file_name: str) -> np.ndarray:
    """
    Read the segment ids of a PNG of COCO panoptic format, ``R + 256 G + 256^2 B``.

    Args:
        file_name: the PNG, by any path that Detectron2's ``PathManager`` opens.

    Returns:
        (H, W) int32; 0 is unlabeled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no RGB image.
    """
    if not PathManager.isfile(file_name):
        raise FileNotFoundError(f"panoptic PNG {file_name} does not exist")
    with PathManager.open(file_name, "rb") as f, Image.open(f) as image:
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"panoptic PNG {file_name} must be RGB, got mode {image.mode}")
        colors = np.asarray(image.convert("RGB"))
    ids = colors[..., 2].astype(np.int32)
    ids <<= 8
    ids |= colors[..., 1]
    ids <<= 8
    ids |= colors[..., 0]
    return ids


def read_depth_png(file_name: str) -> np.ndarray:
    """
    Read a PNG of depths.

    Args:
        file_name: the PNG, by any path that Detectron2's ``PathManager`` opens.

    Returns:
        (H, W) int32, meters times 256; 0 is unknown.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has several channels.
    """
    if not PathManager.isfile(file_name):
        raise FileNotFoundError(f"depth PNG {file_name} does not exist")
    with PathManager.open(file_name, "rb") as f, Image.open(f) as image:
        depth = np.asarray(image)
    if depth.ndim != 2:
        raise ValueError(f"depth PNG {file_name} must have one channel, got {image.mode}")
    return depth.astype(np.int32)
