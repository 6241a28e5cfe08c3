import deeplab2_d2  # noqa: F401  (makes Detectron2 importable, before a test imports it)
