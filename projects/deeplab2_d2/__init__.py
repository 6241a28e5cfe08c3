"""DeepLab2's panoptic segmentation models as a Detectron2 project."""

from .compat import make_detectron2_importable

# Before anything of Detectron2 is imported.
make_detectron2_importable()

from .config import add_deeplab2_config  # noqa: E402

__all__ = ["add_deeplab2_config"]
__version__ = "0.1.0"
