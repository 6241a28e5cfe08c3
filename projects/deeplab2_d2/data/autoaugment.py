"""
Color augmentation by an AutoAugment policy, as in DeepLab2.

Reference: DeepLab2's ``autoaugment_utils.py`` and ``autoaugment_policy.py``, after AutoAugment
(CVPR 2019). Only operations on color are in the policy, so labels stay as they are.
The operations follow Pillow's but for the arithmetic (truncation, not rounding, and their own
mean in ``contrast``), in which they equal DeepLab2's.
"""

from typing import Callable, Dict, Sequence, Tuple

import numpy as np
from detectron2.data import transforms as T

# An operation, its probability and its level in 0 .. 10.
Step = Tuple[str, float, float]

# DeepLab2's "simple_classification_policy", as found by the search for its classifiers. One of
# the rows is drawn for an image, and each of its two steps applied with its probability.
POLICIES: Dict[str, Sequence[Tuple[Step, Step]]] = {
    "simple_classification_policy": (
        (("Sharpness", 0.4, 7), ("Brightness", 0.2, 10)),
        (("Equalize", 0.0, 9), ("Contrast", 0.2, 10)),
        (("Sharpness", 0.2, 9), ("Color", 0.2, 9)),
        (("Solarize", 0.2, 7), ("Equalize", 0.6, 9)),
        (("Sharpness", 0.2, 1), ("Equalize", 0.2, 7)),
    )
}
_MAX_LEVEL = 10.0
# ITU-R 601 luma, the weights of a grey level.
_LUMA = np.array([0.2989, 0.587, 0.114], np.float32)


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretch each channel of a (H, W, 3) uint8 image to 0 .. 255; a flat one is left alone."""
    low = image.min(axis=(0, 1)).astype(np.float32)
    high = image.max(axis=(0, 1)).astype(np.float32)
    is_flat = high <= low
    scale = np.float32(255) / np.where(is_flat, np.float32(1), high - low)
    stretched = np.clip(image.astype(np.float32) * scale - low * scale, 0, 255).astype(np.uint8)
    return np.where(is_flat, image, stretched)


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalize the histogram of each channel of a (H, W, 3) uint8 image."""
    return np.stack([_equalize_channel(image[..., c]) for c in range(3)], axis=-1)


def _equalize_channel(channel: np.ndarray) -> np.ndarray:
    histogram = np.bincount(channel.ravel(), minlength=256)
    step = (channel.size - histogram[channel.max()]) // 255
    if step == 0:
        return channel
    table = (np.cumsum(histogram) + step // 2) // step
    table = np.clip(np.concatenate([[0], table[:-1]]), 0, 255).astype(np.uint8)
    return table[channel]


def invert(image: np.ndarray) -> np.ndarray:
    """255 minus a (H, W, 3) uint8 image."""
    return 255 - image


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """
    Keep the highest ``bits`` (0 to 8) bits of a (H, W, 3) uint8 image.

    0 keeps one bit, as in DeepLab2, where a byte cannot be shifted by more than 7.
    """
    return image & np.uint8((0xFF << (8 - max(bits, 1))) & 0xFF)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """
    Invert the values from ``threshold`` (0 to 256) on of a (H, W, 3) uint8 image.

    256 inverts all of them, as in DeepLab2, where the threshold is a byte and wraps around.
    """
    return np.where(image < np.uint8(threshold % 256), image, 255 - image)


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend a (H, W, 3) uint8 image with its grey version: 0 = grey, 1 = unchanged."""
    grey = np.repeat(_grey(image)[..., None], 3, axis=-1)
    return _blend(grey, image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """
    Blend a (H, W, 3) uint8 image with a flat grey one: 0 = flat, 1 = unchanged.

    The grey is that of DeepLab2: the number of pixels over 256, at most 255, instead of the
    mean grey level that Pillow takes. So it is white for any image of a usual size.
    """
    height, width = image.shape[:2]
    level = min(height * width / 256.0, 255.0)
    return _blend(np.full_like(image, np.uint8(level)), image, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend a (H, W, 3) uint8 image with black: 0 = black, 1 = unchanged."""
    return _blend(np.zeros_like(image), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """
    Blend a (H, W, 3) uint8 image with its smoothed version: 0 = smooth, 1 = unchanged.

    The kernel is 5 in the middle and 1 around, over 13. Border pixels stay as they are.
    """
    smooth = image.copy()
    height, width = image.shape[:2]
    if height > 2 and width > 2:
        pixels = image.astype(np.float32)
        kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / np.float32(13)
        total = np.zeros((height - 2, width - 2, 3), np.float32)
        for y in range(3):
            for x in range(3):
                total += kernel[y, x] * pixels[y : y + height - 2, x : x + width - 2]
        smooth[1:-1, 1:-1] = np.clip(total, 0, 255).astype(np.uint8)
    return _blend(smooth, image, factor)


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 grey levels, rounded as TensorFlow's conversion from and to uint8 does."""
    # There, values go to [0, 1] and back with a factor of 255.5, then are cut off.
    unit = image.astype(np.float32) * np.float32(1 / 255.0)
    return (unit @ _LUMA * np.float32(255.5)).astype(np.uint8)


def _blend(first: np.ndarray, second: np.ndarray, factor: float) -> np.ndarray:
    """``first + factor (second - first)`` cut off to uint8; beyond 1 it extrapolates."""
    if factor == 1.0:
        return second
    start = first.astype(np.float32)
    mixed = start + np.float32(factor) * (second.astype(np.float32) - start)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _enhancement(level: float) -> Tuple[float]:
    return (level / _MAX_LEVEL * 1.8 + 0.1,)


# The function of an operation, and its argument for a level.
OPERATIONS: Dict[str, Tuple[Callable[..., np.ndarray], Callable[[float], tuple]]] = {
    "AutoContrast": (auto_contrast, lambda level: ()),
    "Equalize": (equalize, lambda level: ()),
    "Invert": (invert, lambda level: ()),
    "Posterize": (posterize, lambda level: (int(level / _MAX_LEVEL * 4),)),
    "Solarize": (solarize, lambda level: (int(level / _MAX_LEVEL * 256),)),
    "Color": (color, _enhancement),
    "Contrast": (contrast, _enhancement),
    "Brightness": (brightness, _enhancement),
    "Sharpness": (sharpness, _enhancement),
}


def apply_operation(image: np.ndarray, name: str, level: float) -> np.ndarray:
    """
    Apply one operation.

    Args:
        image: (H, W, 3) uint8, RGB.
        name: a key of ``OPERATIONS``.
        level: strength, 0 to 10.

    Returns:
        (H, W, 3) uint8.
    """
    function, argument = OPERATIONS[name]
    return function(image, *argument(level))


class _Recoloring(T.ColorTransform):
    """Of float32 images, which it leaves unrounded."""

    takes_any_type = True


class AutoAugment(T.Augmentation):
    """
    Apply one random row of a policy to the colors of an image.

    Args:
        policy: a key of ``POLICIES``.
        magnitude: factor on all levels; DeepLab2 has policies for 1.0 and 0.2.
    """

    def __init__(self, policy: str, magnitude: float = 1.0):
        super().__init__()
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {sorted(POLICIES)}, got {policy!r}")
        if not 0 <= magnitude <= 1:
            raise ValueError(f"magnitude must be in [0, 1], got {magnitude}")
        self.policy = policy
        self.magnitude = magnitude

    def get_transform(self, image: np.ndarray, rng: np.random.Generator) -> T.Transform:
        rows = POLICIES[self.policy]
        row = rows[int(rng.integers(len(rows)))]
        chosen = [(name, level * self.magnitude) for name, p, level in row if rng.random() < p]
        if not chosen:
            return T.NoOpTransform()

        def apply(pixels: np.ndarray) -> np.ndarray:
            # Operations are on bytes; fractions of resized images are cut off, as in DeepLab2.
            result = pixels.astype(np.uint8)
            for name, level in chosen:
                result = apply_operation(result, name, level)
            return result.astype(pixels.dtype)

        return _Recoloring(apply)
