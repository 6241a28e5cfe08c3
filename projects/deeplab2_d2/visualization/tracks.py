"""Pictures of videos: colors that stay with a track from frame to frame."""

import numpy as np

from .colors import VOID_COLOR, hsv_to_rgb, spread_hues
from .pictures import Array, draw_boundaries, overlay, to_numpy

# Of a track's color, the share that is its class's; the rest tells it from others of the class.
_CLASS_SHARE = 0.4


def track_colors(labels: Array, colors: Array, *, label_divisor: int) -> np.ndarray:
    """
    The colors of labels, which depend on nothing else.

    Args:
        labels: (K,) integer, class * label_divisor + number; 0 or more.
        colors: (C, 3) RGB by class. Number 0 (stuff) has its class's color.
        label_divisor: see above.

    Returns:
        (K, 3) uint8, none of them black.

    Raises:
        ValueError: if a label is of no class that has a color.
    """
    labels, colors = to_numpy(labels), to_numpy(colors)
    classes, numbers = labels // label_divisor, labels % label_divisor
    wrong = labels[(labels < 0) | (classes >= len(colors))]
    if len(wrong):
        raise ValueError(
            f"labels must be from 0 to {len(colors)} * {label_divisor} - 1, got {wrong[0]}"
        )
    own = hsv_to_rgb(spread_hues(numbers), np.array(0.9), np.array(1.0))
    mixed = np.rint(_CLASS_SHARE * colors[classes] + (1 - _CLASS_SHARE) * own)
    chosen = np.where(numbers[:, None] > 0, mixed, colors[classes]).astype(np.uint8)
    # Black is void.
    return np.where(chosen.any(axis=1, keepdims=True), chosen, np.uint8(1))


def draw_tracks(track_map: Array, colors: Array, *, label_divisor: int) -> np.ndarray:
    """
    Args:
        track_map: (H, W) integer, class * label_divisor + number of the track; number 0 is stuff,
            negative labels are void.
        colors, label_divisor: see :func:`track_colors`, also for errors.

    Returns:
        (H, W, 3) uint8; void is black.
    """
    # Void is row 0.
    index = np.maximum(to_numpy(track_map), -1) + 1
    present = np.flatnonzero(np.bincount(index.ravel()))
    present = present[present > 0]
    table = np.zeros((int(present.max(initial=0)) + 1, 3), np.uint8)
    table[0] = VOID_COLOR
    table[present] = track_colors(present - 1, colors, label_divisor=label_divisor)
    return table[index]


def draw_tracks_overlay(
    image: Array, track_map: Array, colors: Array, *, label_divisor: int
) -> np.ndarray:
    """
    Tracks over their image, with the outlines of segments.

    Args:
        image: (3, H, W) or (H, W, 3), RGB 0..255.
        track_map, colors, label_divisor: see :func:`draw_tracks`.

    Returns:
        (H, W, 3) uint8.
    """
    picture = draw_tracks(track_map, colors, label_divisor=label_divisor)
    return draw_boundaries(overlay(image, picture), track_map)
