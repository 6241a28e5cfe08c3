"""
The generated dataset ``shapes_classification``: images of one shape each, a folder a class.

Laid out as ImageNet is, under ``$DETECTRON2_DATASETS/shapes_classification``::

    train/<class>/*.jpg, val/<class>/*.jpg    48 x 48 pixels; the classes of ``shapes_scene.py``
    info.json                                 options; written last
"""

import os
from typing import Any, Dict

import numpy as np
from PIL import Image

from .generated import write_once
from .image_folder import SPLITS, register_image_folder
from .shapes_scene import THING_NAMES, rotated, thing_mask, thing_pattern

NAME = "shapes_classification"

_VERSION = 1
_SIDE = 48
_RADIUS = (13.0, 19.0)
# Farthest distance of a center from the image's, in both directions.
_SHIFT = 5.0
_NOISE = 5.0


def prepare_shapes_classification(
    folder: str, *, num_train: int = 200, num_val: int = 50, seed: int = 0
) -> None:
    """
    Write the dataset, or use the complete one that is there, and register it.

    Args:
        folder: where it goes.
        num_train, num_val: images of each class.
        seed: equal options write equal files.

    Raises:
        ValueError: if a number is below 1, or ``folder`` holds something else.
    """
    if min(num_train, num_val) < 1:
        raise ValueError(f"num_train and num_val must be at least 1, got {num_train} and {num_val}")
    numbers = dict(zip(SPLITS, (num_train, num_val)))
    wanted = {"version": _VERSION, "images_per_class": numbers, "seed": seed}

    def write(partial: str) -> Dict[str, Any]:
        for number, split in enumerate(SPLITS):
            rng = np.random.default_rng([seed, number])
            _write_split(os.path.join(partial, split), numbers[split], rng)
        return {}

    write_once(folder, NAME, wanted, write)
    register_image_folder(NAME, folder)


def _write_split(folder: str, per_class: int, rng: np.random.Generator) -> None:
    for name in THING_NAMES:
        os.makedirs(os.path.join(folder, name))
        for number in range(per_class):
            path = os.path.join(folder, name, f"{number:05d}.jpg")
            Image.fromarray(draw_shape(name, rng)).save(path, quality=95, subsampling=0)


def draw_shape(name: str, rng: np.random.Generator) -> np.ndarray:
    """
    An image of one shape, turned at random, of random colors.

    Args:
        name: of ``THING_NAMES``.
        rng: the only source of randomness.

    Returns:
        (48, 48, 3) uint8, RGB.
    """
    grid = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32)
    row, column = (_SIDE - 1) / 2 + rng.uniform(-_SHIFT, _SHIFT, 2)
    points = rotated(grid, (row, column), rng.uniform(0, 2 * np.pi))
    radius = rng.uniform(*_RADIUS)
    ground, light = rng.uniform(60, 255, (2, 3))
    dark = light * rng.uniform(0.1, 0.4)
    amount = np.asarray(thing_pattern(name, points, radius, rng), np.float32)[..., None]
    shape = light + amount * (dark - light)
    image = np.where(thing_mask(name, points, radius)[..., None], shape, ground)
    return np.clip(image + rng.normal(0, _NOISE, image.shape), 0, 255).astype(np.uint8)
