"""Makes Detectron2 importable before a test file imports it, also where it is run alone."""

import deeplab2_d2  # noqa: F401
