"""A picture of a cloud of points from elsewhere, drawn with NumPy alone."""

from typing import NamedTuple, Tuple

import numpy as np

BACKGROUND = (255, 255, 255)
# What is nearer to the eye than this share of the median distance is behind it, or hides all.
_NEAREST = 0.1
# Share of the points that may lie outside of the picture, on each side.
_CUT = 0.01
_LARGEST_RADIUS = 4
# Sides of the squares, in the widths of their pixels: what the camera saw at a slant is spread out
# where it is seen from above.
_GROWTH = 2.0


class View(NamedTuple):
    """
    An eye that looks at the middle of the points, from their distance to the camera.

    Attributes:
        tilt: degrees; above 0 it looks down from above.
        turn: degrees; above 0 it looks to the left from the right.
    """

    tilt: float = 20.0
    turn: float = 15.0


def draw_view(
    points: np.ndarray,
    colors: np.ndarray,
    *,
    focal_length: float,
    view: View = View(),
    size: Tuple[int, int] = (720, 1280),
) -> np.ndarray:
    """
    Draw points as squares of a size that follows from their pixels'; what is nearer hides the rest.

    Args:
        points: (N, 3) ``(X, Y, Z)``, see :func:`unproject`.
        colors: (N, 3) uint8.
        focal_length: of the camera that saw them, in pixels: their sizes follow from it.
        view: from where they are seen.
        size: (height, width) of the picture; it is zoomed so that the points fill it.

    Returns:
        (height, width, 3) uint8, white where there is no point.
    """
    picture = np.tile(np.array(BACKGROUND, np.uint8), (*size, 1))
    seen = _look(points.astype(np.float64), view)
    is_seen = seen[:, 2] > _NEAREST * np.median(seen[:, 2]) if len(seen) else np.zeros(0, bool)
    seen, colors, sides = seen[is_seen], colors[is_seen], points[is_seen, 2] / focal_length
    if len(seen) == 0:
        return picture
    # Far ones first, so that near ones are drawn over them.
    order = np.argsort(-seen[:, 2], kind="stable")
    seen, colors, sides = seen[order], colors[order], sides[order]
    flat = seen[:, 1::-1] / seen[:, 2:]
    low, high = np.quantile(flat, [_CUT, 1 - _CUT], axis=0)
    zoom = ((np.array(size) - 1) / np.maximum(high - low, 1e-9)).min()
    middle = (np.array(size) - 1) / 2
    places = np.rint((flat - (low + high) / 2) * zoom + middle).astype(np.int64)
    radii = np.ceil((_GROWTH * zoom * sides / seen[:, 2] - 1) / 2).clip(0, _LARGEST_RADIUS)
    nearest = _splat(places, radii, size)
    picture[nearest >= 0] = colors[nearest[nearest >= 0]]
    return picture


def _look(points: np.ndarray, view: View) -> np.ndarray:
    """The points (N, 3) from the eye: right, down and forward."""
    if len(points) == 0:
        return points
    pivot = np.median(points, axis=0)
    tilt, turn = np.radians(view.tilt), np.radians(view.turn)
    about_y = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    about_x = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    turned = (points - pivot) @ (np.array(about_x) @ np.array(about_y)).T
    return turned + [0, 0, pivot[2]]


def _splat(places: np.ndarray, radii: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """(height, width): the last of the points whose squares cover a pixel; -1 where none does."""
    nearest = np.full(size, -1, np.int64)
    index = np.arange(len(places))
    reach = int(radii.max())
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = places[:, 0] + dy, places[:, 1] + dx
            is_drawn = (radii >= max(abs(dy), abs(dx))) & (y >= 0) & (x >= 0)
            is_drawn &= (y < size[0]) & (x < size[1])
            layer = np.full(size, -1, np.int64)
            # Of several at one pixel the last is kept.
            layer[y[is_drawn], x[is_drawn]] = index[is_drawn]
            np.maximum(nearest, layer, out=nearest)
    return nearest
