"""Labels, class maps and the kinds of dense maps. This room imports no other."""

from .class_map import ClassMap, deeplab2_coco_class_map, identity_class_map
from .maps import MapKind, Prediction, select_images
from .memory import Encoded, Memory, MemoryShape
from .new_parts import new_names
from .panoptic_label import VOID_PANOPTIC_LABEL, decode_panoptic, encode_panoptic

__all__ = [
    "VOID_PANOPTIC_LABEL",
    "ClassMap",
    "Encoded",
    "MapKind",
    "Memory",
    "MemoryShape",
    "Prediction",
    "decode_panoptic",
    "deeplab2_coco_class_map",
    "encode_panoptic",
    "identity_class_map",
    "new_names",
    "select_images",
]
