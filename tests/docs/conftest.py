"""Detectron2 is made importable before a test imports it; a small dataset."""

from shapes_dataset import dataset  # noqa: F401

import deeplab2_d2  # noqa: F401
