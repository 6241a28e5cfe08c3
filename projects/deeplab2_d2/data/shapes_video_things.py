"""
The moving things of the generated dataset ``shapes_video``: outlines, textures, ways.

A thing is a picture that stands upright on the ground and faces the camera, so that all of it has
one depth. See ``shapes_video_scene.py`` for the coordinates.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

import numpy as np

from .shapes_video_scene import (
    CLASS_NAMES,
    FOCAL_LENGTH,
    HEIGHT,
    THING_NAMES,
    WIDTH,
    Camera,
    mix,
    random_color,
)

# Smallest and largest width in meters and height relative to it.
_SIZES: Dict[str, Tuple[Tuple[float, float], Tuple[float, float]]] = {
    "box": ((1.5, 2.2), (0.7, 1.1)),
    "ball": ((1.4, 1.9), (1.0, 1.0)),
    "cone": ((1.4, 1.8), (1.2, 1.6)),
}
# Of the top of a cone, relative to its foot.
_CONE_TOP = 0.25
# Half axes of the shadow on the ground, along and across the image's rows, relative to the width
# of the thing, and how much darker it makes the ground in its middle.
_SHADOW = (0.13, 0.62)
_SHADOW_STRENGTH = 0.6


@dataclass(frozen=True)
class Look:
    """
    Colors and pattern of a thing.

    Args:
        light, dark: (3,) RGB, 0 to 255.
        cells: (3, 3) in [0, 1], how dark the parts of a box are.
        phase: where a pattern of stripes or sectors begins, radians.
    """

    light: np.ndarray
    dark: np.ndarray
    cells: np.ndarray
    phase: float


@dataclass(frozen=True)
class Thing:
    """
    A thing and its way, a straight line at constant speed.

    Args:
        name: its class.
        width, height: meters.
        start: ``(x, z)`` of its foot at frame 0, meters.
        velocity: ``(x, z)``, meters a frame.
        look: colors and pattern.
    """

    name: str
    width: float
    height: float
    start: Tuple[float, float]
    velocity: Tuple[float, float]
    look: Look = field(compare=False)

    def at(self, frame: float) -> Tuple[float, float]:
        """``(x, z)`` of its foot at a frame, meters."""
        return (
            self.start[0] + frame * self.velocity[0],
            self.start[1] + frame * self.velocity[1],
        )


@dataclass(frozen=True)
class Patch:
    """
    The pixels around a thing and its shadow, as one frame sees them; none outside the image.

    Args:
        rows, columns: the part of the image.
        across, up: (h, 1) and (1, w) float, meters from the middle of its foot.
        distance: (h, w) float, pixels from the outline; at most 0 inside.
    """

    rows: slice
    columns: slice
    across: np.ndarray
    up: np.ndarray
    distance: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(h, w) bool, the pixels whose middle the thing covers."""
        return self.distance <= 0


def see_thing(thing: Thing, camera: Camera, frame: int) -> Patch:
    """Where a thing is in the image, without what hides it. Its patch is empty outside."""
    x, z = thing.at(frame)
    scale = FOCAL_LENGTH / z
    foot, middle = camera.project(x, z)
    shadow = _SHADOW[0] * thing.width * scale, _SHADOW[1] * thing.width * scale
    rows = _clip(foot - thing.height * scale - 1, foot + shadow[0] + 2, HEIGHT)
    columns = _clip(middle - shadow[1] - 1, middle + shadow[1] + 2, WIDTH)
    up = (foot - np.arange(rows.start, rows.stop)[:, None]) / scale
    across = (np.arange(columns.start, columns.stop)[None] - middle) / scale
    return Patch(rows, columns, across, up, scale * _distance(thing, across, up))


def _clip(first: float, end: float, size: int) -> slice:
    start = min(max(int(np.floor(first)), 0), size)
    return slice(start, max(min(int(np.ceil(end)), size), start))


def _distance(thing: Thing, across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(h, w) meters from the outline, negative inside; not exact near the corners outside."""
    half, height = thing.width / 2, thing.height
    if thing.name == "ball":
        return np.hypot(across, up - half) - half
    if thing.name == "cone":
        slope = (1 - _CONE_TOP) * half / height
        sides = (np.abs(across) - half + slope * up) / np.hypot(1, slope)
    else:
        sides = np.abs(across) - half
    return np.maximum(sides, np.abs(up - height / 2) - height / 2)


def paint_thing(thing: Thing, patch: Patch, frame: int) -> np.ndarray:
    """(h, w, 3) float32: the thing's texture in every pixel of the patch."""
    # In halves of the width and in heights, so that a pattern shrinks with its thing; the front,
    # where it is heading, has positive numbers.
    heading = 1.0 if thing.velocity[0] >= 0 else -1.0
    ahead, up = heading * patch.across / (thing.width / 2), patch.up / thing.height
    look = thing.look
    if thing.name == "ball":
        rolled = thing.at(frame)[0] / (thing.width / 2)
        angle = np.arctan2(patch.across, patch.up - thing.width / 2) - rolled + look.phase
        amount = np.clip(0.5 + 1.5 * np.sin(3 * angle), 0, 1)
        shade = 1.05 - 0.35 * np.hypot(ahead, 2 * up - 1)
    elif thing.name == "cone":
        # Stripes that rise towards the front.
        amount = np.clip(0.5 + 2 * np.sin(2 * np.pi * (1.7 * up - 0.3 * ahead) + look.phase), 0, 1)
        shade = 1.05 - 0.3 * np.abs(ahead) * np.ones_like(up)
    else:
        places = [np.clip((1.5 * v).astype(int), 0, 2) for v in (2 * up, ahead + 1)]
        amount = look.cells[places[0], places[1]]
        # A pale lamp at the front, low.
        lamp = (ahead > 0.6) & (up > 0.15) & (up < 0.5)
        amount = np.where(lamp, -0.9, amount)
        shade = np.where((np.abs(ahead) > 0.9) | (up > 0.92), 0.8, 1.0)
    return np.clip(mix(look.light, look.dark, amount) * shade[..., None], 0, 255)


def shadow_of(thing: Thing, patch: Patch) -> np.ndarray:
    """(h, w) in [0, 1], how much darker a thing makes the ground in the pixels of its patch."""
    axes = thing.width * np.array(_SHADOW)
    return _SHADOW_STRENGTH * np.clip(
        1.5 - 1.5 * np.hypot(patch.up / axes[0], patch.across / axes[1]), 0, 1
    )


def draw_looks(names: Sequence[str], rng: np.random.Generator) -> List[Look]:
    """
    Looks of the things of a sequence.

    A class has two hues only: things of one class differ in pattern and shade, and a few of them
    in nothing else.
    """
    hues = {
        name: [random_color(rng, saturation=0.75, brightness=0.95) for _ in range(2)]
        for name in THING_NAMES
    }
    looks = []
    for name in names:
        light = hues[name][int(rng.integers(2))] * rng.uniform(0.75, 1.0) + rng.uniform(-20, 20, 3)
        light = np.clip(light, 25, 255)
        cells = (rng.random((3, 3)) < 0.5).astype(float)
        dark = light * rng.uniform(0.25, 0.5)
        looks.append(Look(light, dark, cells, rng.uniform(0, 2 * np.pi)))
    return looks


def draw_size(name: str, rng: np.random.Generator) -> Tuple[float, float]:
    """Width and height of a thing in meters."""
    widths, ratios = _SIZES[name]
    width = rng.uniform(*widths)
    return width, width * rng.uniform(*ratios)


def class_of(thing: Thing) -> int:
    """The place of its class in ``CLASS_NAMES``."""
    return CLASS_NAMES.index(thing.name)
