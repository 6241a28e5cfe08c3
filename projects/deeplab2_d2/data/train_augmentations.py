"""The augmentations that a config asks for in training."""

from typing import List

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from .augmentation import RandomCropOrPad, RandomHorizontalFlip, RandomScale, ResizeToRange
from .autoaugment import AutoAugment


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
