"""Masks of instances in files: which there are of an image, and what is inside of one."""

import logging
import os
from typing import Any, List, Sequence, Tuple

import numpy as np

from ..structures import mask_fault, open_image, turn_upright

logger = logging.getLogger(__name__)

_CROWD = "_crowd"
# What may lie beside masks: notes, and what file managers leave.
_NOTES = (".txt", ".md", ".json", ".csv", ".xml", ".yaml", ".yml", ".db", ".ini")


def masks_in(folder: str) -> List[str]:
    """
    The masks of an image.

    Args:
        folder: of PNGs; need not be there.

    Returns:
        their paths, in the order of their names.

    Raises:
        ValueError: if something else is in the folder: it would not be read.
    """
    names = _names_in(folder)
    for name in names:
        if not name.lower().endswith(".png"):
            raise ValueError(f"masks must be PNGs (a JPEG changes values), got {folder}/{name}")
    return [os.path.join(folder, name) for name in names]


def check_mask_folders(mask_root: str, stems: Sequence[str]) -> None:
    """
    Raises:
        FileNotFoundError: if ``mask_root`` has no folder of any image. What is there of no image,
            and images without a folder, are told in warnings: a folder may be misspelt.
    """
    found = _names_in(mask_root)
    if not set(found) & set(stems):
        raise FileNotFoundError(
            "masks must be in folders named as the images, but there is none, such as "
            f"{os.path.join(mask_root, stems[0])}"
        )
    for names, what in (
        (set(found) - set(stems), "masks of no image, which are not read"),
        (set(stems) - set(found), "images without a folder of masks, which have no instance"),
    ):
        if names:
            shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            logger.warning("%s: %d %s: %s", mask_root, len(names), what, shown)


def _names_in(folder: str) -> List[str]:
    """What is in a folder, if it is there, without notes."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [n for n in names if not n.startswith(".") and not n.lower().endswith(_NOTES)]


def parse_mask_name(file: str) -> Tuple[str, str, bool]:
    """Class, path, and whether it is a crowd: of ``apple.png``, ``apple_1.png``, ..."""
    stem = os.path.splitext(os.path.basename(file))[0]
    head, _, tail = stem.rpartition("_")
    name = head if tail.isdigit() and head else stem
    is_crowd = name.endswith(_CROWD)
    return (name[: -len(_CROWD)] if is_crowd else name), file, is_crowd


def read_mask(file: str) -> np.ndarray:
    """
    What is inside of a mask.

    Args:
        file: an image. Inside is what is not black; of an image with alpha, what is to be seen of
            it, or, where all is black, what is to be seen at all.

    Returns:
        (H, W) bool, upright.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or if colors say another thing than the alpha, or than the
            numbers of a palette.
    """
    with open_image(file, "mask") as image:
        image.load()
        image = turn_upright(image)
        if image.mode == "P":
            is_inside = np.asarray(image) != 0
            if not np.array_equal(is_inside, np.asarray(image.convert("RGB")).any(axis=-1)):
                raise ValueError(
                    f"mask {file} must have one color, black, outside of the instance and at "
                    "number 0 of its palette: write it as a gray PNG of 0 and 255"
                )
            return is_inside
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels != 0
    if pixels.shape[2] not in (2, 4):
        return np.any(pixels != 0, axis=-1)
    is_colored, is_seen = np.any(pixels[:, :, :-1] != 0, axis=-1), pixels[:, :, -1] != 0
    if is_seen.all() or not is_seen.any():
        return is_colored & is_seen
    if not is_colored.any():
        return is_seen
    is_inside = is_colored & is_seen
    if not is_inside.any():
        raise ValueError(
            f"mask {file} must have its instance in what is not transparent, got color only in "
            "what is: write it as a gray PNG of 0 and 255"
        )
    return is_inside


def decode_segmentation(segmentation: Any, size: Tuple[int, int]) -> np.ndarray:
    """
    A mask from any form that COCO or Detectron2 annotations have.

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]``, RLE (compressed or not), a mask, or
            the path of a PNG.
        size: (height, width) of the image.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: if polygons or RLE cannot be read, or RLE are of another size.
    """
    from pycocotools import mask as mask_util

    if isinstance(segmentation, np.ndarray):
        return segmentation.astype(bool)
    if isinstance(segmentation, str):
        return read_mask(segmentation)
    fault = mask_fault(segmentation, size, allows_short_polygons=False)
    if fault is not None:
        raise ValueError(fault)
    if isinstance(segmentation, list):
        rle = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        rle = mask_util.frPyObjects(segmentation, *size)
    else:
        rle = segmentation
    return mask_util.decode(rle).astype(bool)
