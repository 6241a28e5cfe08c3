"""
DeepLab2's panoptic segmentation models as a Detectron2 project.

Importing the package registers its datasets, backbones and meta architectures, and makes
``deeplab2://NAME`` a path that Detectron2 can load from.
"""

from .compat import make_detectron2_importable

# Before anything of Detectron2 is imported.
make_detectron2_importable()

from . import backbones, checkpoint, data, models  # noqa: E402
from .config import add_deeplab2_config  # noqa: E402

__all__ = ["add_deeplab2_config", "backbones", "checkpoint", "data", "models"]
__version__ = "0.1.0"
