"""The class map that a config names, and labels by it."""

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..structures import ClassMap, deeplab2_coco_class_map, identity_class_map


def class_map_from_config(cfg: CfgNode) -> ClassMap:
    """
    Args:
        cfg: MODEL.DEEPLAB2.CLASS_MAP, and MODEL.SEM_SEG_HEAD.NUM_CLASSES channels.

    Raises:
        ValueError: if there is no map of that name.
    """
    name = cfg.MODEL.DEEPLAB2.CLASS_MAP
    if name == "identity":
        return identity_class_map(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    if name == "deeplab2_coco":
        return deeplab2_coco_class_map()
    raise ValueError(
        "config key MODEL.DEEPLAB2.CLASS_MAP must be 'identity' or 'deeplab2_coco', "
        f"got {name!r}"
    )


def labels_to_channels(labels: Tensor, class_map: ClassMap, ignore_label: int) -> Tensor:
    """
    Args:
        labels: any shape, int64: contiguous classes and the ignore label.
        class_map: classes of a semantic head's channels.
        ignore_label: stays what it is.

    Returns:
        The channel of each label's class, same shape.
    """
    if class_map.is_identity:
        return labels
    size = max(ignore_label, class_map.num_classes) + 1
    table = torch.full((size,), ignore_label, device=labels.device)
    for channel, class_id in enumerate(class_map.channel_to_class):
        if class_id >= 0:
            table[class_id] = channel
    return table[labels]
