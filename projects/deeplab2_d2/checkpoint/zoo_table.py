"""The published models of DeepLab2, of Google's DeepLab before it and of PyTorch's, as data."""

import json
import logging
import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Dict, Mapping, Optional, Tuple

from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

# The address of a row's weights: MODEL.WEIGHTS deeplab2://NAME.
PREFIX = "deeplab2://"

# The model of rows that are backbones, trained on ImageNet.
PRETRAINED = "ImageNet"

# DeepLab2's, those of tensorflow/models, research/deeplab, and state dicts of PyTorch repositories.
_FILES = ("zoo.json", "zoo_research_deeplab.json", "zoo_pytorch.json")
_SHORT_NAMES = "zoo_short_names.json"


@dataclass(frozen=True)
class ZooRow:
    """
    One row of the published tables.

    Attributes:
        name: of its archive, or in its table; ``deeplab2://NAME`` loads it.
        model: Panoptic-DeepLab, ...; "ImageNet" for a pretrained backbone.
        backbone: as published.
        task, dataset: what it was trained for.
        address: of the archive or the state dict; where it does not end in ``file``, of a page that
            only a browser gets the file from.
        document: of the repository, with the table.
        deeplab2_config: DeepLab2's configuration, if the row names one.
        config: our configuration under ``configs/``, if the network exists here.
        overrides: keys in which the released model differs from that configuration.
        scores: published numbers, by how they were measured: "official" (script of the benchmark),
            "deeplab2" (DeepLab2's own evaluation) or "published" (not said).
        output_stride, input, steps, params, flops, note: as published, where it says so.
        file: name of a state dict of a PyTorch repository, here; None for archives of TensorFlow.
    """

    name: str
    model: str
    backbone: str
    task: str
    dataset: str
    address: str
    document: str
    deeplab2_config: Optional[str] = None
    config: Optional[str] = None
    overrides: Dict[str, Any] = field(default_factory=dict)
    scores: Dict[str, Dict[str, float]] = field(default_factory=dict)
    output_stride: Optional[int] = None
    input: Optional[str] = None
    steps: Optional[str] = None
    params: Optional[str] = None
    flops: Optional[str] = None
    note: Optional[str] = None
    file: Optional[str] = None


@lru_cache(maxsize=None)
def zoo_rows() -> Tuple[ZooRow, ...]:
    """All rows, in the order of the documents."""
    rows = []
    for name in _FILES:
        data = _read_json(name)
        for row in data["rows"]:
            address = row.get("address") or data["address"].format(name=row["name"])
            rows.append(ZooRow(**{**row, "address": address}))
    return tuple(rows)


@lru_cache(maxsize=None)
def short_names() -> Mapping[str, str]:
    """
    Names as people say them, ``model/network_stride_dataset``, to those of the rows.

    Of the models that predict: backbones and initial checkpoints have none.
    """
    names: Dict[str, str] = _read_json(_SHORT_NAMES)
    return names


def _read_json(name: str) -> Any:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return json.load(file)


def find_row(name: str) -> ZooRow:
    """
    The row of a name.

    Args:
        name: the row's own, or a short one.

    Raises:
        KeyError: if there is none; the message offers the nearest names.
    """
    rows, short = {row.name: row for row in zoo_rows()}, short_names()
    found = rows.get(short.get(name, name))
    if found is None:
        # Short ones first: whoever writes a slash means them.
        known = [*short, *rows] if "/" in name else [*rows, *short]
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.4)) or "none is near"
        raise KeyError(
            f"the zoo has no {name!r} ({near}); python -m deeplab2_d2.checkpoint.zoo lists it"
        )
    return found


def with_published_classes(cfg: CfgNode, weights: str) -> CfgNode:
    """
    The config of a model that shall predict with published weights: with their classes.

    DeepLab2's COCO models have a channel for void, which models trained here have not; their
    outputs are in the same classes.

    Args:
        cfg: a config of ours.
        weights: ``deeplab2://NAME``; anything else changes nothing.

    Returns:
        The config itself, or a copy where keys differ, which is told in the log.
    """
    if not weights.startswith(PREFIX):
        return cfg
    overrides = find_row(weights[len(PREFIX) :]).overrides
    if not overrides:
        return cfg
    changed = cfg.clone()
    changed.defrost()
    changed.merge_from_list([item for pair in overrides.items() for item in pair])
    if cfg.is_frozen():
        changed.freeze()
    logger.info("%s: %s", weights, ", ".join(f"{key} {value}" for key, value in overrides.items()))
    return changed
