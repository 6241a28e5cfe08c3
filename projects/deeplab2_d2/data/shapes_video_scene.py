"""
The still part of a scene of the generated dataset ``shapes_video``: camera, ground, wall and sky.

World coordinates are meters: x to the right of the camera, z ahead of it, heights above the
ground. A pinhole camera looks straight ahead; where it is tilted up or down, the horizon is just
another row. So a point at (x, z) and height ``up`` is seen at column ``center + focal * x / z``
and row ``horizon + focal * (camera height - up) / z``.
"""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

THING_NAMES = ("box", "ball", "cone")
STUFF_NAMES = ("ground", "wall", "sky")
CLASS_NAMES = THING_NAMES + STUFF_NAMES
# Pixels; 1 + a multiple of the strides of networks.
HEIGHT, WIDTH = 129, 257
FOCAL_LENGTH = 160.0
CAMERA_HEIGHT = 2.2
_HORIZON_ROWS = (46.0, 60.0)
_WALL_DEPTHS = (18.0, 34.0)
_WALL_HEIGHTS = (5.0, 8.0)
_HOUSE_WIDTHS = (45, 90)
_TILE = 1.5
_WINDOW = 1.8


@dataclass(frozen=True)
class Camera:
    """
    A pinhole camera above the ground.

    Args:
        horizon: row of the image where things at its own height are seen.
    """

    horizon: float

    def project(self, x: float, z: float, up: float = 0.0) -> Tuple[float, float]:
        """``(y, x)`` in pixels of a point in meters, at height ``up`` above the ground."""
        scale = FOCAL_LENGTH / z
        return self.horizon + (CAMERA_HEIGHT - up) * scale, (WIDTH - 1) / 2 + x * scale

    def unproject(self, column: float, z: float) -> float:
        """x in meters of what is seen in a column at depth ``z``."""
        return (column - (WIDTH - 1) / 2) * z / FOCAL_LENGTH

    def ground_depths(self) -> np.ndarray:
        """(HEIGHT, 1) meters to the ground in each row; infinite from the horizon upwards."""
        below = np.arange(HEIGHT)[:, None] - self.horizon
        with np.errstate(divide="ignore"):
            return np.where(below > 0, CAMERA_HEIGHT * FOCAL_LENGTH / below, np.inf)


@dataclass(frozen=True)
class Background:
    """
    What stands still.

    Args:
        image: (H, W, 3) float32, RGB, 0 to 255.
        class_map: (H, W) uint8, place in ``CLASS_NAMES``.
        depth: (H, W) float32, meters; 0 in the sky, where it is unknown.
    """

    image: np.ndarray
    class_map: np.ndarray
    depth: np.ndarray


def draw_background(camera: Camera, rng: np.random.Generator) -> Background:
    """Ground of tiles up to a row of houses, with the sky above them."""
    image, depth = _draw_ground(camera, rng)
    class_map = np.full((HEIGHT, WIDTH), CLASS_NAMES.index("ground"), np.uint8)
    sky = _draw_sky(rng)
    left = -int(rng.integers(_HOUSE_WIDTHS[0]))
    while left < WIDTH:
        right = left + int(rng.integers(*_HOUSE_WIDTHS))
        columns = slice(max(left, 0), right)
        z, height = rng.uniform(*_WALL_DEPTHS), rng.uniform(*_WALL_HEIGHTS)
        foot, top = camera.project(0.0, z)[0], camera.project(0.0, z, height)[0]
        rows = np.arange(HEIGHT)
        is_wall, is_sky = (rows <= foot) & (rows >= top), rows < top
        for mask, texture, name, far in (
            (is_wall, _draw_house(camera, z, height, rng), "wall", z),
            (is_sky, sky, "sky", 0.0),
        ):
            image[mask, columns] = texture[mask, columns]
            class_map[mask, columns] = CLASS_NAMES.index(name)
            depth[mask, columns] = far
        left = right
    return Background(image, class_map, depth)


def draw_camera(rng: np.random.Generator) -> Camera:
    """A camera of random tilt."""
    return Camera(horizon=rng.uniform(*_HORIZON_ROWS))


def mix(light: np.ndarray, dark: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """(..., 3) float32: ``amount`` (...) of the color ``dark`` (3,), the rest of ``light``."""
    return (light + amount[..., None] * (dark - light)).astype(np.float32)


def random_color(rng: np.random.Generator, saturation: float, brightness: float) -> np.ndarray:
    """(3,) of a random hue; both other numbers in [0, 1]."""
    phases = 2 * np.pi * (rng.random() + np.arange(3) / 3)
    return 255 * brightness * (1 - saturation * (0.5 - 0.5 * np.cos(phases)))


def _draw_ground(camera: Camera, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """Image and depth of tiles of uneven brightness that lie on the ground, in every row."""
    depth = np.broadcast_to(camera.ground_depths(), (HEIGHT, WIDTH)).astype(np.float32)
    z = np.minimum(depth, 2 * _WALL_DEPTHS[1])
    x = (np.arange(WIDTH) - (WIDTH - 1) / 2) * z / FOCAL_LENGTH + rng.uniform(0, _TILE)
    rows, columns = np.floor(z / _TILE).astype(int), np.floor(x / _TILE).astype(int)
    brightness = rng.random((64, 128))
    amount = 0.3 * brightness[rows % 64, columns % 128] + 0.25 * ((rows + columns) % 2)
    seam = np.minimum(
        np.abs(x / _TILE - np.round(x / _TILE)), np.abs(z / _TILE - np.round(z / _TILE))
    )
    # Seams thinner than a pixel would flicker from row to row.
    amount += 0.3 * np.clip(1 - seam * _TILE * FOCAL_LENGTH / z, 0, 1) * np.clip(12 / z, 0, 1)
    color = random_color(rng, saturation=0.2, brightness=rng.uniform(0.55, 0.75))
    return mix(color, 0.45 * color, amount), depth


def _draw_sky(rng: np.random.Generator) -> np.ndarray:
    """(HEIGHT, WIDTH, 3): blue above, pale below, with a few soft clouds."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    amount = np.clip(1 - rows / _HORIZON_ROWS[1], 0, 1) * 0.9
    for _ in range(4):
        y, x = rng.uniform(0, 30), rng.uniform(0, WIDTH)
        amount *= 1 - 0.8 * np.exp(-(((rows - y) / 5) ** 2) - ((columns - x) / 25) ** 2)
    return mix(np.array([235.0, 240, 245]), np.array([90.0, 150, 225]), amount)


def _draw_house(camera: Camera, z: float, height: float, rng: np.random.Generator) -> np.ndarray:
    """(HEIGHT, WIDTH, 3): a front at depth ``z`` with rows of windows, in every pixel."""
    up = CAMERA_HEIGHT - (np.arange(HEIGHT)[:, None] - camera.horizon) * z / FOCAL_LENGTH
    x = (np.arange(WIDTH)[None] - (WIDTH - 1) / 2) * z / FOCAL_LENGTH + rng.uniform(0, _WINDOW)
    inside_x = np.abs((x / _WINDOW) % 1 - 0.5) < 0.28
    inside_y = np.abs((up / _WINDOW) % 1 - 0.55) < 0.3
    is_window = inside_x & inside_y & (up > 0.3) & (up < height - 0.3)
    color = random_color(rng, saturation=0.35, brightness=rng.uniform(0.5, 0.8))
    return mix(color, 0.4 * color, np.where(is_window, 1.0, 0.12 * (height - up) / height))
