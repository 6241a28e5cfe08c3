"""From an image of one class to what a classifier takes: a crop of one size, its colors changed."""

import math
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from .autoaugment import POLICIES, AutoAugment
from .reading import read_image
from .resizing import Size
from .seeding import global_states

_HANDED_THROUGH = ("file_name", "image_id", "class_id", "height", "width")
# Crops that are drawn before the middle of the image is taken.
_MOST_DRAWS = 10
# (top, left, height, width) in pixels of the image.
Box = Tuple[int, int, int, int]

COLOR_POLICIES = ("none", "autoaugment", "randaugment", *POLICIES)


class ClassificationMapper:
    """
    Read an image; in training take a random part of it, else its middle, at the network's size.

    In training as for "Inception" (arXiv:1409.4842): a part of a random share of the image's area
    and of a random aspect ratio, mirrored in half of the cases, then a policy. In evaluation the
    shorter side is brought to ``size / crop_fraction`` and the middle is cut out.

    A sample has ``image`` ((3, height, width) float32, 0 to 255), ``class_id`` in training an int64
    scalar, and the dict's ``file_name`` and ``image_id``.
    """

    needs_partner = False

    def __init__(
        self,
        *,
        is_train: bool,
        size: Size,
        image_format: str = "RGB",
        area_range: Tuple[float, float] = (0.08, 1.0),
        aspect_range: Tuple[float, float] = (3 / 4, 4 / 3),
        flips: bool = True,
        policy: str = "none",
        crop_fraction: float = 0.875,
    ):
        """
        Args:
            is_train: training or test samples.
            size: (height, width) of the samples.
            image_format: "RGB" or "BGR".
            area_range: share of the image's area, least and greatest, in (0, 1].
            aspect_range: width over height of the part, least and greatest.
            flips: mirror left and right in half of the cases.
            policy: of ``COLOR_POLICIES``: AutoAugment's for ImageNet (arXiv:1805.09501, Table 9) or
                RandAugment (arXiv:1909.13719, two operations of magnitude 9), as torchvision has
                them, or one of DeepLab2's.
            crop_fraction: in (0, 1].

        Raises:
            ValueError: for an unknown policy.
        """
        if policy not in COLOR_POLICIES:
            raise ValueError(f"policy must be one of {COLOR_POLICIES}, got {policy!r}")
        self.is_train = is_train
        self.size = size
        self.image_format = image_format
        self.area_range = area_range
        self.aspect_range = aspect_range
        self.flips = flips
        self.crop_fraction = crop_fraction
        self._recolor = _policy(policy)

    def __call__(
        self,
        dataset_dict: Dict[str, Any],
        rng: Optional[np.random.Generator] = None,
        partner: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """
        Args:
            dataset_dict: with ``file_name`` and ``class_id``; not changed.
            rng: where training draws from; None: a new generator from numpy's global state.
            partner: not used.

        Raises:
            FileNotFoundError, ValueError: if the image is not there or cannot be read.
        """
        sample = {key: dataset_dict[key] for key in _HANDED_THROUGH if key in dataset_dict}
        image = read_image(dataset_dict["file_name"], self.image_format)
        height, width = image.shape[:2]
        if self.is_train:
            rng = rng or np.random.default_rng(np.random.randint(2**31, size=4))
            image = resized_part(image, self.draw_box((height, width), rng), self.size)
            if self.flips and rng.random() < 0.5:
                image = image[:, ::-1]
            image = self._recolor(np.ascontiguousarray(image), rng)
            sample["class_id"] = torch.tensor(dataset_dict["class_id"])
        else:
            image = resized_part(image, self.middle_box((height, width)), self.size)
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return sample

    def draw_box(self, size: Size, rng: np.random.Generator) -> Box:
        """
        The part of an image of ``size`` that a training sample shows.

        Area and (the logarithm of) the aspect ratio are drawn evenly until the part fits; after ten
        parts that do not, it is the middle, of the nearest ratio that is allowed.
        """
        height, width = size
        low, high = (math.log(ratio) for ratio in self.aspect_range)
        for _ in range(_MOST_DRAWS):
            area = height * width * rng.uniform(*self.area_range)
            ratio = math.exp(rng.uniform(low, high))
            rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
                return int(top), int(left), rows, columns
        ratio = min(max(width / height, self.aspect_range[0]), self.aspect_range[1])
        rows, columns = min(height, round(width / ratio)), min(width, round(height * ratio))
        return _middle(size, max(1, rows), max(1, columns))

    def middle_box(self, size: Size) -> Box:
        """The part of an image of ``size`` that a test sample shows, of its shape."""
        height, width = size
        # Pixels of the image for each of the sample, so that the part fits in both sides.
        scale = self.crop_fraction * min(height / self.size[0], width / self.size[1])
        rows, columns = (max(1, round(side * scale)) for side in self.size)
        return _middle(size, min(rows, height), min(columns, width))


def resized_part(image: np.ndarray, box: Box, size: Size) -> np.ndarray:
    """
    A part of an image at another size, bilinear, low-pass where it shrinks.

    Args:
        image: (H, W, C) float32, 0 to 255.
        box: the part.
        size: (height, width) wanted.

    Returns:
        (height, width, C) float32.
    """
    top, left, rows, columns = box
    part = np.ascontiguousarray(image[top : top + rows, left : left + columns].transpose(2, 0, 1))
    resized = F.interpolate(
        torch.from_numpy(part)[None], size=tuple(size), mode="bilinear", antialias=True
    )
    return resized[0].permute(1, 2, 0).numpy()


def _middle(size: Size, rows: int, columns: int) -> Box:
    return (size[0] - rows) // 2, (size[1] - columns) // 2, rows, columns


def _policy(name: str) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """From an (H, W, 3) image, RGB or not, to one of other colors (and places)."""
    if name == "none":
        return lambda image, rng: image
    if name in POLICIES:
        augmentation = AutoAugment(name)
        return lambda image, rng: augmentation.get_transform(image, rng).apply_image(image)
    # A dependency of Detectron2; slow to import.
    from torchvision.transforms import AutoAugment as ImageNetPolicy
    from torchvision.transforms import RandAugment

    # What a part leaves empty is the mean pixel, as in training pads of DeepLab2.
    fill = [127.5, 127.5, 127.5]
    theirs: Any = ImageNetPolicy(fill=fill) if name == "autoaugment" else RandAugment(fill=fill)

    def apply(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pixels = torch.from_numpy(np.rint(image).clip(0, 255).astype(np.uint8))
        with global_states(rng):
            changed = theirs(pixels.permute(2, 0, 1))
        return changed.permute(1, 2, 0).numpy().astype(np.float32)

    return apply
