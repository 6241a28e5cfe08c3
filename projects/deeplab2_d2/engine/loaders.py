"""Data loaders with the mapper that a config's model needs."""

from typing import Any, Dict, Iterable, List, Optional

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader

from .. import data
from ..records import DatasetMapper, find_record

Batches = Iterable[List[Dict[str, Any]]]


def build_train_loader(cfg: CfgNode, *, start_iteration: int = 0) -> Batches:
    """
    Endless batches of DATASETS.TRAIN.

    Args:
        cfg: META_ARCHITECTURE decides on the mapper.
        start_iteration: first optimizer step wanted; Detectron2's own loader, used for models that
            are not of this package, starts from the beginning whatever it is.
    """
    mapper = _mapper(cfg, is_train=True)
    if mapper is None:
        return build_detection_train_loader(cfg)
    first_batch = start_iteration * cfg.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
    return data.build_train_loader(cfg, mapper, start_iteration=first_batch)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Batches:
    """One pass over a dataset, split over the processes."""
    mapper = _mapper
    if mapper is None:
        return build_detection_test_loader(cfg, dataset_name)
    return data.build_test_loader(cfg, dataset_name, mapper)


def _mapper(cfg: CfgNode, *, is_train: bool) -> Optional[DatasetMapper]:
    """The mapper of the model's record; None for a model without one."""
    record = find_record(cfg)
    if record is None or record.build_mapper is None:
        return None
    return record.build_mapper(cfg, is_train)
