"""Detectron2 is made importable before a test imports it; small datasets."""

from shapes_dataset import dataset  # noqa: F401
from shapes_video_dataset import video_dataset  # noqa: F401

import deeplab2_d2  # noqa: F401
