"""
Labels, class maps, the kinds of dense maps, and files of all of these.

This room imports no other.
"""

from .atomic import atomic_path, write_json
from .class_map import (
    ClassMap,
    deeplab2_ade20k_class_map,
    deeplab2_coco_class_map,
    identity_class_map,
)
from .dataset_classes import DatasetClasses
from .depth_png import UNITS_PER_METER, read_depth, read_depth_png
from .image_files import naming_broken_images, open_image, read_label_map
from .maps import MapKind, Prediction, select_images
from .memory import Encoded, Memory, MemoryShape
from .new_parts import new_names
from .output_names import check_distinct_stems, claim_output, stem_of
from .panoptic_label import VOID_PANOPTIC_LABEL, decode_panoptic, encode_panoptic
from .panoptic_png import (
    NUM_PANOPTIC_IDS,
    colors_to_ids,
    encode_panoptic_png,
    ids_to_colors,
    read_panoptic_png,
    write_panoptic_png,
)

__all__ = [
    "NUM_PANOPTIC_IDS",
    "UNITS_PER_METER",
    "VOID_PANOPTIC_LABEL",
    "ClassMap",
    "DatasetClasses",
    "Encoded",
    "MapKind",
    "Memory",
    "MemoryShape",
    "Prediction",
    "atomic_path",
    "check_distinct_stems",
    "claim_output",
    "colors_to_ids",
    "decode_panoptic",
    "deeplab2_ade20k_class_map",
    "deeplab2_coco_class_map",
    "encode_panoptic",
    "encode_panoptic_png",
    "identity_class_map",
    "ids_to_colors",
    "naming_broken_images",
    "new_names",
    "open_image",
    "read_depth",
    "read_depth_png",
    "read_label_map",
    "read_panoptic_png",
    "select_images",
    "stem_of",
    "write_json",
    "write_panoptic_png",
]
