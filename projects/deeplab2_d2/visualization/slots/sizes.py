"""Pictures and label maps at the sizes that they are shown at."""

from typing import Tuple

import numpy as np
from PIL import Image

Size = Tuple[int, int]


def fit(size: Size, longest: int) -> Size:
    """(height, width) of the same shape whose longer side is at most ``longest`` pixels."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize(picture: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, 3) uint8 to another size, smoothly."""
    how = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), how))


def pick(labels: np.ndarray, size: Size) -> np.ndarray:
    """(H, W) labels to another size: those of the nearest pixels, corners aligned."""
    rows, columns = (
        np.rint(np.linspace(0, old - 1, new)).astype(int) for old, new in zip(labels.shape, size)
    )
    return labels[rows[:, None], columns]
