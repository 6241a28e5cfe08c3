"""Datasets, augmentation, training targets, the dataset mapper and the loaders."""

from .augmentation import ResizeToRange, build_train_augmentations
from .builtin import register_all
from .catalog import check_registered
from .dataset_mapper import PanopticDatasetMapper, TargetGenerator
from .frame_target_generators import (
    NextFrameTargetGenerator,
    NextFrameTargets,
    PreviousFrameTargetGenerator,
    PreviousFrameTargets,
)
from .frame_targets import CenterNoise
from .image_folder import register_image_folder
from .instance_mapper import InstancePanopticMapper
from .layers import Layer
from .loader import build_test_loader, build_train_loader, check_dataset_paths
from .mask_targets import MaskTargetGenerator, ThingMaskTargets
from .registration import panoptic_metadata, register_panoptic_dataset
from .seeding import GloballySeeded
from .targets import PanopticTargetGenerator, PanopticTargets

# As Detectron2 does for its built-in datasets: names and paths; see `builtin.py`.
register_all()
