"""
Masks as COCO's annotations have them, checked before pycocotools reads them.

It is C, and believes what it is given: a coordinate that is no number or far away takes the process
down with it, and of a run-length code that is too short the rest of the mask is what the memory
held before.
"""

from typing import Any, Optional, Sequence, Tuple

import numpy as np

# Numbers of a compressed code have 5 bits a character, and fit into 32.
_MAX_CHARACTERS = 7
# Of an outline beyond one step a pixel of the image.
_SPARE_STEPS = 10_000


def mask_fault(
    segmentation: Any, size: Tuple[int, int], *, allows_short_polygons: bool = True
) -> Optional[str]:
    """
    What is wrong with the mask of an annotation.

    Polygons must have finite coordinates, no further from the image than its longer side, and an
    outline of no more steps than the image has pixels.

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]``, RLE (``size`` and ``counts``,
            compressed or not) or an (H, W) array.
        size: (height, width) of the image.
        allows_short_polygons: polygons of two points or fewer, which the caller leaves out, and an
            empty list are right; pycocotools takes four numbers for a box, and fails at others.

    Returns:
        the rule that is broken and the value; None if there is nothing.
    """
    if not all(_is_whole(side) and side > 0 for side in size):
        return f"its image must have a height and a width in pixels, got {size[0]} and {size[1]}"
    if isinstance(segmentation, np.ndarray):
        return _size_fault(segmentation.shape, size)
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, size)
    if isinstance(segmentation, (list, tuple)):
        faults = (_polygon_fault(polygon, size) for polygon in segmentation)
        fault = next((fault for fault in faults if fault), None)
        is_short = min(map(len, segmentation), default=0) < 6 if fault is None else False
        if is_short and not allows_short_polygons:
            return f"it must have polygons of three points or more, got {segmentation}"
        return fault
    return f"its mask must be polygons, RLE or an array, got {type(segmentation).__name__}"


def _size_fault(found: Any, size: Tuple[int, int]) -> Optional[str]:
    is_whole = isinstance(found, (list, tuple)) and all(map(_is_whole, found))
    if is_whole and tuple(found) == tuple(size):
        return None
    found = tuple(found) if isinstance(found, list) else found
    return f"its mask must be of the image's size {tuple(size)}, got {found}"


def _is_whole(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _polygon_fault(polygon: Any, size: Tuple[int, int]) -> Optional[str]:
    try:
        # Text that could be read as numbers is none.
        coordinates = np.asarray(polygon)
        if coordinates.dtype.kind not in "iuf" or coordinates.ndim != 1:
            raise ValueError
    except (ValueError, OverflowError):
        if isinstance(polygon, (list, tuple)) and not polygon:
            return None
        got = repr(polygon)
        return f"a polygon must be a list of numbers, got {got[:40]}{'...' * (len(got) > 40)}"
    coordinates = coordinates.astype(np.float64)
    side = max(size)
    is_near = (coordinates >= -side) & (coordinates <= 2 * side)  # nan is not
    if not is_near.all():
        return (
            f"coordinates must be from {-side} to {2 * side} in an image of {size[0]} x {size[1]}, "
            f"got {coordinates[~is_near][0]:g}"
        )
    points = coordinates[: len(coordinates) // 2 * 2].reshape(-1, 2)
    steps = np.abs(np.roll(points, 1, axis=0) - points).max(axis=1).sum() if len(points) else 0.0
    limit = size[0] * size[1] + _SPARE_STEPS
    if steps > limit:
        return f"the outline of a polygon must have at most {limit} steps, got {steps:g}"
    return None


def _rle_fault(rle: Any, size: Tuple[int, int]) -> Optional[str]:
    fault = _size_fault(rle.get("size"), size)
    if fault is not None:
        return fault
    runs = _runs(rle.get("counts"))
    if runs is None:
        got = repr(rle.get("counts"))
        return f"the counts of its RLE must be run lengths, got {got[:40]}{'...' * (len(got) > 40)}"
    total = sum(runs)
    if total != size[0] * size[1] or min(runs, default=0) < 0:
        return (
            f"the run lengths of its RLE must be at least 0 and sum up to {size[0]} x {size[1]} = "
            f"{size[0] * size[1]}, got {min(runs, default=0)} at least and {total} together"
        )
    return None


def _runs(counts: Any) -> Optional[Sequence[int]]:
    """The numbers of a run-length code; None if it is none."""
    if isinstance(counts, list):
        return counts if all(type(count) is int for count in counts) else None
    if isinstance(counts, str) and counts.isascii():
        counts = counts.encode()
    return _decompress(counts) if isinstance(counts, bytes) else None


def _decompress(code: bytes) -> Optional[Sequence[int]]:
    """
    Numbers of five bits a character, the lowest first, as ``maskApi.c`` of pycocotools writes them.

    Bit 5 says that a character follows, bit 4 of the last that the number is negative. From the
    fourth number on, it is the difference from the one before the last.
    """
    characters = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    if not len(characters):
        return []
    if characters.min() < 0 or characters.max() > 63 or characters[-1] & 32:
        return None
    last = np.flatnonzero(characters & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _MAX_CHARACTERS:
        return None
    places = np.arange(len(characters)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((characters & 31) << (5 * places), first)
    numbers -= (characters[last] >> 4 & 1) << (5 * lengths)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers.tolist()
