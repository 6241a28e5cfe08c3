"""
Augmentations of DeepLab2, as augmentations and transforms of Detectron2.

They differ from Detectron2's in two ways: resizing is with aligned corners, and randomness comes
only from the generator that the input carries (``rng``, an argument of ``get_transform`` that
Detectron2 looks up by name), so that a sample depends on its seed and on nothing else.
"""

from typing import Any, List, Optional, Tuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from .autoaugment import AutoAugment
from .foreign_transforms import apply_to_image, apply_to_map
from .resizing import Size, resize_bilinear, resize_nearest, scaled_size, size_in_range

# DeepLab2 pads with the mean pixel, which normalization maps to 0.
MEAN_PIXEL = 127.5


class PanopticAugInput(T.AugInput):
    """
    An image, its segment map and the generator that its augmentations draw from.

    Args:
        image: (H, W, 3) float32 in [0, 255].
        segment_map: (H, W) integer, 0 where unlabeled; None without labels.
        rng: the generator; None where nothing random is applied.
    """

    def __init__(
        self,
        image: np.ndarray,
        segment_map: Optional[np.ndarray] = None,
        rng: Optional[np.random.Generator] = None,
    ):
        super().__init__(image, sem_seg=segment_map)
        self.rng = rng

    def transform(self, tfm: T.Transform) -> None:
        """Apply a transform, ours or another's, to image and map."""
        image: np.ndarray = self.image
        self.image: Any = apply_to_image(tfm, image)
        segment_map: Optional[np.ndarray] = self.sem_seg
        if segment_map is not None:
            self.sem_seg: Any = apply_to_map(tfm, segment_map)


class AlignedResizeTransform(T.Transform):
    """Resize with aligned corners: bilinear for images, nearest for label maps."""

    takes_any_type = True

    def __init__(self, old_size: Size, new_size: Size):
        """
        Args:
            old_size, new_size: (height, width) in pixels.
        """
        super().__init__()
        self.old_size = old_size
        self.new_size = new_size

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, C) float32 to the new size."""
        return resize_bilinear(img, self.new_size)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(H, W) integer to the new size."""
        return resize_nearest(segmentation, self.new_size)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) float (x, y) pixel centers of the old map to those of the new one."""
        height, width = (
            (new - 1) / (old - 1) if old > 1 else 1.0
            for old, new in zip(self.old_size, self.new_size)
        )
        return coords * np.array([width, height], dtype=coords.dtype)

    def inverse(self) -> "AlignedResizeTransform":
        """The transform back to the old size."""
        return AlignedResizeTransform(self.new_size, self.old_size)


class ResizeToRange(T.Augmentation):
    """
    Resize so that the sides lie in a range; see :func:`size_in_range`.

    Args:
        min_size: least length of the shorter side; 0 = no such bound.
        max_size: greatest length of the longer side; 0 = no such bound.
    """

    def __init__(self, min_size: int, max_size: int):
        super().__init__()
        if min_size < 0 or max_size < 0:
            raise ValueError(
                f"min_size and max_size must not be negative, got {min_size}, {max_size}"
            )
        self.min_size = min_size
        self.max_size = max_size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        old_size = image.shape[:2]
        bounds = (self.min_size, self.min_size), (self.max_size, self.max_size)
        return AlignedResizeTransform(old_size, size_in_range(old_size, *bounds))


class RandomScale(T.Augmentation):
    """
    Scale by a random factor.

    Args:
        min_scale, max_scale: range of the factor, 0 < min <= max.
        step: the factor is one of min, min + step, ..., max (spread evenly if ``step`` does not
            divide the range); 0 draws from the whole range.
    """

    def __init__(self, min_scale: float, max_scale: float, step: float = 0.0):
        super().__init__()
        if not 0 < min_scale <= max_scale:
            raise ValueError(
                f"min_scale and max_scale must be 0 < min <= max, got {min_scale}, {max_scale}"
            )
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.step = step

    def draw(self, rng: np.random.Generator) -> float:
        """One random factor."""
        if self.min_scale == self.max_scale:
            return self.min_scale
        if self.step == 0:
            return float(rng.uniform(self.min_scale, self.max_scale))
        num_steps = int((self.max_scale - self.min_scale) / self.step + 1)
        factors = np.linspace(self.min_scale, self.max_scale, num_steps, dtype=np.float32)
        return float(rng.choice(factors))

    def get_transform(self, image: np.ndarray, rng: np.random.Generator) -> T.Transform:
        scale = self.draw(rng)
        if scale == 1.0:
            return T.NoOpTransform()
        old_size = image.shape[:2]
        return AlignedResizeTransform(old_size, scaled_size(old_size, scale))


class MapPadTransform(T.PadTransform):
    """Detectron2's, whose padding of maps is a label of ours."""

    takes_any_type = True


class RandomCropOrPad(T.Augmentation):
    """
    Bring each side to the size of the crop: a random part of a longer one, and a shorter one at
    a random place between padding.

    DeepLab2 never pads in front as far as it could (its bound is exclusive); here every place is
    as likely as the others.

    Args:
        crop_size: (height, width) wanted.
        pad_value: grey level of the padding.
        segment_pad_value: label of the padding.
    """

    def __init__(self, crop_size: Size, pad_value: float = MEAN_PIXEL, segment_pad_value: int = 0):
        super().__init__()
        if len(crop_size) != 2 or min(crop_size) < 1:
            raise ValueError(f"crop_size must be (height, width) of at least 1, got {crop_size}")
        self.crop_size = tuple(crop_size)
        self.pad_value = pad_value
        self.segment_pad_value = segment_pad_value

    def draw(self, size: Size, rng: np.random.Generator) -> Tuple[int, int, int, int]:
        """
        Args:
            size: (height, width) of an image.

        Returns:
            a random (top, left, height, width) in its pixels; negative where it is padded in front.
        """
        (height, width), (crop_height, crop_width) = size, self.crop_size
        top = int(rng.integers(abs(crop_height - height) + 1))
        left = int(rng.integers(abs(crop_width - width) + 1))
        return (
            top if height > crop_height else -top,
            left if width > crop_width else -left,
            crop_height,
            crop_width,
        )

    def get_transform(self, image: np.ndarray, rng: np.random.Generator) -> T.Transform:
        (height, width), (crop_height, crop_width) = image.shape[:2], self.crop_size
        top, left, _, _ = self.draw((height, width), rng)
        # A side is either cut or padded, so cutting first gives the same and is cheaper.
        cut_height, cut_width = min(height, crop_height), min(width, crop_width)
        transforms = []
        if (cut_height, cut_width) != (height, width):
            y0, x0 = max(top, 0), max(left, 0)
            transforms.append(T.CropTransform(x0, y0, cut_width, cut_height, width, height))
        if (cut_height, cut_width) != self.crop_size:
            y0, x0 = max(-top, 0), max(-left, 0)
            transforms.append(
                MapPadTransform(
                    x0,
                    y0,
                    crop_width - cut_width - x0,
                    crop_height - cut_height - y0,
                    cut_width,
                    cut_height,
                    self.pad_value,
                    self.segment_pad_value,
                )
            )
        return T.TransformList(transforms)


class RandomHorizontalFlip(T.Augmentation):
    """
    Mirror left and right.

    Args:
        probability: of mirroring, 0 to 1.
    """

    def __init__(self, probability: float = 0.5):
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {probability}")
        self.probability = probability

    def get_transform(self, image: np.ndarray, rng: np.random.Generator) -> T.Transform:
        if rng.random() < self.probability:
            return T.HFlipTransform(image.shape[1])
        return T.NoOpTransform()


def build_train_augmentations(
    cfg: CfgNode, *, scale_factor: float = 1.0, segment_pad_value: int = 0
) -> List[T.Augmentation]:
    """
    The augmentations of training, in DeepLab2's order.

    Args:
        cfg: INPUT.CROP.SIZE, INPUT.RANDOM_FLIP and INPUT.DEEPLAB2.*.
        scale_factor: factor on both ends of the random scale.
        segment_pad_value: label of padding in the segment map.

    Raises:
        ValueError: if a key has a value that it must not have.
    """
    node = cfg.INPUT.DEEPLAB2
    augmentations: List[T.Augmentation] = []
    if any(node.RESIZE_RANGE):
        augmentations.append(ResizeToRange(*node.RESIZE_RANGE))
    min_scale, max_scale, step = node.SCALES
    augmentations.append(RandomScale(min_scale * scale_factor, max_scale * scale_factor, step))
    if node.AUTOAUGMENT:
        augmentations.append(AutoAugment(*node.AUTOAUGMENT))
    crop_size = tuple(cfg.INPUT.CROP.SIZE)
    augmentations.append(RandomCropOrPad(crop_size, segment_pad_value=segment_pad_value))
    if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "none"):
        raise ValueError(
            f"INPUT.RANDOM_FLIP must be 'horizontal' or 'none', got {cfg.INPUT.RANDOM_FLIP!r}"
        )
    if cfg.INPUT.RANDOM_FLIP == "horizontal":
        augmentations.append(RandomHorizontalFlip())
    return augmentations
