"""
The models: a folder each, and what they share. Importing this registers every meta architecture.

Nothing outside a model's folder knows its name but the imports below and the folders that build on
it; the other rooms ask its record (:mod:`deeplab2_d2.records`).
"""

from . import (
    axial_deeplab,
    deeplab,
    image_classifier,
    kmax_deeplab,
    max_deeplab,
    motion_deeplab,
    oanet,
    panoptic_deeplab,
    vip_deeplab,
)
from .averaging import AveragedSegmenter, average_views
from .class_map import class_map_from_config
from .image_batch import ImageBatch
from .joint import JointCriterion, JointInference
from .model_metadata import check_classes, metadata_from_config
from .parts import Criterion, Head, Inference, SlotInference, StagedInference
from .refinement import crf_from_config, refine_in_evaluation
from .segmenter import Segmenter
from .semantic_labels import labels_are_enough, with_labels

__all__ = [
    "AveragedSegmenter",
    "Criterion",
    "Head",
    "ImageBatch",
    "Inference",
    "JointCriterion",
    "JointInference",
    "Segmenter",
    "SlotInference",
    "StagedInference",
    "average_views",
    "axial_deeplab",
    "check_classes",
    "class_map_from_config",
    "crf_from_config",
    "deeplab",
    "image_classifier",
    "kmax_deeplab",
    "labels_are_enough",
    "max_deeplab",
    "metadata_from_config",
    "motion_deeplab",
    "oanet",
    "panoptic_deeplab",
    "refine_in_evaluation",
    "vip_deeplab",
    "with_labels",
]
