"""What a model that orders instances makes of images."""

from typing import Any, Dict, Iterator, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import nn

from ..data.reading import read_image
from ..records import ModelRecord, RankedImage, find_record
from .loaders import build_test_loader
from .setup import ConfigError


def check_ranks(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: if the config's model is none that orders instances.
    """
    record = find_record(cfg)
    if record is None or record.rank_image is None:
        raise ConfigError(
            "config key MODEL.META_ARCHITECTURE must be a model that orders instances, got "
            f"{cfg.MODEL.META_ARCHITECTURE!r}"
        )


@torch.no_grad()
def rank_dataset(
    cfg: CfgNode, model: nn.Module, dataset_name: str
) -> Iterator[Tuple[Dict[str, Any], RankedImage]]:
    """
    Args:
        cfg: of the loader.
        model: that orders instances, in evaluation mode.
        dataset_name: registered.

    Yields:
        The dataset's dict of an image, and what the model makes of it.
    """
    records = {r["image_id"]: r for r in DatasetCatalog.get(dataset_name)}
    for (sample,) in build_test_loader(cfg, dataset_name):
        yield records[sample["image_id"]], _rank(_record(model), model, sample)


@torch.no_grad()
def rank_file(cfg: CfgNode, model: nn.Module, path: str) -> RankedImage:
    """
    Args:
        cfg: of the mapper.
        model: that orders instances, in evaluation mode.
        path: of an image.
    """
    record = _record(model)
    assert record.build_mapper is not None
    height, width = read_image(path, "RGB").shape[:2]
    sample = {"file_name": path, "height": height, "width": width}
    return _rank(record, model, record.build_mapper(cfg, False)(sample))


def _record(model: nn.Module) -> ModelRecord:
    record = find_record(model)
    assert record is not None
    return record


def _rank(record: ModelRecord, model: nn.Module, sample: Any) -> RankedImage:
    assert record.rank_image is not None
    return record.rank_image(model, sample)
