"""
Train a model that learns what lies on top, and compare it with the truth: `make demo-oanet`.

The config of generated things on each other trains on a dataset that is generated first. With
another one the dataset must be there, and its annotations must have ``paint_order``:

    python -m deeplab2_d2.engine.demo_ranking --config-file CONFIG [KEY VALUE ...]
"""

import argparse
import itertools
import os
import sys
import time
from typing import Any, Dict

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tabulate import tabulate

from ..allocation import keep_freed_memory
from ..command import run_command
from ..data.catalog import datasets_root
from ..data.shapes_layers import prepare_shapes_layers
from ..structures import DatasetClasses, atomic_path
from ..visualization import sheet
from .demo_arguments import parse_demo_arguments
from .order_scores import OrderScores, score_orders
from .rank_maps import TITLES, draw_ranked_image
from .ranked_images import check_ranks, rank_dataset
from .setup import ConfigError, setup
from .trainer import DeepLab2Trainer

CONFIG = (
    "configs/ShapesLayers-PanopticSegmentation/oanet_tiny_os32_poly_bs4_short_192_long_256.yaml"
)
_NAMES = {"detection": "detection score", "module": "ranking module", "truth": "true order"}
_SHEET_IMAGES = 4


def main(args: argparse.Namespace) -> Dict[str, OrderScores]:
    """
    Train, paint the detections in three orders, print the tables and write a sheet.

    Returns:
        See :func:`score_orders`.
    """
    start = time.perf_counter()
    cfg = setup(args, _prepare)
    dataset_name = cfg.DATASETS.TEST[0]
    check_has_order(dataset_name)
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    model = trainer.checkpointer.model.eval()
    metadata = MetadataCatalog.get(dataset_name)
    classes = DatasetClasses.from_metadata(metadata)
    scores = score_orders(rank_dataset(cfg, model, dataset_name), classes)
    rows = [
        draw_ranked_image(image, record["file_name"], metadata.stuff_colors)
        for record, image in itertools.islice(rank_dataset(cfg, model, dataset_name), _SHEET_IMAGES)
    ]
    picture = os.path.join(cfg.OUTPUT_DIR, "ranking.png")
    with atomic_path(picture) as temporary:
        drawn = sheet(rows, titles=TITLES, cell_size=(192, 256))
        Image.fromarray(drawn).save(temporary, format="PNG")
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{dataset_name}, the same detections painted in three orders, in percent:")
    print(format_scores(scores))
    print(f"Pictures: {picture}   Log: {cfg.OUTPUT_DIR}/log.txt   Time: {minutes:.1f} minutes")
    return scores


def _prepare(cfg: CfgNode) -> None:
    check_ranks(cfg)
    if any(name.startswith("shapes_layers_") for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        prepare_shapes_layers(os.path.join(datasets_root(), "shapes_layers"))


def check_has_order(dataset_name: str) -> None:
    """
    Raises:
        ConfigError: if a dataset does not say what its things lie on.
    """
    for record in DatasetCatalog.get(dataset_name):
        if any("paint_order" not in each for each in record.get("annotations", [{}])):
            raise ConfigError(
                "config key DATASETS.TEST must begin with a dataset whose annotations have "
                f"paint_order, got {dataset_name!r} without, at {record['file_name']}"
            )


def format_scores(scores: Dict[str, OrderScores]) -> str:
    """The tables and the part of the distance that the module recovers."""
    names, parts = ("PQ", "PQ_th", "PQ_st"), ("all", "off", "two classes")
    rows = []
    for order, title in _NAMES.items():
        found = scores[order]
        quality = [found.quality.get(part, {}).get(name) for part in parts for name in names]
        rows.append([title, *quality, found.part_right(False), found.part_right(True)])
    headers = ["painted by", *names, *(f"{name}\nno limit" for name in names)]
    headers += [f"{name}\nno 1-class" for name in names]
    headers += ["pairs right,\n2 classes", "pairs right,\n1 class"]
    table = tabulate(rows, headers=headers, floatfmt=".1f")
    lines = [table, _counts(scores)]
    for part, title in (
        ("all", "all images"),
        ("two classes", "images without a conflict in a class"),
    ):
        for name in ("PQ", "PQ_th"):
            values = [scores[order].quality.get(part, {}).get(name) for order in _NAMES]
            if None not in values:
                lines.append(f"{title}, {name}: {_recovered(*values)}")
    return "\n".join(lines)


def _counts(scores: Dict[str, OrderScores]) -> str:
    found = scores["truth"]
    two, one = (found.right[k] + found.wrong[k] for k in (False, True))
    return (
        f"Conflicting pairs: {two} of two classes, {one} of one class. No limit: the overlap "
        "threshold is off. No 1-class: images without a conflict in a class."
    )


def _recovered(detection: Any, module: Any, truth: Any) -> str:
    distance = truth - detection
    if distance <= 0:
        return f"the true order is no better than detection scores ({distance:.1f})"
    part = 100 * (module - detection) / distance
    return f"the module recovers {part:.0f} % of the distance of {distance:.1f} to the true order"


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(
        run_command(
            "demo_ranking", lambda: main(parse_demo_arguments(__doc__, CONFIG, "demo-oanet", None))
        )
    )
