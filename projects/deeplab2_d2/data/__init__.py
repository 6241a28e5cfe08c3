"""Datasets, augmentation, training targets and the dataset mapper."""

from .dataset_mapper import PanopticDeepLabDatasetMapper, build_train_augmentations
from .shapes import register_shapes

# As Detectron2 does for its built-in datasets: names only, no file is opened.
register_shapes()
