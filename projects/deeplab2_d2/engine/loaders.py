"""Data loaders with the mapper that a config's model needs."""

from typing import Any, Dict, Iterable, List, Optional

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, get_detection_dataset_dicts

from .. import data, records
from ..records import find_record

Batches = Iterable[List[Dict[str, Any]]]


def build_train_loader(cfg: CfgNode, *, start_iteration: int = 0) -> Batches:
    """
    Endless batches of DATASETS.TRAIN.

    Args:
        cfg: the model's record decides on the mapper; a model without one has Detectron2's dataset
            dicts and mapper.
        start_iteration: first optimizer step wanted.
    """
    first_batch = start_iteration * cfg.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
    mapper = _mapper(cfg, is_train=True)
    if mapper is not None:
        return data.build_train_loader(cfg, mapper, start_iteration=first_batch)
    dataset_dicts = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=(
            cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
        ),
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )
    return data.build_train_loader(
        cfg,
        data.GloballySeeded(DatasetMapper(cfg, True)),
        dataset_dicts=dataset_dicts,
        start_iteration=first_batch,
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Batches:
    """
    One pass over a dataset, split over the processes, no sequence cut.

    Args:
        cfg: see :func:`build_train_loader`.
        dataset_name: of a registered dataset.
    """
    mapper = _mapper(cfg, is_train=False)
    if mapper is not None:
        return data.build_test_loader(cfg, dataset_name, mapper)
    proposal_files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        index = list(cfg.DATASETS.TEST).index(dataset_name)
        proposal_files = [cfg.DATASETS.PROPOSAL_FILES_TEST[index]]
    dataset_dicts = get_detection_dataset_dicts(
        dataset_name, filter_empty=False, proposal_files=proposal_files
    )
    return data.build_test_loader(
        cfg, dataset_name, DatasetMapper(cfg, False), dataset_dicts=dataset_dicts
    )


def _mapper(cfg: CfgNode, *, is_train: bool) -> Optional[records.DatasetMapper]:
    """The mapper of the model's record; None for a model without one."""
    record = find_record(cfg)
    if record is None or record.build_mapper is None:
        return None
    return record.build_mapper(cfg, is_train)
