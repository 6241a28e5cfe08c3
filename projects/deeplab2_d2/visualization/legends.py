"""Legends: what the colors of a picture mean."""

from collections import Counter
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from .lettering import font, text_box, text_middle
from .pictures import Array, hatch, to_numpy

# What a color stands for, and the color, RGB; None is hatched.
Entry = Tuple[str, Optional[Sequence[int]]]

BACKGROUND = (255, 255, 255)
TEXT_SIZE = 12
_TEXT_COLOR, _RIM_COLOR = (20, 20, 20), (110, 110, 110)
_HATCHED_GROUND = 160


def class_legend(names: Sequence[str], colors: Array, shown: Iterable[int]) -> List[Entry]:
    """
    Entries of the classes that a picture shows.

    Args:
        names: of all C classes.
        colors: (C, 3) RGB.
        shown: class ids, in any order, also several times; those outside [0, C) are left out.
    """
    colors = to_numpy(colors)
    ids = sorted(set(map(int, shown)) & set(range(len(names))))
    return [(names[k], colors[k].tolist()) for k in ids]


def segment_legend(
    segments_info: Sequence[Mapping[str, Any]], colors: Array, names: Sequence[str]
) -> List[Entry]:
    """
    Entries of the classes of segments, things first, with the number of each.

    Args:
        segments_info: of one picture or of several.
        colors: (C, 3) RGB by contiguous class id.
        names: of the classes; one that has none is called by its number.
    """
    colors = to_numpy(colors)
    counts = Counter((not info["isthing"], info["category_id"]) for info in segments_info)
    return [
        (class_name(names, k) + (f" ({count})" if count > 1 else ""), colors[k].tolist())
        for (_, k), count in sorted(counts.items())
    ]


def class_name(names: Sequence[str], k: int) -> str:
    """The name of a class, or its number."""
    return names[k] if k < len(names) else f"class {k}"


def draw_legend(entries: Sequence[Entry], width: int, *, text_size: int = TEXT_SIZE) -> np.ndarray:
    """
    Swatches with their names, as many in a line as fit.

    Args:
        entries: in their order, at least one. Characters that the font may lack become "?".
        width: of the picture, in pixels; what is wider than a line is cut off.
        text_size: height of the letters and of the swatches, in pixels.

    Returns:
        (H, width, 3) uint8.
    """
    pad = text_size // 2
    names = [name.encode("latin-1", "replace").decode("latin-1") for name, _ in entries]
    lengths = [text_size + pad + text_box(name, text_size)[2] for name in names]
    places = _places(lengths, width, pad=pad, line_height=text_size + pad)
    height = places[-1][0] + text_size + pad
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    for (top, left), (_, color) in zip(places, entries):
        place = picture[top : top + text_size, left : left + text_size]
        place[:] = _swatch(color, text_size)[:, : place.shape[1]]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for (top, left), name in zip(places, names):
        start = (left + text_size + pad, top + text_size // 2 - text_middle(text_size))
        draw.text(start, name, fill=_TEXT_COLOR, font=font(text_size))
    return np.asarray(image).copy()


def _places(
    lengths: Sequence[int], width: int, *, pad: int, line_height: int
) -> List[Tuple[int, int]]:
    """(y, x) of each entry's upper left corner."""
    places, top, left = [], pad, pad
    for length in lengths:
        if left > pad and left + length > width - pad:
            top, left = top + line_height, pad
        places.append((top, left))
        left += length + 2 * pad
    return places


def _swatch(color: Optional[Sequence[int]], side: int) -> np.ndarray:
    swatch = np.empty((side, side, 3), np.uint8)
    swatch[:] = _HATCHED_GROUND if color is None else color
    if color is None:
        swatch = hatch(swatch, np.ones(swatch.shape[:2], bool))
    # A white class has a rim, too.
    swatch[[0, -1]] = swatch[:, [0, -1]] = _RIM_COLOR
    return swatch
