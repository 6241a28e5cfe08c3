"""Sizes of written text, with the one font that Pillow brings."""

from functools import lru_cache
from typing import Any, Tuple

import numpy as np
from PIL import ImageFont


@lru_cache(maxsize=None)
def font(text_size: int) -> Any:
    """Pillow's own font, of a height in pixels, if it has that."""
    try:
        return ImageFont.load_default(text_size)
    except (TypeError, ImportError):
        # Pillow before 10.1, or without FreeType, has one of one size.
        return ImageFont.load_default()


@lru_cache(maxsize=4096)
def text_box(text: str, text_size: int) -> Tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of what is written, from where it is written."""
    left, top, right, bottom = font(text_size).getbbox(text)
    return int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))


@lru_cache(maxsize=None)
def text_middle(text_size: int) -> int:
    """From the top of a text to the middle of its capitals."""
    _, top, _, bottom = text_box("H", text_size)
    return (top + bottom) // 2
