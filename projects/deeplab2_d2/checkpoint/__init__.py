from .deeplab2_options import ImportedOptions, config_from_options, import_options
from .load import LoadReport, compare_deeplab2_shapes, load_deeplab2_weights
from .names import parameter_for_key
from .tensor_bundle import TensorBundle

__all__ = [
    "ImportedOptions",
    "LoadReport",
    "TensorBundle",
    "compare_deeplab2_shapes",
    "config_from_options",
    "import_options",
    "load_deeplab2_weights",
    "parameter_for_key",
]
