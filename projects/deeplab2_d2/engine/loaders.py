"""Data loaders with the mapper that a config's model needs."""

from typing import Any, Callable, Dict, Iterable, List

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader

from .. import data
from ..data import MaXDeepLabDatasetMapper, PanopticDeepLabDatasetMapper

Batches = Iterable[List[Dict[str, Any]]]

# Mapper of each META_ARCHITECTURE of ours; others keep Detectron2's loaders and mapper.
MAPPERS: Dict[str, Callable[..., Any]] = {
    "DeepLab2PanopticDeepLab": PanopticDeepLabDatasetMapper,
    "DeepLab2AxialDeepLab": PanopticDeepLabDatasetMapper,
    "DeepLab2MaXDeepLab": MaXDeepLabDatasetMapper,
}


def build_train_loader(cfg: CfgNode, *, start_iteration: int = 0) -> Batches:
    """
    Endless batches of DATASETS.TRAIN.

    Args:
        cfg: META_ARCHITECTURE decides on the mapper.
        start_iteration: first optimizer step wanted; Detectron2's own loader, used for models that
            are not of this package, starts from the beginning whatever it is.
    """
    mapper = MAPPERS.get(cfg.MODEL.META_ARCHITECTURE)
    if mapper is None:
        return build_detection_train_loader(cfg)
    first_batch = start_iteration * cfg.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
    return data.build_train_loader(cfg, mapper(cfg, is_train=True), start_iteration=first_batch)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Batches:
    """One pass over a dataset, split over the processes."""
    mapper = MAPPERS.get(cfg.MODEL.META_ARCHITECTURE)
    if mapper is None:
        return build_detection_test_loader(cfg, dataset_name)
    return data.build_test_loader(cfg, dataset_name, mapper(cfg, is_train=False))
