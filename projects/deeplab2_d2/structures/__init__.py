"""
Labels, class maps, the kinds of dense maps, and files of all of these.

This room imports no other.
"""

from .atomic import atomic_path, remove_leftovers, write_json
from .class_map import (
    ClassMap,
    deeplab2_ade20k_class_map,
    deeplab2_coco_class_map,
    identity_class_map,
)
from .coco_masks import mask_fault
from .dataset_classes import DatasetClasses, is_thing_category
from .depth_png import (
    UNITS_PER_METER,
    depth_units,
    read_depth,
    read_depth_png,
    write_depth_png,
)
from .image_files import (
    IMAGE_ENDINGS,
    BrokenImageError,
    find_near_file,
    has_16_bits,
    is_photo_turned,
    list_image_names,
    naming_broken_images,
    open_image,
    open_photo,
    photo_size,
    read_label_map,
    read_photo,
    turn_upright,
)
from .instances_json import check_instance_masks, check_instances_json
from .maps import MapKind, Prediction, select_images
from .memory import Encoded, Memory, MemoryShape
from .new_parts import classifier_names, new_names
from .output_names import (
    check_distinct_stems,
    check_not_inputs,
    check_output_name,
    claim_output,
    stem_of,
)
from .panoptic_json import (
    JsonFault,
    PanopticJson,
    check_distinct,
    check_panoptic_json,
    describe_unknown_image,
    has_categories,
    read_json_object,
    short,
    sift_panoptic_json,
)
from .panoptic_label import VOID_PANOPTIC_LABEL, decode_panoptic, encode_panoptic
from .panoptic_png import (
    NUM_PANOPTIC_IDS,
    colors_to_ids,
    encode_panoptic_png,
    ids_to_colors,
    read_panoptic_png,
    write_panoptic_png,
)
from .plain_yaml import load_plain_yaml
from .semantic_output import SEMANTIC_LABELS, has_semantic, semantic_labels_of
from .tables import cached_table

__all__ = [
    "IMAGE_ENDINGS",
    "NUM_PANOPTIC_IDS",
    "SEMANTIC_LABELS",
    "UNITS_PER_METER",
    "VOID_PANOPTIC_LABEL",
    "BrokenImageError",
    "ClassMap",
    "DatasetClasses",
    "Encoded",
    "JsonFault",
    "MapKind",
    "Memory",
    "MemoryShape",
    "PanopticJson",
    "Prediction",
    "atomic_path",
    "remove_leftovers",
    "check_distinct",
    "check_distinct_stems",
    "check_instance_masks",
    "check_instances_json",
    "check_not_inputs",
    "check_output_name",
    "check_panoptic_json",
    "claim_output",
    "colors_to_ids",
    "decode_panoptic",
    "cached_table",
    "deeplab2_ade20k_class_map",
    "deeplab2_coco_class_map",
    "depth_units",
    "describe_unknown_image",
    "encode_panoptic",
    "encode_panoptic_png",
    "find_near_file",
    "has_categories",
    "has_semantic",
    "load_plain_yaml",
    "identity_class_map",
    "ids_to_colors",
    "list_image_names",
    "mask_fault",
    "is_thing_category",
    "naming_broken_images",
    "classifier_names",
    "new_names",
    "open_image",
    "read_depth",
    "read_depth_png",
    "has_16_bits",
    "is_photo_turned",
    "open_photo",
    "photo_size",
    "read_label_map",
    "read_json_object",
    "read_panoptic_png",
    "read_photo",
    "select_images",
    "semantic_labels_of",
    "short",
    "sift_panoptic_json",
    "stem_of",
    "turn_upright",
    "write_depth_png",
    "write_json",
    "write_panoptic_png",
]
