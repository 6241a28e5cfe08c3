"""Which classes the channels of the stuff branch are."""

from dataclasses import dataclass
from typing import Tuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...config import require
from ...structures import DatasetClasses
from ..model_metadata import metadata_from_config


@dataclass(frozen=True)
class StuffChannels:
    """
    Classes of the stuff branch's channels.

    Attributes:
        classes: of the dataset.
        kind: see MODEL.DEEPLAB2.OANET.SEMANTIC_CLASSES.
    """

    classes: DatasetClasses
    kind: str

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "StuffChannels":
        """
        Raises:
            ValueError: if the dataset's classes do not fit the config's; naming key and values.
        """
        made = cls(metadata_from_config(cfg), cfg.MODEL.DEEPLAB2.OANET.SEMANTIC_CLASSES)
        name = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST][0]
        heads, num_things = cfg.MODEL.ROI_HEADS.NUM_CLASSES, len(made.classes.thing_ids)
        rule = f"{num_things}, the things of dataset {name!r}"
        require(heads == num_things, "MODEL.ROI_HEADS.NUM_CLASSES", rule, heads)
        node = cfg.MODEL.SEM_SEG_HEAD
        rule = f"{made.num_channels} for {made.kind!r} of the classes of dataset {name!r}"
        is_fit = node.NUM_CLASSES == made.num_channels
        require(is_fit, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", rule, node.NUM_CLASSES)
        ignored = made.classes.ignore_label
        rule = f"{ignored}, the ignore_label of dataset {name!r}"
        is_fit = node.IGNORE_VALUE == ignored
        require(is_fit, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", rule, node.IGNORE_VALUE)
        return made

    @property
    def num_channels(self) -> int:
        """Of the stuff branch."""
        if self.kind == "all":
            return self.classes.num_classes
        return len(self.classes.stuff_ids) + (self.kind == "stuff_and_thing")

    @property
    def stuff_channels(self) -> Tuple[int, ...]:
        """Channel of each of the stuff classes, ascending."""
        if self.kind == "all":
            return self.classes.stuff_ids
        first = int(self.kind == "stuff_and_thing")
        return tuple(range(first, first + len(self.classes.stuff_ids)))

    def targets(self, semantic_map: Tensor) -> Tensor:
        """
        Args:
            semantic_map: integer, contiguous classes and the ignore label.

        Returns:
            The same, channels and the ignore label.
        """
        if self.kind == "all":
            return semantic_map
        ignored = self.classes.ignore_label
        length = max(ignored, self.classes.num_classes) + 1
        table = torch.full((length,), ignored, device=semantic_map.device)
        if self.kind == "stuff_and_thing":
            table[list(self.classes.thing_ids)] = 0
        channels = torch.tensor(self.stuff_channels, device=table.device)
        table[list(self.classes.stuff_ids)] = channels
        return table[semantic_map]

    def stuff_map(self, stuff_probability: Tensor) -> Tensor:
        """
        Args:
            stuff_probability: (S, H, W) of the stuff classes, ascending.

        Returns:
            (H, W) int64, the contiguous class of the highest one.
        """
        table = torch.tensor(self.classes.stuff_ids, device=stuff_probability.device)
        return table[stuff_probability.argmax(dim=0)]
