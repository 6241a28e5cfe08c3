"""
DeepLab2's panoptic segmentation models as a Detectron2 project.

Importing the package registers its datasets, backbones and meta architectures, and makes
``deeplab2://NAME`` a path that Detectron2 can load from. :func:`load_model` gives a model that
predicts; it is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any, List

from .allocation import keep_freed_memory
from .compat import make_detectron2_importable

# Before anything of Detectron2 is imported.
make_detectron2_importable()

from . import backbones, checkpoint, data, models  # noqa: E402
from .config import add_deeplab2_config  # noqa: E402

if TYPE_CHECKING:
    from .api import Model, Result, Segment, load_model

__all__ = [
    "Model",
    "Result",
    "Segment",
    "add_deeplab2_config",
    "backbones",
    "checkpoint",
    "data",
    "keep_freed_memory",
    "load_model",
    "models",
]
__version__ = "0.1.0"

# Of `api`, which needs the engine and all that it imports.
_LAZY = ("Model", "Result", "Segment", "load_model")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
