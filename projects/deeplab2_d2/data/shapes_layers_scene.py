"""
Drawing of one scene of the generated dataset ``shapes_layers``: things that lie on each other.

A scene has the stuff of ``shapes_scene`` and two to four groups of one to three things. In a group
each thing overlaps another one by much; groups do not touch. What covers what follows the class,
a disc lies below a square, that below a triangle and that below a star, but in one group of ten it
is the other way round. Things of one class lie on each other in random order. A class has a hue of
its own: here it is the order that is to be learnt, and things are easy to find.
"""

import colorsys
from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from .shapes_scene import (
    THING_NAMES,
    Canvas,
    Scene,
    SceneOptions,
    draw_background,
    rotated,
    thing_mask,
    thing_pattern,
)

# Common pixels of a thing and the one it was placed on, as a part of the smaller of both.
_OVERLAP = (0.3, 0.6)
# Least part of a thing that is seen.
_MIN_VISIBLE_FRACTION = 0.4
_SAME_CLASS_PROBABILITY = 0.15
_GROUP_SIZES = (1, 2, 2, 3)
_TRIALS_OF_GROUP = 10
_TRIALS_OF_THING = 10
# Brightness of the dark color of a thing's pattern, relative to the light one.
_DARK = (0.2, 0.45)


@dataclass(frozen=True)
class LayersOptions:
    """
    What a scene may contain. Lengths are in pixels of the scene.

    Args:
        height, width: size of the scene, at least three times the largest radius.
        num_groups: smallest and largest number of groups that are tried.
        radius: smallest and largest radius of a thing.
        exception_probability: that the order in a group is against the classes.
        noise: standard deviation of the pixel noise, in grey levels.
    """

    height: int = 192
    width: int = 256
    num_groups: Tuple[int, int] = (2, 4)
    radius: Tuple[float, float] = (26.0, 40.0)
    exception_probability: float = 0.1
    noise: float = 5.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 3 * self.radius[1]:
            raise ValueError(
                f"height and width must be at least three times the largest radius, "
                f"{self.radius[1]}, got {self.height} x {self.width}"
            )
        if not 1 <= self.num_groups[0] <= self.num_groups[1]:
            raise ValueError(f"num_groups must be 1 <= min <= max, got {self.num_groups}")
        if not 0 < self.radius[0] <= self.radius[1]:
            raise ValueError(f"radius must be 0 < min <= max, got {self.radius}")
        if not 0 <= self.exception_probability <= 1:
            raise ValueError(
                f"exception_probability must be in [0, 1], got {self.exception_probability}"
            )


@dataclass(frozen=True)
class LayeredThing:
    """
    One thing of a scene.

    Args:
        name: of ``THING_NAMES``.
        mask: (H, W) bool, all of it, also what others cover.
        paint_order: its place among the things of the scene, 0 the lowest.
    """

    name: str
    mask: np.ndarray
    paint_order: int


@dataclass(frozen=True)
class LayersScene:
    """
    A drawn scene.

    Args:
        scene: image and what is seen: stuff, then the things from the lowest to the uppermost.
        things: the whole things, as they were placed.
    """

    scene: Scene
    things: List[LayeredThing]


@dataclass(frozen=True)
class _Placed:
    """A thing before it is painted: radius and angle (radians) of its outline, center (y, x)."""

    name: str
    radius: float
    angle: float
    center: Tuple[int, int]
    mask: np.ndarray


def draw_layers_scene(options: LayersOptions, rng: np.random.Generator) -> LayersScene:
    """
    Draw one scene.

    Args:
        options: what it may contain.
        rng: the only source of randomness; equal generators draw equal scenes.

    Returns:
        the scene; each of its things lies in the image and is seen by a good part.
    """
    shape = options.height, options.width
    grid = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    canvas = Canvas(SceneOptions(height=shape[0], width=shape[1], noise=options.noise), grid)
    draw_background(canvas, rng)
    things: List[LayeredThing] = []
    taken = np.zeros(shape, bool)
    for _ in range(int(rng.integers(options.num_groups[0], options.num_groups[1] + 1))):
        group, ranks = _place_group(options, taken, rng)
        for k in np.argsort(ranks):
            _paint(canvas, group[k], rng)
            taken |= group[k].mask
        first = len(things)
        things += [LayeredThing(t.name, t.mask, first + int(r)) for t, r in zip(group, ranks)]
    return LayersScene(canvas.finish(rng), things)


def _place_group(
    options: LayersOptions, taken: np.ndarray, rng: np.random.Generator
) -> Tuple[List[_Placed], np.ndarray]:
    """A group where nothing is yet and its places in the order of painting; empty if none fits."""
    size = int(rng.choice(_GROUP_SIZES))
    # Decided first: what is refused below must not make exceptions rarer.
    is_exception = rng.random() < options.exception_probability
    for _ in range(_TRIALS_OF_GROUP):
        group: List[_Placed] = []
        for _ in range(size):
            thing = _place_thing(options, group, taken, rng)
            if thing is not None:
                group.append(thing)
        ranks = _ranks(group, is_exception, rng)
        if len(group) == size and _are_visible([group[k].mask for k in np.argsort(ranks)]):
            return group, ranks
    return [], np.zeros(0, np.int64)


def _place_thing(
    options: LayersOptions, group: List[_Placed], taken: np.ndarray, rng: np.random.Generator
) -> Optional[_Placed]:
    """A thing on one of the group, or anywhere as its first; None if no place was found."""
    name = _class_of_next(group, rng)
    radius, angle = rng.uniform(*options.radius), rng.uniform(0, 2 * np.pi)
    reach = int(np.ceil(radius))
    window = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    outline = thing_mask(name, rotated(window, (0.0, 0.0), angle), radius)
    for _ in range(_TRIALS_OF_THING):
        if group:
            other = group[int(rng.integers(len(group)))]
            direction = rng.uniform(0, 2 * np.pi)
            distance = rng.uniform(0.2, 1.0) * (other.radius + radius)
            y = int(round(other.center[0] + distance * np.sin(direction)))
            x = int(round(other.center[1] + distance * np.cos(direction)))
        else:
            y, x = (int(rng.integers(reach, n - reach)) for n in taken.shape)
        if not all(reach <= c < n - reach for c, n in zip((y, x), taken.shape)):
            continue
        mask = np.zeros(taken.shape, bool)
        mask[y - reach : y + reach + 1, x - reach : x + reach + 1] = outline
        if (mask & taken).any() or (group and not _overlaps_by_much(mask, other.mask)):
            continue
        return _Placed(name, radius, angle, (y, x), mask)
    return None


def _class_of_next(group: List[_Placed], rng: np.random.Generator) -> str:
    """Another class than the last thing's, but for a few."""
    if not group:
        return str(rng.choice(THING_NAMES))
    last = group[-1].name
    if rng.random() < _SAME_CLASS_PROBABILITY:
        return last
    return str(rng.choice([name for name in THING_NAMES if name != last]))


def _overlaps_by_much(mask: np.ndarray, other: np.ndarray) -> bool:
    part = (mask & other).sum() / min(mask.sum(), other.sum())
    return bool(_OVERLAP[0] <= part <= _OVERLAP[1])


def _ranks(group: List[_Placed], is_exception: bool, rng: np.random.Generator) -> np.ndarray:
    """(len(group),) places in the order of painting: by class, or all of it the other way round."""
    classes = np.array([THING_NAMES.index(thing.name) for thing in group], dtype=np.int64)
    if is_exception:
        classes = -classes
    ranks = np.empty(len(group), np.int64)
    # The random second key is the order within a class.
    ranks[np.lexsort((rng.random(len(group)), classes))] = np.arange(len(group))
    return ranks


def _are_visible(masks: List[np.ndarray]) -> bool:
    """Whether enough is seen of each mask, from the lowest to the uppermost."""
    for k, mask in enumerate(masks):
        covered = np.zeros_like(mask)
        for above in masks[k + 1 :]:
            covered |= above
        if (mask & ~covered).sum() < _MIN_VISIBLE_FRACTION * mask.sum():
            return False
    return True


def _paint(canvas: Canvas, thing: _Placed, rng: np.random.Generator) -> None:
    """A pattern as in ``shapes_panoptic``, of two colors of the hue of the class."""
    hue = (THING_NAMES.index(thing.name) + rng.uniform(-0.2, 0.2)) / len(THING_NAMES)
    rgb = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.6, 0.95), rng.uniform(0.75, 1.0))
    light = 255 * np.array(rgb, np.float32)
    dark = light * rng.uniform(*_DARK)
    points = rotated(canvas.grid, thing.center, thing.angle)
    amount = np.asarray(thing_pattern(thing.name, points, thing.radius, rng), np.float32)
    canvas.add(thing.mask, light + amount[..., None] * (dark - light), thing.name)
