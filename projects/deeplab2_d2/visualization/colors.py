"""Colors of classes, instances and directions."""

from typing import Sequence

import numpy as np

VOID_COLOR = (0, 0, 0)

# Successive multiples of the golden ratio fall far from each other on the circle of hues.
_GOLDEN_RATIO = (1 + 5**0.5) / 2


def make_class_colors(num_classes: int) -> np.ndarray:
    """
    Colors that differ, for datasets without their own.

    Returns:
        (num_classes, 3) uint8 RGB, the same on every call.
    """
    index = np.arange(num_classes)
    hue = spread_hues(index)
    saturation = np.choose(index % 3, [0.85, 0.55, 0.70])
    value = np.choose(index % 2, [0.95, 0.70])
    return hsv_to_rgb(hue, saturation, value)


def spread_hues(index: np.ndarray) -> np.ndarray:
    """Hues in [0, 1) of whole numbers; those of neighbors are far from each other."""
    return (index / _GOLDEN_RATIO) % 1.0


def vary_color(color: Sequence[int], variant: int) -> np.ndarray:
    """
    Color of the n-th instance of a class: its class's color, shifted a little.

    Args:
        color: RGB of the class.
        variant: 0 is the color itself.

    Returns:
        (3,) uint8.
    """
    # A low-discrepancy walk in the cube of +-48 around the color; it never repeats.
    steps = np.array([0.7548776662, 0.5698402910, 0.3176721962])
    shift = 96.0 * ((0.5 + variant * steps) % 1.0) - 48.0
    return np.clip(np.asarray(color, dtype=float) + shift, 0, 255).astype(np.uint8)


def hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """
    Convert arrays of hues.

    Args:
        hue: any shape, in turns: 0 and 1 are red, 1/3 green, 2/3 blue.
        saturation, value: in [0, 1], of shapes that broadcast with ``hue``.

    Returns:
        (..., 3) uint8 RGB.
    """
    # Each channel is a trapezoid over the hue, the three a third of a turn apart.
    phase = (np.asarray(hue)[..., None] + np.array([1.0, 2 / 3, 1 / 3])) % 1.0
    ramp = np.clip(np.abs(phase * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    saturation = np.asarray(saturation)[..., None]
    value = np.asarray(value)[..., None]
    return np.rint(255.0 * value * (1.0 - saturation + saturation * ramp)).astype(np.uint8)
