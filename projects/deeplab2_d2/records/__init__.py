"""What a model tells the shared rooms about itself, and how they find it."""

from .config_parts import ConfigPart, config_parts, register_config_part
from .lookup import all_records, find_record, register
from .model_record import (
    Averaging,
    DatasetMapper,
    GraphInference,
    ModelRecord,
    Pictures,
    Predictor,
)
from .ranked_image import RankedImage

__all__ = [
    "Averaging",
    "ConfigPart",
    "DatasetMapper",
    "GraphInference",
    "ModelRecord",
    "Pictures",
    "Predictor",
    "RankedImage",
    "all_records",
    "config_parts",
    "find_record",
    "register",
    "register_config_part",
]
