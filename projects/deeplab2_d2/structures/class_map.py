"""From the channels of a semantic head to the contiguous class ids of a dataset."""

from dataclasses import dataclass
from typing import Tuple

import torch
from torch import Tensor

from .tables import cached_table

VOID_CLASS = -1


@dataclass(frozen=True)
class ClassMap:
    """
    Which class each channel of the semantic logits stands for.

    Attributes:
        channel_to_class: the contiguous class id of each channel; `VOID_CLASS` for a channel that
            stands for void: pixels where it wins are void in every output. The ids increase with
            the channel, so that a tie is decided alike by channel and by class.
    """

    channel_to_class: Tuple[int, ...]

    def __post_init__(self) -> None:
        classes = [c for c in self.channel_to_class if c != VOID_CLASS]
        if not classes:
            raise ValueError("channel_to_class must name at least one class, got none")
        if min(classes) < 0 or any(b <= a for a, b in zip(classes, classes[1:])):
            raise ValueError(
                "channel_to_class must increase with the channel, with -1 for void, "
                f"got {self.channel_to_class}"
            )

    @property
    def num_channels(self) -> int:
        return len(self.channel_to_class)

    @property
    def num_classes(self) -> int:
        """One more than the largest class id."""
        return max(self.channel_to_class) + 1

    @property
    def is_identity(self) -> bool:
        return self.channel_to_class == tuple(range(self.num_channels))

    def apply(self, channels: Tensor) -> Tensor:
        """
        Replace channel numbers by classes, after the arg-max.

        Args:
            channels: any shape, integer, each in ``[0, num_channels)``.

        Returns:
            Same shape, int32; -1 is void.
        """
        if self.is_identity:
            return channels.to(torch.int32)
        return _class_table(self, channels.device)[channels.long()]

    def select(self, maps: Tensor) -> Tensor:
        """(N, num_channels, ...) to (N, num_classes, ...), in the order of the classes."""
        if self.is_identity:
            return maps
        return maps.index_select(1, _class_channels(self, maps.device))

    def to_channels(self, labels: Tensor, ignore_label: int) -> Tensor:
        """
        Replace classes by channel numbers, in ground truth.

        Args:
            labels: any shape, int64: contiguous classes and the ignore label.
            ignore_label: stays what it is.

        Returns:
            The channel of each label's class, same shape.
        """
        if self.is_identity:
            return labels
        return _channel_table(self, ignore_label, labels.device)[labels]


# Made once a device: a table that is made at every step would be copied at every step.
@cached_table
def _class_table(class_map: ClassMap, device: torch.device) -> Tensor:
    return torch.tensor(class_map.channel_to_class, dtype=torch.int32).to(device)


@cached_table
def _class_channels(class_map: ClassMap, device: torch.device) -> Tensor:
    channels = [class_map.channel_to_class.index(c) for c in range(class_map.num_classes)]
    return torch.tensor(channels).to(device)


@cached_table
def _channel_table(class_map: ClassMap, ignore_label: int, device: torch.device) -> Tensor:
    size = max(ignore_label, class_map.num_classes) + 1
    table = torch.full((size,), ignore_label)
    for channel, class_id in enumerate(class_map.channel_to_class):
        if class_id != VOID_CLASS:
            table[class_id] = channel
    return table.to(device)


def identity_class_map(num_classes: int) -> ClassMap:
    """Channel i is class i: models trained here, and DeepLab2's Cityscapes models."""
    if num_classes < 1:
        raise ValueError(f"num_classes must be positive, got {num_classes}")
    return ClassMap(tuple(range(num_classes)))


def deeplab2_coco_class_map() -> ClassMap:
    """
    DeepLab2's COCO models: 134 channels, channel 0 is void and channel i is contiguous id i - 1.

    Both DeepLab2 (``data/coco_constants.py``) and Detectron2 number the 133 categories in the order
    of COCO's panoptic category list: 80 things, then 53 stuff classes.
    """
    return ClassMap((VOID_CLASS, *range(133)))


def deeplab2_ade20k_class_map() -> ClassMap:
    """DeepLab2's ADE20K models: channel 0 is void and channel i is class i - 1 of the 150."""
    return ClassMap((VOID_CLASS, *range(150)))
