"""From DeepLab2's checkpoints to Detectron2's, with the changes that a new task needs."""

import json
import os
from dataclasses import dataclass
from typing import List, Optional, Sequence

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

from ..config import add_deeplab2_config, merge_config_file
from ..structures.class_map import deeplab2_coco_class_map
from .load import LoadReport, compare_shapes
from .surgery import Weights, drop_last_layers, inflate_stem, remap_classes
from .weights_file import read_weights, write_weights


@dataclass(frozen=True)
class Changes:
    """
    What is changed on the way.

    Attributes:
        dropped: last layers that are left out: "semantic", "instance".
        stem_channels: channels that the first convolution shall take; None leaves it.
        class_map: old class of each new one (see :func:`surgery.remap_classes`); None leaves them.
    """

    dropped: Sequence[str] = ()
    stem_channels: Optional[int] = None
    class_map: Optional[Sequence[int]] = None

    def apply(self, weights: Weights) -> Weights:
        """The changed weights."""
        if self.class_map is not None:
            weights = remap_classes(weights, self.class_map)
        if self.stem_channels is not None:
            weights = inflate_stem(weights, self.stem_channels)
        return drop_last_layers(weights, self.dropped)


def convert(
    source: str,
    target: str,
    *,
    changes: Changes = Changes(),
    model: Optional[nn.Module] = None,
    allow_partial: bool = False,
    show_progress: bool = False,
) -> LoadReport:
    """
    Convert a checkpoint and write it.

    Args:
        source: a checkpoint of DeepLab2, or one that is converted already.
        target: .pth or .safetensors; it appears when it is whole.
        changes: made after the conversion.
        model: what the weights are for (shapes suffice: it may be on the meta device).
        allow_partial: write although the weights do not fit the model.
        show_progress: show a bar.

    Returns:
        How the weights fit the model; without a model all are used.

    Raises:
        ValueError: if they do not fit, with the table of names.
    """
    weights, unknown = read_weights(source, show_progress)
    weights = changes.apply(weights)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if model is None:
        report = LoadReport(used=list(shapes), unused=unknown)
    else:
        state = model.state_dict()
        report = compare_shapes(shapes, {name: tuple(v.shape) for name, v in state.items()})
        report.unused[:0] = unknown
    if not report.is_complete and not allow_partial:
        raise ValueError(f"{source} does not fit the model:\n{report.table()}")
    write_weights(target, {name: weights[name] for name in report.used}, os.path.basename(source))
    return report


def build_meta_model(cfg: CfgNode) -> nn.Module:
    """The model of a config without memory for its weights: names and shapes."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def load_config(path: str) -> CfgNode:
    """A YAML config with Detectron2's keys and ours."""
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    merge_config_file(cfg, path)
    return cfg


def parse_class_map(text: str) -> List[int]:
    """
    The class map that a command line names.

    Args:
        text: "coco133" (DeepLab2's 134 COCO channels to Detectron2's 133 classes), a JSON file with
            a list, or numbers with commas.
    """
    if text == "coco133":
        channels = deeplab2_coco_class_map().channel_to_class
        return [channels.index(c) for c in range(max(channels) + 1)]
    try:
        if text.endswith(".json"):
            with open(text, encoding="utf-8") as file:
                numbers = json.load(file)
        else:
            numbers = text.split(",")
        return [int(number) for number in numbers]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"class map must be whole numbers, got {text}") from error
