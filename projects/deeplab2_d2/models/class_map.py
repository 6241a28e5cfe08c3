"""The class map that a config names."""

from detectron2.config import CfgNode

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
