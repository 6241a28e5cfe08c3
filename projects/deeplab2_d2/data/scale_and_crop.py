"""Random scale and crop as one transform: what the crop does not show is not computed."""

from typing import List, Sequence, Tuple

import numpy as np
from detectron2.data import transforms as T

from .augmentation import RandomCropOrPad, RandomScale
from .resizing import Size, nearest_indices, resize_and_cut, scaled_size


class ResizeWindowTransform(T.Transform):
    """Resize with aligned corners, bilinear or nearest, and take a window, padded where outside."""

    takes_any_type = True

    def __init__(
        self,
        old_size: Size,
        new_size: Size,
        window: Tuple[int, int, int, int],
        *,
        pad_value: float,
        segment_pad_value: int,
    ):
        """
        Args:
            old_size, new_size: (height, width) in pixels, of the whole image.
            window: (top, left, height, width) in pixels of the resized image.
            pad_value, segment_pad_value: of images and of maps outside of the resized image.
        """
        super().__init__()
        self.old_size = old_size
        self.new_size = new_size
        self.window = window
        self.pad_value = pad_value
        self.segment_pad_value = segment_pad_value

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, C) float32 to the window; in memory its channels come first."""
        return resize_and_cut(img, self.new_size, self.window, fill=self.pad_value)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(H, W), a number a pixel, to the window."""
        shown = segmentation
        before, after = [], []
        for axis, (first, count) in enumerate(zip(self.window[:2], self.window[2:])):
            side = self.new_size[axis]
            start, end = (min(max(place, 0), side) for place in (first, first + count))
            indices = nearest_indices(self.old_size[axis], side)[start:end]
            shown = shown.take(indices, axis=axis)
            before.append(min(max(-first, 0), count))
            after.append(count - before[-1] - len(indices))
        if not any(before + after):
            return shown
        padding = list(zip(before, after))
        return np.pad(shown, padding, constant_values=self.segment_pad_value)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) float (x, y) pixel centers of the old map to those of the window."""
        height, width = (
            (new - 1) / (old - 1) if old > 1 else 1.0
            for old, new in zip(self.old_size, self.new_size)
        )
        top, left = self.window[:2]
        scale, start = (
            np.array(pair, dtype=coords.dtype) for pair in ((width, height), (left, top))
        )
        return coords * scale - start


class RandomScaleAndCrop(T.Augmentation):
    """
    :class:`RandomScale`, then :class:`RandomCropOrPad`: the same draws and the same pixels.

    Args:
        scale, crop: the two.
    """

    def __init__(self, scale: RandomScale, crop: RandomCropOrPad):
        super().__init__()
        self.scale = scale
        self.crop = crop

    def get_transform(self, image: np.ndarray, rng: np.random.Generator) -> T.Transform:
        old_size = image.shape[:2]
        new_size = scaled_size(old_size, self.scale.draw(rng))
        return ResizeWindowTransform(
            old_size,
            new_size,
            self.crop.draw(new_size, rng),
            pad_value=self.crop.pad_value,
            segment_pad_value=self.crop.segment_pad_value,
        )


def join_scales_and_crops(augmentations: Sequence[T.Augmentation]) -> List[T.Augmentation]:
    """The same augmentations, in which a random crop that follows a random scale is one with it."""
    joined: List[T.Augmentation] = []
    for augmentation in augmentations:
        if joined and type(joined[-1]) is RandomScale and type(augmentation) is RandomCropOrPad:
            augmentation = RandomScaleAndCrop(joined.pop(), augmentation)
        joined.append(augmentation)
    return joined
