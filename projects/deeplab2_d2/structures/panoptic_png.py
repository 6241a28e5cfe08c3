"""
PNGs of COCO's panoptic format: the id of a pixel's segment is its color.

``id = R + 256 G + 256^2 B``, and 0 is void. The format has no gray images and no palettes: whether
their values are ids, only another format can say.
"""

import io
from typing import Optional

import numpy as np
from PIL import Image, PngImagePlugin

from .atomic import atomic_path
from .image_files import open_image

# Ids are below.
NUM_PANOPTIC_IDS = 256**3


def colors_to_ids(colors: np.ndarray) -> np.ndarray:
    """
    Args:
        colors: (..., 3) uint8 RGB.

    Returns:
        (...) int32 segment ids.
    """
    ids = colors[..., 2].astype(np.int32)
    ids <<= 8
    ids |= colors[..., 1]
    ids <<= 8
    ids |= colors[..., 0]
    return ids


def ids_to_colors(ids: np.ndarray, source: str = "panoptic map") -> np.ndarray:
    """
    Args:
        ids: (...) integer segment ids, 0 to 256^3 - 1.
        source: named in errors.

    Returns:
        (..., 3) uint8 RGB.

    Raises:
        TypeError: if ids are no integers.
        ValueError: if an id has no color; void is 0 here, never negative.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"{source}: segment ids must be integers, got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= NUM_PANOPTIC_IDS):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"{source}: segment ids must be in [0, 256^3), got {wrong}")
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def read_panoptic_png(file_name: str) -> np.ndarray:
    """
    Read the segment ids of a panoptic PNG.

    Args:
        file_name: the PNG, by any path that Detectron2's ``PathManager`` opens. Of RGBA, the alpha
            is left out.

    Returns:
        (H, W) int32; 0 is unlabeled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or is not RGB: the ids of a gray PNG or one with a palette
            would be others than meant.
    """
    with open_image(file_name, "panoptic PNG") as image:
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(
                f"panoptic PNG {file_name} must be RGB, R + 256 G + 256^2 B in each pixel, "
                f"got mode {image.mode}"
            )
        if image.mode == "RGBA":
            image = image.convert("RGB")
        pixels = image.tobytes("raw", "RGBX")
        size = image.size
    # Four bytes a pixel, of which the last is no color, are one number already.
    return np.frombuffer(pixels, np.dtype("<i4")).reshape(size[::-1]) & (NUM_PANOPTIC_IDS - 1)


def encode_panoptic_png(
    ids: np.ndarray, source: str = "panoptic map", *, software: Optional[str] = None
) -> bytes:
    """
    The bytes of a panoptic PNG.

    Args:
        ids: (H, W) integer segment ids.
        source: named in errors, those of :func:`ids_to_colors`.
        software: who wrote it, kept as text in the PNG.
    """
    information = PngImagePlugin.PngInfo()
    if software is not None:
        information.add_text("Software", software)
    with io.BytesIO() as file:
        Image.fromarray(ids_to_colors(ids, source)).save(file, format="PNG", pnginfo=information)
        return file.getvalue()


def write_panoptic_png(path: str, ids: np.ndarray, *, software: Optional[str] = None) -> None:
    """
    Write a panoptic PNG, whole or not at all.

    Args:
        path: the file. Its folder is made.
        ids, software: see :func:`encode_panoptic_png`, with the errors.
    """
    content = encode_panoptic_png(ids, path, software=software)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
