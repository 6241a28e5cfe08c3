"""Pictures of what lies on top of what."""

import numpy as np

from .colors import VOID_COLOR
from .pictures import Array, draw_heatmap, to_numpy


def draw_ranking_map(probability: Array, covered: Array, colors: Array) -> np.ndarray:
    """
    The colors of the classes, mixed as their probabilities to be on top.

    Args:
        probability: (T, H, W) float, of each class, sums to 1.
        covered: (H, W) bool; black where False.
        colors: (T, 3) RGB.

    Returns:
        (H, W, 3) uint8.
    """
    mixed = np.einsum("thw,tc->hwc", to_numpy(probability).astype(float), to_numpy(colors))
    picture = np.rint(mixed).clip(0, 255).astype(np.uint8)
    picture[~to_numpy(covered).astype(bool)] = VOID_COLOR
    return picture


def draw_pair(first: Array, second: Array, first_above: Array) -> np.ndarray:
    """
    Two masks, grey, and which of them is on top where both are.

    Args:
        first, second: (H, W) bool; the first is light grey, the second dark.
        first_above: (H, W) float in [0, 1], drawn as a heatmap where both are.

    Returns:
        (H, W, 3) uint8.
    """
    first, second = to_numpy(first).astype(bool), to_numpy(second).astype(bool)
    picture = np.zeros((*first.shape, 3), np.uint8)
    picture[second], picture[first] = 80, 200
    heat = draw_heatmap(first_above)
    picture[first & second] = heat[first & second]
    return picture
