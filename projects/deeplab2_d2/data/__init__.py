"""Datasets, augmentation, training targets, the dataset mapper and the loaders."""

from .augmentation import ResizeToRange
from .dataset_mapper import PanopticDeepLabDatasetMapper, build_train_augmentations
from .loader import build_test_loader, build_train_loader, check_dataset_paths
from .shapes import register_shapes

# As Detectron2 does for its built-in datasets: names only, no file is opened.
register_shapes()
