"""
Models as files that run without this package: ONNX, torch.export archives, TorchScript.

``image_model.py`` (raw image to maps, as one module), ``formats.py`` (that module to a file),
``comparison.py`` (the file against the model), ``description.py`` (what a file says of itself),
``quantization.py`` (8 bits), ``writing.py`` (all of it, from a config).
"""

from .comparison import Agreement, compare, run_file
from .formats import FORMATS
from .image_model import ImageModel
from .quantization import Int8Options, Int8Report, quantize
from .writing import ExportOptions, export, file_size

__all__ = [
    "Agreement",
    "ExportOptions",
    "FORMATS",
    "ImageModel",
    "Int8Options",
    "Int8Report",
    "compare",
    "export",
    "file_size",
    "quantize",
    "run_file",
]
