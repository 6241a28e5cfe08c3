"""
Drawing of one scene of the generated dataset ``shapes_panoptic``.

A class is told by its outline and its texture; all colors are drawn at random. A scene has a
background of one to three textured stuff regions, things that may hide each other partly, small
things, sometimes a crowd (many tiny shapes under one segment) and sometimes an unlabeled spot.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Tuple

import numpy as np
from PIL import Image

THING_NAMES = ("disc", "square", "triangle", "star")
STUFF_NAMES = ("stripes", "checker", "clouds")

# A thing is only placed where every thing below keeps at least this part of its pixels, so that
# each can still be recognized, and at least so many of them.
_MIN_VISIBLE_FRACTION = 0.6
_MIN_VISIBLE_PIXELS = 24
_PLACEMENT_TRIALS = 20
# Brightness of the dark color of a texture, relative to the light one. Things stand out by their
# contrast; the colors themselves are as random as those of stuff.
_STUFF_DARK = (0.5, 0.65)
_THING_DARK = (0.15, 0.4)


@dataclass(frozen=True)
class SceneOptions:
    """
    What a scene may contain. Lengths are in pixels of the scene.

    Args:
        height, width: size of the scene, at least 64 each.
        num_things: smallest and largest number of things that are tried.
        radius: smallest and largest radius of a thing of usual size.
        small_radius: the same for small things.
        small_probability: probability that a thing is small.
        overlap_probability: probability that a thing is placed at the edge of an earlier one.
        crowd_probability: probability that the scene has a crowd.
        void_probability: probability that the scene has an unlabeled spot.
        noise: standard deviation of the pixel noise, in grey levels.
    """

    height: int = 128
    width: int = 160
    num_things: Tuple[int, int] = (2, 5)
    radius: Tuple[float, float] = (15.0, 27.0)
    small_radius: Tuple[float, float] = (6.0, 8.0)
    small_probability: float = 0.1
    overlap_probability: float = 0.6
    crowd_probability: float = 0.15
    void_probability: float = 0.1
    noise: float = 5.0

    def __post_init__(self) -> None:
        if self.height < 64 or self.width < 64:
            raise ValueError(
                f"height and width must be at least 64, got {self.height} x {self.width}"
            )
        if not 1 <= self.num_things[0] <= self.num_things[1]:
            raise ValueError(f"num_things must be 1 <= min <= max, got {self.num_things}")


@dataclass(frozen=True)
class SceneSegment:
    """
    One segment of a scene.

    Args:
        name: class name, of ``THING_NAMES`` or ``STUFF_NAMES``.
        is_crowd: True for a crowd of things under one segment.
        full_area: pixels of the segment inside the scene before others hid a part of it.
    """

    name: str
    is_crowd: bool
    full_area: int


@dataclass
class Scene:
    """
    A drawn scene.

    Args:
        image: (H, W, 3) uint8, RGB.
        segment_map: (H, W) int32, index into ``segments`` plus 1; 0 where unlabeled.
        segments: the segments that have at least one visible pixel.
    """

    image: np.ndarray
    segment_map: np.ndarray
    segments: List[SceneSegment] = field(default_factory=list)

    def visible_areas(self) -> np.ndarray:
        """Visible pixels of each segment, (len(segments),) int64."""
        return np.bincount(self.segment_map.ravel(), minlength=len(self.segments) + 1)[1:]


def draw_scene(options: SceneOptions, rng: np.random.Generator) -> Scene:
    """
    Draw one scene.

    Args:
        options: what it may contain.
        rng: the only source of randomness; equal generators draw equal scenes.

    Returns:
        the scene; every listed segment has at least one visible pixel.
    """
    grid = np.mgrid[0 : options.height, 0 : options.width].astype(np.float32)
    canvas = Canvas(options, grid)
    draw_background(canvas, rng)
    if rng.random() < options.crowd_probability:
        _draw_crowd(canvas, rng)
    if rng.random() < options.void_probability:
        _draw_void(canvas, rng)
    for _ in range(int(rng.integers(options.num_things[0], options.num_things[1] + 1))):
        _draw_thing(canvas, rng)
    return canvas.finish(rng)


class Canvas:
    """The scene while it is drawn: float image, segment map, and the things placed so far."""

    def __init__(self, options: SceneOptions, grid: np.ndarray):
        self.options = options
        self.grid = grid
        self.image = np.zeros((options.height, options.width, 3), np.float32)
        self.segment_map = np.zeros((options.height, options.width), np.int32)
        self.segments: Dict[int, SceneSegment] = {}
        self.placed: List[Tuple[float, float, float]] = []

    def add(self, mask: np.ndarray, texture: np.ndarray, name: str, is_crowd: bool = False) -> None:
        """Paint ``texture`` (H, W, 3) over ``mask`` (H, W) bool as a new segment."""
        index = len(self.segments) + 1
        self.image[mask] = texture[mask]
        self.segment_map[mask] = index
        self.segments[index] = SceneSegment(name, is_crowd, int(mask.sum()))

    def keeps_others_visible(self, mask: np.ndarray) -> bool:
        """Whether painting over ``mask`` leaves enough of every thing and crowd below."""
        areas = np.bincount(self.segment_map.ravel(), minlength=len(self.segments) + 1)
        hidden = np.bincount(self.segment_map[mask], minlength=len(self.segments) + 1)
        for index, segment in self.segments.items():
            if not hidden[index]:
                continue
            visible = areas[index] - hidden[index]
            least = _MIN_VISIBLE_FRACTION * segment.full_area if _is_thing(segment) else 0
            if visible < max(least, _MIN_VISIBLE_PIXELS):
                return False
        return True

    def finish(self, rng: np.random.Generator) -> Scene:
        """Add light and noise, round, and drop the segments that cannot be seen."""
        ys, xs = self.grid
        direction = rng.uniform(0, 2 * np.pi)
        slope = np.cos(direction) * (ys / ys.max() - 0.5) + np.sin(direction) * (
            xs / xs.max() - 0.5
        )
        light = 1 + rng.uniform(0.0, 0.3) * slope
        image = self.image * light[..., None]
        image += rng.normal(0, self.options.noise, image.shape)
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)

        seen = [i for i in self.segments if np.any(self.segment_map == i)]
        lookup = np.zeros(len(self.segments) + 1, np.int32)
        lookup[seen] = np.arange(1, len(seen) + 1)
        return Scene(image, lookup[self.segment_map], [self.segments[i] for i in seen])


def _is_thing(segment: SceneSegment) -> bool:
    return segment.name in THING_NAMES


def _blend(amount: np.ndarray, dark: Tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """
    A random color and a darker one of nearly the same hue, mixed.

    Args:
        amount: (H, W) in [0, 1] of the darker color.
        dark: least and greatest brightness of the darker color, relative to the other.

    Returns:
        (H, W, 3) float32.
    """
    light = rng.uniform(40, 235, 3)
    light *= rng.uniform(170, 235) / light.max()
    darker = light * rng.uniform(*dark) + rng.uniform(-15, 15, 3)
    return (light + amount[..., None] * (darker - light)).astype(np.float32)


def rotated(grid: np.ndarray, center: Tuple[float, float], angle: float) -> np.ndarray:
    """Coordinates of ``grid`` around ``center`` (y, x), turned by ``angle`` radians."""
    ys, xs = grid[0] - center[0], grid[1] - center[1]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * ys - sin * xs, sin * ys + cos * xs])


def _smooth_noise(shape: Tuple[int, int], cell: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: random values every ``cell`` pixels, cubic in between."""
    coarse = rng.random((shape[0] // cell + 2, shape[1] // cell + 2)).astype(np.float32)
    noise = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(noise), 0, 1)


def _stuff_texture(name: str, grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) texture of a stuff class."""
    ys, xs = rotated(grid, (0.0, 0.0), rng.uniform(0, np.pi))
    if name == "stripes":
        amount = 0.5 + 0.5 * np.sin(2 * np.pi * ys / rng.uniform(13.0, 17.0))
    elif name == "checker":
        cell = rng.uniform(6.0, 8.0)
        amount = ((np.floor(ys / cell) + np.floor(xs / cell)) % 2).astype(np.float32)
    else:
        amount = _smooth_noise(grid.shape[1:], 24, rng)
    return _blend(amount, _STUFF_DARK, rng)


def _thing_texture(
    name: str, points: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) texture of a thing class; ``points`` are relative to its center."""
    return _blend(thing_pattern(name, points, radius, rng), _THING_DARK, rng)


def thing_pattern(
    name: str, points: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """
    Where a thing has its darker color.

    Args:
        name: of ``THING_NAMES``.
        points: (2, H, W) ``(y, x)`` relative to its center.
        radius: to its farthest corner.

    Returns:
        (H, W), 0 to 1 or bool.
    """
    ys, xs = points
    if name == "disc":
        return 0.5 + 0.5 * np.sin(2 * np.pi * np.hypot(ys, xs) / 8.0)
    if name == "square":
        rim = max(1.5, 0.17 * radius)
        return np.maximum(np.abs(ys), np.abs(xs)) > radius * np.sqrt(0.5) - rim
    if name == "triangle":
        # A triangle of the dark color in the middle, a light rim around it.
        return _inside_polygon(points, np.full(3, 0.55 * radius))
    height, width = ys.shape
    blocks = rng.random((height // 3 + 1, width // 3 + 1)) < 0.5
    return blocks.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]


def thing_mask(name: str, points: np.ndarray, radius: float) -> np.ndarray:
    """(H, W) bool outline of a thing; ``radius`` reaches to its farthest corner."""
    ys, xs = points
    if name == "disc":
        return np.hypot(ys, xs) <= radius
    if name == "square":
        return np.maximum(np.abs(ys), np.abs(xs)) <= radius * np.sqrt(0.5)
    if name == "triangle":
        return _inside_polygon(points, np.full(3, radius))
    return _inside_polygon(points, np.tile([radius, 0.5 * radius], 5))


def _inside_polygon(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """
    Which points lie inside a polygon around (0, 0), by the even-odd rule.

    Args:
        points: (2, H, W) ``(y, x)``.
        radii: (K,) distances of the corners, at equal angles.

    Returns:
        (H, W) bool.
    """
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    corners = np.stack([radii * np.sin(angles), radii * np.cos(angles)], axis=1)
    ys, xs = points
    inside = np.zeros(ys.shape, bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0)):
        if y0 != y1:
            crosses = (ys < y0) != (ys < y1)
            inside ^= crosses & (xs < x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    return inside


def draw_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """One to three stuff classes, the cells of a few random seeds with wavy borders."""
    options, grid = canvas.options, canvas.grid
    names = rng.permutation(STUFF_NAMES)[: int(rng.integers(1, len(STUFF_NAMES) + 1))]
    size = np.array([options.height, options.width])
    seeds = rng.random((len(names) + 1, 2)) * size
    shape = (options.height, options.width)
    wobble = np.stack([_smooth_noise(shape, 32, rng), _smooth_noise(shape, 32, rng)]) * 24
    distances = [np.hypot(*(grid + wobble - seed[:, None, None])) for seed in seeds]
    owner = np.argmin(distances, axis=0) % len(names)
    for k, name in enumerate(names):
        mask = owner == k
        if mask.any():
            canvas.add(mask, _stuff_texture(str(name), grid, rng), str(name))


def _draw_crowd(canvas: Canvas, rng: np.random.Generator) -> None:
    """Nine to sixteen tiny shapes of one class close together, as one crowd segment."""
    options = canvas.options
    name = str(rng.choice(THING_NAMES))
    origin = rng.random(2) * [options.height - 24, options.width - 32] + [12, 16]
    spread = np.array([10.0, 14.0])
    mask = np.zeros(canvas.segment_map.shape, bool)
    texture = np.zeros_like(canvas.image)
    for _ in range(int(rng.integers(9, 17))):
        center = tuple(origin + rng.uniform(-1, 1, 2) * spread)
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(4.0, 6.0)
        points = rotated(canvas.grid, center, angle)
        one = thing_mask(name, points, radius)
        texture[one] = _thing_texture(name, points, radius, rng)[one]
        mask |= one
    canvas.add(mask, texture, name, is_crowd=True)


def _draw_void(canvas: Canvas, rng: np.random.Generator) -> None:
    """A round spot that belongs to no class."""
    options = canvas.options
    center = rng.random(2) * [options.height, options.width]
    mask = np.hypot(*(canvas.grid - center[:, None, None])) < rng.uniform(6, 12)
    canvas.image[mask] = rng.uniform(0, 255, 3)
    canvas.segment_map[mask] = 0


def _draw_thing(canvas: Canvas, rng: np.random.Generator) -> None:
    """One thing, if a place is found in a few trials."""
    options = canvas.options
    name = str(rng.choice(THING_NAMES))
    is_small = rng.random() < options.small_probability
    radius = rng.uniform(*(options.small_radius if is_small else options.radius))
    angle = rng.uniform(0, 2 * np.pi)
    at_edge = bool(canvas.placed) and rng.random() < options.overlap_probability
    shape = canvas.segment_map.shape
    for _ in range(_PLACEMENT_TRIALS):
        if at_edge:
            y, x, other = canvas.placed[int(rng.integers(len(canvas.placed)))]
            direction = rng.uniform(0, 2 * np.pi)
            distance = 0.5 * max(other, radius) + 0.5 * rng.random() * (other + radius)
            center = (y + distance * np.sin(direction), x + distance * np.cos(direction))
        else:
            center = (rng.uniform(0, options.height), rng.uniform(0, options.width))
        margin = 0.5 * radius
        inside = all(margin <= c <= n - margin for c, n in zip(center, shape))
        if not inside:
            continue
        points = rotated(canvas.grid, center, angle)
        mask = thing_mask(name, points, radius)
        if canvas.keeps_others_visible(mask):
            canvas.add(mask, _thing_texture(name, points, radius, rng), name)
            canvas.placed.append((*center, radius))
            return
