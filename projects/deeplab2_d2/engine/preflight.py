"""What can be known before a run begins: that its names, classes, weights and folder will do."""

import os
import tempfile
from typing import Optional, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, RetinaNet
from detectron2.utils import comm

from ..checkpoint import build_meta_model, with_published_classes
from ..data import check_dataset_paths, check_registered
from ..data.loader import load_dataset_dicts
from ..models import Segmenter, check_classes
from ..records import find_record
from .checkpointing import build_checkpointer
from .config_error import ConfigError, explain
from .evaluators import check_evaluator_type


def check_run(cfg: CfgNode, *, trains: bool, resume: bool = False) -> None:
    """
    Refuse a training or an evaluation that would end in an error after its start.

    Args:
        cfg: the config.
        trains: DATASETS.TRAIN is needed, too.
        resume: the run goes on from a checkpoint of OUTPUT_DIR, if there is one.

    Raises:
        ConfigError: naming key, rule and value.
        FileNotFoundError, ValueError: if data or weights are not there or do not fit.
    """
    check_device(cfg)
    _check_counts(cfg, trains)
    _check_datasets(cfg, "TEST", is_needed=not trains)
    if trains:
        _check_datasets(cfg, "TRAIN", is_needed=True)
    check_output_folder(cfg.OUTPUT_DIR)
    _check_model(cfg, trains, resume)


def check_device(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: if MODEL.DEVICE is no device, or one that this machine does not have.
    """
    name = cfg.MODEL.DEVICE
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"config key MODEL.DEVICE must be a device such as 'cpu' or 'cuda', got {name!r}"
        ) from error
    if device.type in ("cpu", "meta"):
        return
    backend = getattr(torch, device.type, None) or getattr(torch.backends, device.type, None)
    if backend is None or not backend.is_available():
        built = f"this PyTorch ({torch.__version__}) sees none"
        raise ConfigError(
            f"config key MODEL.DEVICE must be 'cpu' where there is no {device.type} device "
            f"({built}), got {name!r}"
        )
    count = backend.device_count() if hasattr(backend, "device_count") else 1
    if device.index is not None and device.index >= count:
        raise ConfigError(
            f"config key MODEL.DEVICE must be one of the {count} devices {device.type}:0 to "
            f"{device.type}:{count - 1}, got {name!r}"
        )


def existing_folder(path: str) -> Optional[str]:
    """What there is of a folder that is to be made; None of an address."""
    if "://" in path:
        return None
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return folder


def check_output_folder(path: str) -> None:
    """
    Raises:
        ConfigError: if OUTPUT_DIR cannot be made or written to.
    """
    folder = existing_folder(path)
    if folder is None:
        return
    rule = f"config key OUTPUT_DIR must be a folder that can be written to, got {path!r}"
    if not os.path.isdir(folder):
        raise ConfigError(f"{rule}: {folder} is no folder")
    try:
        # The permission alone does not tell of a disk that is mounted for reading.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise ConfigError(f"{rule}: {folder}: {error.strerror}") from error


def _check_counts(cfg: CfgNode, trains: bool) -> None:
    batch, count = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if trains and (batch < 1 or batch % count):
        rule = f"a multiple of the {count} processes" if count > 1 else "at least 1"
        raise ConfigError(f"config key SOLVER.IMS_PER_BATCH must be {rule}, got {batch}")
    steps, workers = cfg.SOLVER.MAX_ITER, cfg.DATALOADER.NUM_WORKERS
    if trains and steps < 1:
        raise ConfigError(f"config key SOLVER.MAX_ITER must be at least 1, got {steps}")
    metric = cfg.SOLVER.DEEPLAB2.BEST_METRIC
    if trains and metric and not (cfg.DATASETS.TEST and cfg.TEST.EVAL_PERIOD > 0):
        raise ConfigError(
            "config key SOLVER.DEEPLAB2.BEST_METRIC must be '' without DATASETS.TEST and a "
            f"TEST.EVAL_PERIOD above 0, got {metric!r}"
        )
    if workers < 0:
        raise ConfigError(f"config key DATALOADER.NUM_WORKERS must be at least 0, got {workers}")


def _check_datasets(cfg: CfgNode, split: str, *, is_needed: bool) -> None:
    names: Sequence[str] = cfg.DATASETS[split]
    if is_needed and not names:
        raise ConfigError(f"config key DATASETS.{split} must name a dataset, got ()")
    for name in names:
        try:
            check_registered(name, f"config key DATASETS.{split}")
        except KeyError as error:
            raise ConfigError(error.args[0]) from error
        check_dataset_paths(name)
        if split == "TEST":
            check_evaluator_type(cfg, name)
            if MetadataCatalog.get(name).get("panoptic_json"):
                # Read twice, rather than to be found broken after the training.
                load_dataset_dicts([name])


def _check_detector(cfg: CfgNode) -> None:
    """Hold the classes of Detectron2's own detectors against the things of their dataset."""
    kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    is_rcnn = isinstance(kind, type) and issubclass(kind, GeneralizedRCNN)
    if not names or not (is_rcnn or kind is RetinaNet):
        return
    key = "ROI_HEADS" if is_rcnn else "RETINANET"
    if MetadataCatalog.get(names[0]).get("thing_classes") is None:
        # Of COCO files that a user registers, Detectron2 learns the classes while it reads them.
        DatasetCatalog.get(names[0])
    metadata, count = MetadataCatalog.get(names[0]), cfg.MODEL[key].NUM_CLASSES
    things = metadata.get("thing_dataset_id_to_contiguous_id") or metadata.get("thing_classes")
    if things and len(things) != count:
        raise ConfigError(
            f"config key MODEL.{key}.NUM_CLASSES must be {len(things)}, the things of dataset "
            f"{names[0]!r}, got {count}"
        )


def _check_model(cfg: CfgNode, trains: bool, resume: bool) -> None:
    """Build what has a record, without memory for its weights; hold classes and weights to it."""
    if find_record(cfg) is None:
        _check_detector(cfg)
        return
    if not trains and not resume:
        cfg = with_published_classes(cfg, cfg.MODEL.WEIGHTS)
    try:
        model = build_meta_model(cfg)
        if isinstance(model, Segmenter):
            check_classes(cfg)
    except (KeyError, ValueError) as error:
        raise ConfigError(explain(error, cfg)) from error
    if not comm.is_main_process():
        return
    checkpointer = build_checkpointer(cfg, model)
    has_own = resume and checkpointer.has_checkpoint()
    path = checkpointer.get_checkpoint_file() if has_own else cfg.MODEL.WEIGHTS
    checkpointer.check(path)
