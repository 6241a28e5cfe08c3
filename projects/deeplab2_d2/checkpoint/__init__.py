from detectron2.utils.file_io import PathManager

from .carried_config import read_config_text
from .checkpointer import DeepLab2Checkpointer
from .classes import adopt_classes, classes_of_dataset, read_classes
from .convert import build_meta_model
from .deeplab2_options import ImportedOptions, config_from_options, import_options
from .library_cache import LibraryWeightsHandler
from .load import (
    LoadReport,
    compare_deeplab2_shapes,
    load_deeplab2_weights,
    summarize_names,
)
from .names import parameter_for_key
from .run_folder import newest_of_folder
from .tensor_bundle import TensorBundle
from .zoo_cache import DeepLab2ZooHandler
from .zoo_table import find_row, short_names, with_published_classes

# So that MODEL.WEIGHTS may be deeplab2://NAME, whatever loads it.
PathManager.register_handler(DeepLab2ZooHandler(), allow_override=True)
# And timm://NAME, torchvision://NAME.
PathManager.register_handler(LibraryWeightsHandler(), allow_override=True)

__all__ = [
    "DeepLab2Checkpointer",
    "ImportedOptions",
    "LoadReport",
    "TensorBundle",
    "adopt_classes",
    "classes_of_dataset",
    "build_meta_model",
    "compare_deeplab2_shapes",
    "config_from_options",
    "find_row",
    "import_options",
    "load_deeplab2_weights",
    "newest_of_folder",
    "parameter_for_key",
    "read_classes",
    "read_config_text",
    "short_names",
    "summarize_names",
    "with_published_classes",
]
