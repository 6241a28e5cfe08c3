"""Points of a depth map, and PLY files of points."""

from typing import Tuple

import numpy as np

from ...structures import atomic_path
from ..colors import hsv_to_rgb, spread_hues
from ..pictures import Array, to_numpy
from .camera import Camera

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_VOID_COLOR = (128, 128, 128)


def unproject(depth: Array, camera: Camera) -> Tuple[np.ndarray, np.ndarray]:
    """
    The points that a depth map shows.

    Args:
        depth: (H, W) in meters along the optical axis; not above 0, or not finite, is unknown.
        camera: whose image has the map's size.

    Returns:
        The points (N, 3) float32 ``(X, Y, Z)`` in meters, X to the right, Y down and Z forward from
        the camera, in raster order of the known pixels; and which these are, (H, W) bool.
    """
    depth = to_numpy(depth)
    is_known = np.isfinite(depth) & (depth > 0)
    y, x = np.nonzero(is_known)
    forward = depth[is_known].astype(np.float64)
    right = (x - camera.center[1]) * forward / camera.focal[1]
    down = (y - camera.center[0]) * forward / camera.focal[0]
    return np.stack([right, down, forward], axis=1).astype(np.float32), is_known


def color_segments(ids: Array) -> np.ndarray:
    """
    A color for each id, the same in every image.

    Args:
        ids: any shape, integer; 0 is void.

    Returns:
        (..., 3) uint8, gray for void.
    """
    ids = to_numpy(ids)
    present, inverse = np.unique(ids, return_inverse=True)
    table = hsv_to_rgb(spread_hues(present), np.array(0.65), np.array(0.95))
    table[present == 0] = _VOID_COLOR
    return table[inverse.reshape(ids.shape)]


def write_ply(path: str, points: np.ndarray, colors: np.ndarray) -> None:
    """
    Write a binary, little-endian PLY with ``x``, ``y``, ``z`` and ``red``, ``green``, ``blue``.

    Args:
        path: the file. Its folder is made.
        points: (N, 3).
        colors: (N, 3) uint8.

    Raises:
        ValueError: if there are not as many colors as points.
    """
    if points.shape != colors.shape:
        raise ValueError(f"colors must be {points.shape}, as the points, got {colors.shape}")
    vertices = np.empty(len(points), _VERTEX)
    vertices["position"], vertices["color"] = points, colors
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {name}" for name in "xyz"]
    header += [f"property uchar {name}" for name in ("red", "green", "blue")]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        vertices.tofile(file)
