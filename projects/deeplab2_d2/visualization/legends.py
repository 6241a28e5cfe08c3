"""Legends: what the colors of a picture mean."""

from typing import Iterable, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pictures import Array, hatch, to_numpy

# What a color stands for, and the color, RGB; None is hatched.
Entry = Tuple[str, Optional[Sequence[int]]]

BACKGROUND = (255, 255, 255)
SWATCH_SIZE = 14
LINE_HEIGHT = 20
_GAP = 4
# Between an entry and the next.
_SPACE = 14
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


def draw_legend(entries: Sequence[Entry], width: int) -> np.ndarray:
    """
    Swatches with their names, as many in a line as fit.

    Args:
        entries: in their order, at least one. Characters that the font may lack become "?".
        width: of the picture, in pixels; what is wider than a line is cut off.

    Returns:
        (H, width, 3) uint8.
    """
    font = ImageFont.load_default()
    names = [name.encode("latin-1", "replace").decode("latin-1") for name, _ in entries]
    lengths = [SWATCH_SIZE + _GAP + int(font.getlength(name)) + 1 for name in names]
    places = _places(lengths, width)
    height = LINE_HEIGHT * (places[-1][0] + 1)
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    for (line, left), (_, color) in zip(places, entries):
        top = line * LINE_HEIGHT + (LINE_HEIGHT - SWATCH_SIZE) // 2
        swatch = picture[top : top + SWATCH_SIZE, left : left + SWATCH_SIZE]
        swatch[:] = _swatch(color)[:, : swatch.shape[1]]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for (line, left), name in zip(places, names):
        top = line * LINE_HEIGHT + (LINE_HEIGHT - SWATCH_SIZE) // 2
        draw.text((left + SWATCH_SIZE + _GAP, top), name, fill=(0, 0, 0), font=font)
    return np.asarray(image).copy()


def _places(lengths: Sequence[int], width: int) -> List[Tuple[int, int]]:
    """Line and left side of each entry."""
    places, line, left = [], 0, _GAP
    for length in lengths:
        if left > _GAP and left + length + _GAP > width:
            line, left = line + 1, _GAP
        places.append((line, left))
        left += length + _SPACE
    return places


def _swatch(color: Optional[Sequence[int]]) -> np.ndarray:
    swatch = np.empty((SWATCH_SIZE, SWATCH_SIZE, 3), np.uint8)
    swatch[:] = _HATCHED_GROUND if color is None else color
    if color is None:
        swatch = hatch(swatch, np.ones(swatch.shape[:2], bool))
    # A white class has a rim, too.
    swatch[[0, -1]] = swatch[:, [0, -1]] = 0
    return swatch
