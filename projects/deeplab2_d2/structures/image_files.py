"""Opening images and label maps, with errors that name the file."""

import contextlib
import struct
import zlib
from typing import Iterator

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

# What PIL raises for files that are cut short, damaged, of no image format, or too large.
_BROKEN = (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
# Modes of one channel whose values are integers: 1, 8, 16 and 32 bits, and places in a palette.
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@contextlib.contextmanager
def naming_broken_images(file_name: str, kind: str = "image") -> Iterator[None]:
    """
    Turn what PIL raises in the block into errors that name the file.

    Args:
        file_name: of the image that the block reads.
        kind: what it is, for errors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that can be read, or one of more pixels than PIL allows.
    """
    if not PathManager.isfile(file_name):
        raise FileNotFoundError(f"{kind} {file_name} does not exist")
    try:
        yield
    except _BROKEN as error:
        raise ValueError(f"{kind} {file_name} cannot be read: {error}") from error


@contextlib.contextmanager
def open_image(file_name: str, kind: str = "image") -> Iterator[Image.Image]:
    """
    An opened image; its pixels are read where the block asks for them.

    Args:
        file_name: by any path that Detectron2's ``PathManager`` opens.
        kind: see :func:`naming_broken_images`, with the errors.
    """
    with naming_broken_images(file_name, kind):
        with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
            yield image


def read_label_map(file_name: str, kind: str = "label map") -> np.ndarray:
    """
    Read an image of one channel that has a label in each pixel.

    Args:
        file_name: see :func:`open_image`, with the errors.
        kind: what it is, for errors.

    Returns:
        (H, W) int64: the values of a gray image, the places in the palette of a colored one.

    Raises:
        ValueError: if the image has several channels, or floats.
    """
    with open_image(file_name, kind) as image:
        if image.mode not in _ONE_CHANNEL:
            raise ValueError(
                f"{kind} {file_name} must have one channel of integers, got mode {image.mode}"
            )
        return np.asarray(image).astype(np.int64)
