"""
One sequence of the generated dataset ``shapes_video``: what moves in it, and its frames.

The things of a sequence are planned until it has what an evaluation of tracking needs: some things
of one class that hide each other, and neither too few nor too many at a time.
"""

from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from .shapes_video_scene import (
    CLASS_NAMES,
    HEIGHT,
    THING_NAMES,
    WIDTH,
    Background,
    Camera,
    draw_background,
    draw_camera,
)
from .shapes_video_things import (
    Patch,
    Thing,
    class_of,
    draw_looks,
    draw_size,
    paint_thing,
    see_thing,
    shadow_of,
)

NUM_FRAMES = 24
# Of the things in a frame, fewest and most.
NUM_VISIBLE = (4, 9)
# So many things of one class hide one another or are hidden, by at least this part of the one.
_NUM_CROSSING = 4
_HIDDEN_FRACTION = 0.25
# Of all things in all frames, at most this part has fewer visible pixels than so many.
_SMALL_FRACTION = 0.12
SMALL_AREA = 100
# Nearest and farthest depth of a thing at the time it passes; meters.
_DEPTHS = (5.5, 11.0)
# Least difference of depth where one is before the other; meters.
_GAP = 0.4
_PLACEMENT_TRIALS = 40


@dataclass(frozen=True)
class Pace:
    """
    How the things of a sequence move.

    Args:
        num_things: over all frames.
        speed: least and greatest to the side, widths of the thing itself a frame.
        approach: greatest towards the camera or away from it, meters a frame.
        passing: first and last frame at which a thing passes the middle part of the image.
    """

    num_things: int
    speed: Tuple[float, float]
    approach: float
    passing: Tuple[float, float]


# By the word that the name of a sequence begins with.
PACES = {
    "slow": Pace(num_things=10, speed=(0.06, 0.15), approach=0.08, passing=(-10, 33)),
    "fast": Pace(num_things=18, speed=(0.62, 0.85), approach=0.05, passing=(-5, 28)),
}


def pace_name(number: int) -> str:
    """The pace of a sequence: those of even numbers are slow, the others fast."""
    return tuple(PACES)[number % len(PACES)]


@dataclass(frozen=True)
class VideoFrame:
    """
    A frame and the truth about it.

    Args:
        image: (H, W, 3) uint8, RGB.
        class_map: (H, W) uint8, place in ``CLASS_NAMES``.
        track_map: (H, W) uint8, number of the thing in its class, the same in all frames, from 1;
            0 where there is none.
        depth: (H, W) float32, meters; 0 in the sky, where it is unknown.
    """

    image: np.ndarray
    class_map: np.ndarray
    track_map: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _View:
    """
    Where all things are in a frame.

    Args:
        patches: place of a thing among the things and what is seen of it; the farthest first.
        owners: (H, W) int32, place of the thing that is seen in a pixel plus 1, 0 for none.
    """

    patches: List[Tuple[int, Patch]]
    owners: np.ndarray


def draw_sequence(pace: Pace, rng: np.random.Generator) -> Iterator[VideoFrame]:
    """
    Draw the ``NUM_FRAMES`` frames of a sequence, one after the other.

    Args:
        pace: of ``PACES``.
        rng: the only source of randomness; equal generators draw equal sequences.
    """
    camera = draw_camera(rng)
    background = draw_background(camera, rng)
    is_good = False
    while not is_good:
        things = _plan_things(camera, pace, rng)
        views = [_view(things, camera, frame) for frame in range(NUM_FRAMES)]
        is_good = _is_good(things, views)
    numbers = _number_things(things, views)
    for frame, view in enumerate(views):
        yield _draw_frame(background, things, numbers, view, frame)


def _plan_things(camera: Camera, pace: Pace, rng: np.random.Generator) -> List[Thing]:
    """Two thirds are of one class; two in succession pass the same place at the same time."""
    often, *others = rng.permutation(THING_NAMES).tolist()
    num_often = 2 * pace.num_things // 3
    names = [often if k < num_often else others[k % 2] for k in range(pace.num_things)]
    meetings = rng.permutation(np.linspace(*pace.passing, (pace.num_things + 1) // 2))
    # The others may also be met at the sides, where they enter and leave.
    reach = np.where(np.arange(len(meetings)) < num_often // 2, 0.35, 0.6)
    columns = (0.5 + reach * rng.uniform(-1, 1, len(meetings))) * WIDTH
    headings = rng.choice([-1, 1], len(meetings))
    things: List[Thing] = []
    for k, (name, look) in enumerate(zip(names, draw_looks(names, rng))):
        width, height = draw_size(name, rng)
        heading = headings[k // 2] * (1 if k % 2 else -1)
        for _ in range(_PLACEMENT_TRIALS):
            velocity = (
                heading * width * rng.uniform(*pace.speed),
                rng.uniform(-1, 1) * pace.approach,
            )
            z, frame = rng.uniform(*_DEPTHS), round(meetings[k // 2])
            start = camera.unproject(columns[k // 2], z) - frame * velocity[0], z
            thing = Thing(name, width, height, start, velocity, look)
            if not any(_touch(thing, other) for other in things):
                things.append(thing)
                break
    return things


def _touch(one: Thing, other: Thing) -> bool:
    """Whether two things are in the same place in any frame."""
    frames = np.arange(NUM_FRAMES)[:, None]
    ways = [np.array(t.start) + frames * np.array(t.velocity) for t in (one, other)]
    apart = np.abs(ways[0] - ways[1])
    return bool(np.any((apart[:, 0] < (one.width + other.width) / 2) & (apart[:, 1] < _GAP)))


def _view(things: Sequence[Thing], camera: Camera, frame: int) -> _View:
    order = sorted(range(len(things)), key=lambda k: -things[k].at(frame)[1])
    patches = [(k, see_thing(things[k], camera, frame)) for k in order]
    owners = np.zeros((HEIGHT, WIDTH), np.int32)
    for k, patch in patches:
        owners[patch.rows, patch.columns][patch.mask] = k + 1
    return _View(patches, owners)


def _is_good(things: Sequence[Thing], views: Sequence[_View]) -> bool:
    """Whether the things of each frame are neither few nor many, nor small, and some cross."""
    areas = np.array([np.bincount(v.owners.ravel(), minlength=len(things) + 1) for v in views])
    seen = areas[:, 1:] > 0
    is_small = seen & (areas[:, 1:] < SMALL_AREA)
    counts = seen.sum(axis=1)
    if counts.min() < NUM_VISIBLE[0] or counts.max() > NUM_VISIBLE[1]:
        return False
    if is_small.sum() > _SMALL_FRACTION * seen.sum():
        return False
    return _num_crossing(things, views) >= _NUM_CROSSING


def _num_crossing(things: Sequence[Thing], views: Sequence[_View]) -> int:
    """How many things hide one of their class or are hidden by it, of the class with most."""
    kinds = np.array([class_of(thing) for thing in things])
    is_crossing = np.zeros(len(things), bool)
    for view in views:
        for k, patch in view.patches:
            inside = view.owners[patch.rows, patch.columns][patch.mask]
            hidden_by = np.bincount(inside, minlength=len(things) + 1)[1:]
            hides = (kinds == kinds[k]) & (hidden_by > _HIDDEN_FRACTION * inside.size)
            hides[k] = False
            is_crossing |= hides
            is_crossing[k] |= hides.any()
    return int(np.bincount(kinds[is_crossing], minlength=1).max())


def _number_things(things: Sequence[Thing], views: Sequence[_View]) -> np.ndarray:
    """
    Number of each thing in its class, from 1, in the order of their first frames.

    Returns:
        (len(things) + 1,) uint8, as a table for ``owners``; 0 for those that are never seen.
    """
    numbers = np.zeros(len(things) + 1, np.uint8)
    counts = [0] * len(THING_NAMES)
    for view in views:
        for owner in np.unique(view.owners):
            if owner and not numbers[owner]:
                kind = class_of(things[owner - 1])
                counts[kind] += 1
                numbers[owner] = counts[kind]
    return numbers


def _draw_frame(
    background: Background, things: Sequence[Thing], numbers: np.ndarray, view: _View, frame: int
) -> VideoFrame:
    image, depth = background.image.copy(), background.depth.copy()
    class_map = background.class_map.copy()
    for k, patch in view.patches:
        window = patch.rows, patch.columns
        on_ground = class_map[window] == CLASS_NAMES.index("ground")
        image[window] *= 1 - (on_ground * shadow_of(things[k], patch))[..., None]
        # Pixels at the outline are partly of what is behind.
        cover = np.clip(0.5 - patch.distance, 0, 1)[..., None]
        image[window] += cover * (paint_thing(things[k], patch, frame) - image[window])
        class_map[window][patch.mask] = class_of(things[k])
        depth[window][patch.mask] = things[k].at(frame)[1]
    return VideoFrame(np.rint(image).astype(np.uint8), class_map, numbers[view.owners], depth)
