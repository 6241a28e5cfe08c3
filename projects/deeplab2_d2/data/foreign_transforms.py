"""
Detectron2's and users' transforms on our images and maps.

They expect what Detectron2's own mapper gives them: images and label maps of bytes. OpenCV, Pillow
and PyTorch take float32 images and int32 maps not at all, or read them as something else; padding
of 255, which is Detectron2's ignore label, would be segment 255 here.
"""

from typing import Any

import numpy as np
from detectron2.data import transforms as T

# These move whole pixels, of any type, and make up none.
_MOVES = (T.NoOpTransform, T.CropTransform, T.HFlipTransform, T.VFlipTransform)


def apply_to_image(transform: T.Transform, image: np.ndarray) -> np.ndarray:
    """
    Args:
        transform: ours (those with ``takes_any_type``), Detectron2's, a user's, or a list of them.
        image: (H, W, C) float32 in [0, 255]. Transforms that are not ours get it rounded to uint8.

    Returns:
        the image transformed, float32.
    """
    if isinstance(transform, T.TransformList):
        for part in transform.transforms:
            image = apply_to_image(part, image)
        return image
    if _takes_any_type(transform):
        return transform.apply_image(image)
    as_bytes = np.clip(np.rint(image), 0, 255).astype(np.uint8, order="C")
    return transform.apply_image(as_bytes).astype(np.float32)


def apply_to_map(transform: T.Transform, values: np.ndarray) -> np.ndarray:
    """
    Args:
        transform: see :func:`apply_to_image`.
        values: (H, W), a number a pixel, 0 where nothing is known.

    Returns:
        the map transformed, of the same type: pixels are copied, never mixed, and 0 where the
        transform has none to copy.
    """
    if isinstance(transform, T.TransformList):
        for part in transform.transforms:
            values = apply_to_map(part, values)
        return values
    if _takes_any_type(transform):
        return transform.apply_segmentation(values)
    # Byte by byte, each of the same source pixel; a map of ones tells where there is one.
    size = values.dtype.itemsize
    planes = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape, size)
    is_known = _apply_to_bytes(transform, np.ones(values.shape, np.uint8)) == 1
    moved = np.zeros((*is_known.shape, size), np.uint8)
    for k in range(size):
        if planes[..., k].any():
            plane = _apply_to_bytes(transform, np.ascontiguousarray(planes[..., k]))
            moved[..., k] = np.where(is_known, plane, 0)
    return moved.view(values.dtype)[..., 0]


def _apply_to_bytes(transform: Any, values: np.ndarray) -> np.ndarray:
    return np.asarray(transform.apply_segmentation(values))


def _takes_any_type(transform: T.Transform) -> bool:
    return type(transform) in _MOVES or getattr(transform, "takes_any_type", False)
