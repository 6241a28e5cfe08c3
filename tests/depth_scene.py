"""A scene whose depth is known exactly: a street with boxes, balls and a wall at its end."""

from typing import NamedTuple, Tuple

import numpy as np

_GROUND_Y, _WALL_Z = 1.5, 40.0
# (X, Z) of the middle, half the width and height above the ground; and color.
_BOXES = (
    (-3.2, 12.0, 1.0, 1.6, (200, 60, 50)),
    (3.4, 16.0, 1.0, 1.6, (50, 90, 200)),
    (-3.4, 24.0, 1.2, 2.6, (220, 160, 40)),
    (0.2, 30.0, 1.2, 2.2, (90, 160, 90)),
)
# (X, Y, Z), radius and color.
_BALLS = ((1.4, 0.9, 9.0, 0.6, (230, 120, 190)), (-0.8, 1.0, 14.0, 0.5, (110, 200, 220)))


class DepthScene(NamedTuple):
    """
    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float64, meters; 0 in the sky.
        ids: (H, W) int64, of what is seen; 0 in the sky.
    """

    image: np.ndarray
    depth: np.ndarray
    ids: np.ndarray


def draw_depth_scene(size: Tuple[int, int], focal_length: float) -> DepthScene:
    """What a camera sees that looks through the middle of an image of (height, width)."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    ray_y = (y - (size[0] - 1) / 2) / focal_length
    ray_x = (x - (size[1] - 1) / 2) / focal_length
    depth, ids = np.full(size, np.inf), np.zeros(size, np.int64)
    colors = np.zeros((*size, 3))

    def put(distance: np.ndarray, is_hit: np.ndarray, number: int, color: np.ndarray) -> None:
        is_seen = is_hit & (distance > 0) & (distance < depth)
        depth[is_seen], ids[is_seen] = distance[is_seen], number
        colors[is_seen] = np.broadcast_to(color, colors.shape)[is_seen]

    ground = _GROUND_Y / np.where(ray_y > 0, ray_y, np.inf)
    tiles = (np.floor(ray_x * ground / 1.5) + np.floor(ground / 2.5)) % 2
    put(ground, (ray_y > 0) & (ground < _WALL_Z), 1, (110 + 50 * tiles)[..., None])
    wall = np.full(size, _WALL_Z)
    bricks = (np.floor(ray_y * wall / 0.8) + np.floor(ray_x * wall / 1.6)) % 2
    is_wall = (ray_y * wall > -4) & (abs(ray_x * wall) < 9)
    put(wall, is_wall, 2, np.stack([150 + 30 * bricks, 120 + 20 * bricks, 100 + 0 * bricks], -1))
    for number, (middle, z, half, height, color) in enumerate(_BOXES, start=3):
        face = np.full(size, z)
        is_face = (abs(ray_x * z - middle) < half) & (ray_y * z < _GROUND_Y)
        put(face, is_face & (ray_y * z > _GROUND_Y - height), number, np.array(color))
    for number, (*center, radius, color) in enumerate(_BALLS, start=7):
        rays = np.stack([ray_x, ray_y, np.ones(size)], axis=-1)
        along, square = rays @ np.array(center), (rays**2).sum(axis=-1)
        root = along**2 - square * (np.square(center).sum() - radius**2)
        distance = (along - np.sqrt(np.maximum(root, 0))) / square
        shade = 0.6 + 0.4 * np.clip((center[1] - ray_y * distance) / radius, -1, 1)
        put(distance, root > 0, number, shade[..., None] * color)
    image = np.where(ids[..., None] > 0, colors, (190, 215, 240))
    return DepthScene(
        image.clip(0, 255).astype(np.uint8), np.where(np.isfinite(depth), depth, 0.0), ids
    )
