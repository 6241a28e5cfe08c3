"""Opening images and label maps, with errors that name the file."""

import contextlib
import functools
import os
import struct
import zlib
from typing import Iterator, Tuple

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
        near = find_near_file(file_name)
        beside = f", but there is {near}" if near else ""
        raise FileNotFoundError(f"{kind} {file_name} does not exist{beside}")
    try:
        yield
    except _BROKEN as error:
        raise ValueError(f"{kind} {file_name} cannot be read: {error}") from error


def find_near_file(file_name: str, root: str = "") -> str:
    """
    The file that was probably meant by a path to nowhere.

    Args:
        file_name: the path. It may be of another machine, with its folders and backslashes, or have
            another ending than the file.
        root: a folder where the file may be, beside the path's own.

    Returns:
        a path, or "" where there is nothing like it.
    """
    normal = file_name.replace("\\", "/")
    stem = os.path.splitext(os.path.basename(normal))[0].casefold()
    for folder in (os.path.dirname(normal), os.path.dirname(file_name), root):
        for name in _names_in(folder or "."):
            if os.path.splitext(name)[0].casefold() == stem:
                return os.path.join(folder, name)
    return ""


@functools.lru_cache(maxsize=4)
def _names_in(folder: str) -> Tuple[str, ...]:
    """Of the files of a folder, sorted; kept, as there may be many to look for in it."""
    try:
        return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_file()))
    except OSError:
        return ()


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
