"""Golden numbers of Google's DeepLab2: how they are read, and what of ours is held against them."""

import deeplab2_d2  # noqa: F401  Before Detectron2, which it makes importable.
