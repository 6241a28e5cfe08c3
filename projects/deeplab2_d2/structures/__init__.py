"""Labels and typed predictions. This room imports no other."""

from .class_map import ClassMap, deeplab2_coco_class_map, identity_class_map
from .panoptic_label import VOID_PANOPTIC_LABEL, decode_panoptic, encode_panoptic
from .predictions import MaXDeepLabPrediction, PanopticDeepLabPrediction

__all__ = [
    "VOID_PANOPTIC_LABEL",
    "ClassMap",
    "MaXDeepLabPrediction",
    "PanopticDeepLabPrediction",
    "decode_panoptic",
    "deeplab2_coco_class_map",
    "encode_panoptic",
    "identity_class_map",
]
