"""
The published models of DeepLab2, and of Google's DeepLab before it: ``get_config`` and
``get_model``, as in Detectron2's model zoo.

``python -m deeplab2_d2.checkpoint.zoo [TEXT]`` lists the table.
"""

import argparse
import os
import sys
from typing import List, Optional

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from tabulate import tabulate
from torch import nn

from ..command import run_command
from ..config import add_deeplab2_config, merge_config_file
from .checkpointer import DeepLab2Checkpointer
from .zoo_table import (
    PREFIX,
    PRETRAINED,
    ZooRow,
    find_row,
    short_names,
    with_published_classes,
    zoo_rows,
)

_CONFIGS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "configs")


def get_config_file(name: str) -> str:
    """
    The YAML file of a published model.

    Args:
        name: of a row of the zoo.

    Raises:
        KeyError: if there is no such row.
        ValueError: if it is no model of ours: a pretrained backbone, or not ported yet.
        FileNotFoundError: if the package was installed without its ``configs``.
    """
    row = find_row(name)
    if row.config is None:
        raise ValueError(f"{name} ({row.model}, {row.task}) has no configuration here")
    path = os.path.normpath(os.path.join(_CONFIGS, row.config))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: configs come with the repository (docs/install.md)")
    return path


def get_config(name: str, trained: bool = False) -> CfgNode:
    """
    The configuration of a published model.

    Args:
        name: of a row of the zoo.
        trained: set MODEL.WEIGHTS to the published weights, and with them the classes they have
            (COCO: 134, void among them); else it is the one to train by.
    """
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    merge_config_file(cfg, get_config_file(name))
    if trained:
        cfg.MODEL.WEIGHTS = PREFIX + find_row(name).name
        cfg = with_published_classes(cfg, cfg.MODEL.WEIGHTS)
    return cfg


def get_model(name: str, trained: bool = False, device: Optional[str] = None) -> nn.Module:
    """
    A published model, in evaluation mode.

    Args:
        name: of a row of the zoo.
        trained: load the published weights (a download at the first time).
        device: "cpu", "cuda", ...; the config's where there is a GPU, else "cpu".
    """
    cfg = get_config(name, trained)
    cfg.MODEL.DEVICE = device or (cfg.MODEL.DEVICE if torch.cuda.is_available() else "cpu")
    model = build_model(cfg)
    if trained:
        DeepLab2Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return model.eval()


# What a row without a config is for: weights of a backbone.
_WITHOUT_CONFIG = {PRETRAINED: "backbone"}
# What one with a config is for that has no short name: a start, which predicts for no dataset.
_START = "a start"


def list_rows(text: str = "") -> str:
    """
    The table, for people.

    Args:
        text: keep the rows that contain it, whatever the case.
    """
    short = {name: short for short, name in short_names().items()}
    kept = [
        row for row in zoo_rows() if text.lower() in f"{row!r} {short.get(row.name, '')}".lower()
    ]
    cells = [
        (
            # First what a terminal of few columns has to show.
            short.get(row.name, _START if row.config else _WITHOUT_CONFIG.get(row.model, "")),
            _scores(row),
            row.model,
            row.backbone.split(" (aka")[0],
            row.dataset,
            row.output_stride or "",
            row.input or "",
            row.name,
        )
        for row in kept
    ]
    headers = ("load_model", "published", "model", "backbone", "dataset", "stride", "input", "name")
    return tabulate(cells, headers=headers) + f"\n{len(kept)} of {len(zoo_rows())} rows"


def _scores(row: ZooRow) -> str:
    for group in ("official", "published", "deeplab2"):
        if group in row.scores:
            return ", ".join(f"{key} {value:g}" for key, value in row.scores[group].items())
    return ""


def main(arguments: Optional[List[str]] = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m deeplab2_d2.checkpoint.zoo", description="List the published models."
    )
    parser.add_argument("text", nargs="?", default="", help="only the rows that contain it")
    parser.add_argument("--fetch", action="store_true", help="download and convert the one row")
    options = parser.parse_args(arguments)
    return run_command("zoo", _run, options, status=2)


def _run(options: argparse.Namespace) -> None:
    from .zoo_cache import fetch

    print(fetch(options.text) if options.fetch else list_rows(options.text))


if __name__ == "__main__":
    sys.exit(main())
