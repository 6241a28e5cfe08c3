"""Intrinsics of a camera, as datasets write them."""

import json
from typing import Dict, List, NamedTuple, Tuple

# Of the left color camera in KITTI's object, tracking and odometry sets, and in its raw data.
_KITTI_KEYS = ("P2", "P_rect_02")


class Camera(NamedTuple):
    """
    A pinhole without distortion, in pixels of the image.

    Attributes:
        focal: ``(y, x)`` focal lengths.
        center: ``(y, x)`` where the optical axis meets the image; the upper left pixel's middle is
            (0, 0).
    """

    focal: Tuple[float, float]
    center: Tuple[float, float]


def centered_camera(focal_length: float, size: Tuple[int, int]) -> Camera:
    """
    A camera that looks through the middle of its image.

    Args:
        focal_length: in pixels.
        size: (height, width) of the image.

    Raises:
        ValueError: if the focal length is not above 0.
    """
    if focal_length <= 0:
        raise ValueError(f"focal_length must be above 0, got {focal_length}")
    return Camera((focal_length, focal_length), ((size[0] - 1) / 2, (size[1] - 1) / 2))


def read_camera(path: str) -> Camera:
    """
    Read Cityscapes' ``..._camera.json``, or a calibration text of KITTI (left color camera).

    Raises:
        ValueError: if the file is neither of them.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from error
    return _read_cityscapes(text, path) if path.endswith(".json") else _read_kitti(text, path)


def _read_cityscapes(text: str, path: str) -> Camera:
    try:
        intrinsic = json.loads(text)["intrinsic"]
        values = {key: float(intrinsic[key]) for key in ("fy", "fx", "v0", "u0")}
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} must be JSON with numbers fx, fy, u0, v0 under 'intrinsic': {error!r}"
        ) from error
    return Camera((values["fy"], values["fx"]), (values["v0"], values["u0"]))


def _read_kitti(text: str, path: str) -> Camera:
    """A line is a name and a matrix: ``P2: `` and (3, 4) numbers, row by row."""
    lines: Dict[str, List[str]] = {}
    for name, *numbers in filter(None, map(str.split, text.splitlines())):
        lines[name.rstrip(":")] = numbers
    for key in _KITTI_KEYS:
        if key not in lines:
            continue
        try:
            matrix = [float(number) for number in lines[key]]
        except ValueError as error:
            raise ValueError(f"{path}: {key} must be numbers, {error}") from error
        if len(matrix) != 12:
            raise ValueError(f"{path}: {key} must be 12 numbers, got {len(matrix)}")
        return Camera((matrix[5], matrix[0]), (matrix[6], matrix[2]))
    raise ValueError(
        f"{path} must be a .json of Cityscapes or have a line {' or '.join(_KITTI_KEYS)}"
    )
