"""Panoptic overlays that say what is what: names and scores in the segments, a legend below."""

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, find_objects

from .legends import class_name, draw_legend, segment_legend
from .lettering import font, text_box, text_middle
from .pictures import Array, Panoptic, draw_panoptic_overlay, segment_colors, to_numpy

Color = Tuple[int, int, int]
# (left, top, right, bottom) in pixels.
Box = Tuple[int, int, int, int]

# Heights of letters are a part of the picture's shorter side, within limits; pixels.
_PART_OF_SIDE, _MIN_TEXT, _MAX_TEXT = 1 / 32, 10, 30
# A segment is named if a circle of this part of the text's height fits into it.
_ROOM_OF_THING, _ROOM_OF_STUFF = 0.35, 0.9
# Segments are looked at in windows of at most this many pixels a side.
_WINDOW = 96
_LIGHT = (255, 255, 255)


def draw_named_overlay(
    image: Array,
    panoptic_seg: Panoptic,
    colors: Array,
    names: Sequence[str],
    *,
    is_named: bool = True,
    has_legend: bool = True,
) -> np.ndarray:
    """
    A panoptic segmentation over its image, with names.

    Where the segments leave no room for all names, the largest segments have theirs.

    Args:
        image: (3, H, W) or (H, W, 3), RGB 0..255.
        panoptic_seg: Detectron2's pair: (H, W) segment ids and ``segments_info``; the ``score`` of
            a segment, if it has one, is written behind its name.
        colors: (C, 3) RGB by contiguous class id.
        names: of the classes.
        is_named: False leaves the names out.
        has_legend: add the classes that there are, below the picture.

    Returns:
        (H + h, W, 3) uint8, with a legend of h rows; h is 0 without one, or without a segment.
    """
    segment_map, segments_info = to_numpy(panoptic_seg[0]), panoptic_seg[1]
    drawn = draw_panoptic_overlay(image, (segment_map, segments_info), colors)
    if is_named:
        drawn = _write_names(drawn, segment_map, segments_info, to_numpy(colors), names)
    if not (has_legend and segments_info):
        return drawn
    entries = segment_legend(segments_info, colors, names)
    text_size = _text_size((drawn.shape[0], drawn.shape[1]))
    strip = draw_legend(entries, drawn.shape[1], text_size=text_size)
    return np.concatenate([drawn, strip])


class _Spot(NamedTuple):
    """The middle of the widest part of a segment, and the radius of the circle around it."""

    x: float
    y: float
    radius: float


def _write_names(
    drawn: np.ndarray,
    segment_map: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    colors: np.ndarray,
    names: Sequence[str],
) -> np.ndarray:
    height, width = segment_map.shape
    text_size = _text_size((height, width))
    chosen = segment_colors(segments_info, colors)
    picture = Image.fromarray(drawn)
    draw = ImageDraw.Draw(picture)
    taken: List[Box] = []
    for info, spot in _spots(segment_map, segments_info):
        needed = _ROOM_OF_THING if info["isthing"] else _ROOM_OF_STUFF
        if spot.radius < needed * text_size:
            continue
        text = class_name(names, info["category_id"])
        if info.get("score") is not None:
            text = f"{text} {info['score']:.2f}"
        box = _place(text, text_size, spot, (height, width))
        if box is None or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        color = _darkened(_as_color(chosen[info["id"]]))
        draw.rounded_rectangle(box, radius=text_size // 4, fill=color)
        pad = _pad(text_size)
        place = (box[0] + pad, (box[1] + box[3]) // 2 - text_middle(text_size))
        draw.text(place, text, fill=_LIGHT, font=font(text_size))
    return np.asarray(picture).copy()


def _spots(
    segment_map: np.ndarray, segments_info: Sequence[Mapping[str, Any]]
) -> List[Tuple[Mapping[str, Any], _Spot]]:
    """The segments that have pixels, those with the most room first, and their middles."""
    present, inverse = np.unique(segment_map, return_inverse=True)
    numbers = inverse.reshape(segment_map.shape) + 1
    slices = dict(zip(present.tolist(), find_objects(numbers)))
    spots = []
    for info in segments_info:
        if info["id"] in slices:
            place = slices[info["id"]]
            spots.append((info, _middle(segment_map[place] == info["id"], place)))
    # Things come first: a name of stuff has room elsewhere.
    return sorted(spots, key=lambda pair: (not pair[0]["isthing"], -pair[1].radius))


def _middle(mask: np.ndarray, place: Tuple[slice, slice]) -> _Spot:
    """The pixel of a segment that is farthest from all others, looked for on a coarse grid."""
    step = max(1, -(-max(mask.shape) // _WINDOW))
    coarse = np.pad(mask[step // 2 :: step, step // 2 :: step], 1)
    if not coarse.any():  # Thinner than the grid.
        step, coarse = 1, np.pad(mask, 1)
    distance = distance_transform_edt(coarse)
    # Of a long segment there are many; the one in their middle.
    widest = np.argwhere(distance >= 0.95 * distance.max())
    y, x = widest[np.square(widest - widest.mean(axis=0)).sum(axis=1).argmin()]
    first = step // 2
    return _Spot(
        x=place[1].start + first + (int(x) - 1) * step,
        y=place[0].start + first + (int(y) - 1) * step,
        radius=float(distance[y, x]) * step,
    )


def _place(text: str, text_size: int, spot: _Spot, size: Tuple[int, int]) -> Optional[Box]:
    """The box of a name around a spot, moved into the picture; None if it is too wide for it."""
    height, width = size
    box_width = text_box(text, text_size)[2] + 2 * _pad(text_size)
    box_height = text_size + 2 * _pad(text_size)
    if box_width >= width or box_height >= height:
        return None
    left = int(min(max(spot.x - box_width / 2, 0), width - box_width))
    top = int(min(max(spot.y - box_height / 2, 0), height - box_height))
    return left, top, left + box_width - 1, top + box_height - 1


def _overlap(one: Box, other: Box) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _as_color(color: np.ndarray) -> Color:
    red, green, blue = (int(value) for value in color)
    return red, green, blue


def _darkened(color: Color) -> Color:
    """A color, or a darker one, on which white is easy to read: WCAG asks for a contrast of 7."""
    for share in (1.0, 0.85, 0.7, 0.55, 0.45, 0.35):
        dark = tuple(int(share * value) for value in color)
        if _contrast_with_white(dark) >= 7:
            break
    return dark[0], dark[1], dark[2]


def _contrast_with_white(color: Sequence[int]) -> float:
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in color)
    ]
    return 1.05 / (float(np.dot(linear, (0.2126, 0.7152, 0.0722))) + 0.05)


def _text_size(size: Tuple[int, int]) -> int:
    return int(np.clip(round(min(size) * _PART_OF_SIDE), _MIN_TEXT, _MAX_TEXT))


def _pad(text_size: int) -> int:
    return max(2, text_size // 5)
