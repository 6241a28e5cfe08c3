"""Opening images, photos and label maps, with errors that name the file."""

import contextlib
import functools
import os
import struct
import zlib
from typing import Iterator, List, Tuple

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

# Of names of photos.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# What PIL raises for files that are cut short, damaged, of no image format, or too large.
_BROKEN = (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
# Modes of 16 bits, and of 32: in files of the latter nothing tells which value is white.
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_THIRTY_TWO_BITS = ("I", "F")
# The part of EXIF that says how a stored photo is turned, and what makes it upright.
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = (5, 6, 7, 8)
# Modes of one channel whose values are integers: 1, 8, 16 and 32 bits, and places in a palette.
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


class BrokenImageError(ValueError):
    """A file that is no image, is cut short or damaged, or has more pixels than are read."""


def list_image_names(folder: str) -> List[str]:
    """The names of a folder's images, sorted; hidden files (macOS' ``._photo.jpg``) are none."""
    names = sorted(os.listdir(folder))
    return [n for n in names if n.lower().endswith(IMAGE_ENDINGS) and not n.startswith(".")]


@contextlib.contextmanager
def naming_broken_images(file_name: str, kind: str = "image") -> Iterator[None]:
    """
    Turn what PIL raises in the block into errors that name the file.

    Args:
        file_name: of the image that the block reads.
        kind: what it is, for errors.

    Raises:
        FileNotFoundError: if there is no such file.
        BrokenImageError: if it is no image that can be read, or has more pixels than PIL allows.
    """
    if not PathManager.isfile(file_name):
        near = find_near_file(file_name)
        beside = f", but there is {near}" if near else ""
        raise FileNotFoundError(f"{kind} {file_name} does not exist{beside}")
    try:
        yield
    except _BROKEN as error:
        raise BrokenImageError(f"{kind} {file_name} cannot be read: {error}") from error
    except (ValueError, OverflowError, MemoryError) as error:
        # PIL's, or the block's own, which names the file.
        if file_name in str(error):
            raise
        raise BrokenImageError(f"{kind} {file_name} cannot be read: {error}") from error


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


@contextlib.contextmanager
def open_photo(file_name: str) -> Iterator[Image.Image]:
    """
    An opened photo, as :func:`open_image`; it is turned upright where its pixels are read.

    Raises:
        ValueError: also if its values are floats or have 32 bits.
    """
    with open_image(file_name) as image:
        # Of 16-bit gray PNGs, Pillow before release 10 makes 32 bits.
        if image.mode in _THIRTY_TWO_BITS and image.format != "PNG":
            raise ValueError(
                f"image {file_name} must have 8 or 16 bits a channel, got {image.format} of mode "
                f"{image.mode} (32 bits), of which nothing tells the value of white: convert it"
            )
        yield image


def photo_size(file_name: str) -> Tuple[int, int]:
    """(height, width) of an upright photo; see :func:`open_photo`."""
    with open_photo(file_name) as image:
        if image.format == "TIFF":
            # Pillow may turn it itself, where the pixels are read.
            image.load()
        is_swapped = _orientation(image) in _SWAPPING
        return (image.width, image.height) if is_swapped else (image.height, image.width)


def has_16_bits(file_name: str) -> bool:
    """Whether a photo is gray with 16 bits a pixel; see :func:`open_photo`."""
    with open_photo(file_name) as image:
        return image.mode in _SIXTEEN_BITS + _THIRTY_TWO_BITS


def is_photo_turned(file_name: str) -> bool:
    """Whether an upright photo is other than the stored one; see :func:`open_photo`."""
    with open_photo(file_name) as image:
        return _orientation(image) in _TURNS


def read_photo(file_name: str) -> np.ndarray:
    """
    Read a photo, upright.

    Args:
        file_name: see :func:`open_photo`, with the errors.

    Returns:
        (H, W, 3) float32 RGB, 0 to 255: values of 16 bits are divided by 257; gray is repeated.
    """
    with open_photo(file_name) as image:
        # First of all: Pillow may turn TIFFs here, and takes their orientation away then.
        image.load()
        image = turn_upright(image)
        if image.mode in _SIXTEEN_BITS + _THIRTY_TWO_BITS:
            gray = np.asarray(image).astype(np.float32) / np.float32(257)
            return np.repeat(gray[:, :, None], 3, axis=2)
        return np.asarray(image.convert("RGB")).astype(np.float32)


def turn_upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF data say that it is to be seen."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (*_BROKEN, ValueError, KeyError):
        return 1  # What cannot be read turns nothing.


def read_label_map(file_name: str, kind: str = "label map") -> np.ndarray:
    """
    Read an image of one channel that has a label in each pixel.

    Args:
        file_name: see :func:`open_image`, with the errors.
        kind: what it is, for errors.

    Returns:
        (H, W) int64: the values of a gray image, the places in the palette of a colored one;
        upright, as :func:`read_photo`.

    Raises:
        ValueError: if the image has several channels, or floats.
    """
    with open_image(file_name, kind) as image:
        image.load()
        image = turn_upright(image)
        if image.mode not in _ONE_CHANNEL:
            raise ValueError(
                f"{kind} {file_name} must have one channel of integers, got mode {image.mode}"
            )
        return np.asarray(image).astype(np.int64)
