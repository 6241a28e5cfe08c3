"""The class map that a config names."""

from detectron2.config import CfgNode

from ..structures import (
    ClassMap,
    deeplab2_ade20k_class_map,
    deeplab2_coco_class_map,
    identity_class_map,
)

_RELEASED = {
    "deeplab2_ade20k": deeplab2_ade20k_class_map,
    "deeplab2_coco": deeplab2_coco_class_map,
}


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
    if name in _RELEASED:
        return _RELEASED[name]()
    raise ValueError(
        f"config key MODEL.DEEPLAB2.CLASS_MAP must be 'identity' or one of {sorted(_RELEASED)}, "
        f"got {name!r}"
    )
