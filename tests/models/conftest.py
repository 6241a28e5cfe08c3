"""Detectron2 is made importable before a test imports it."""

import deeplab2_d2  # noqa: F401
