"""What a model tells the shared rooms about itself, and how they find it."""

from .lookup import all_records, find_record, register
from .model_record import Averaging, DatasetMapper, ModelRecord, Pictures, Predictor

__all__ = [
    "Averaging",
    "DatasetMapper",
    "ModelRecord",
    "Pictures",
    "Predictor",
    "all_records",
    "find_record",
    "register",
]
