"""
Train a Panoptic-DeepLab, evaluate it, and show what it learnt: what `make demo` runs.

The default config trains on a dataset that is generated first. With another config the dataset must
be there:

    DETECTRON2_DATASETS=... python -m deeplab2_d2.engine.demo --config-file CONFIG [KEY VALUE ...]
"""

import argparse
import os
import time
from typing import Any, Dict, List, Mapping

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tabulate import tabulate
from torch import nn

from ..data.reading import read_image, read_panoptic_png
from ..data.shapes import prepare_shapes
from ..visualization import ROW_TITLES, panoptic_deeplab_row, sheet
from .baselines import score_baselines
from .loaders import build_test_loader
from .setup import argument_parser, setup
from .trainer import DeepLab2Trainer

CONFIG = (
    "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
SCORES = ("PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st")


def main(args: argparse.Namespace) -> Dict[str, Dict[str, float]]:
    """
    Train, evaluate, print the table and write the sheet.

    Returns:
        The panoptic scores of "model", "trivial" and "oracle", in percent.
    """
    start = time.perf_counter()
    if args.config_file == CONFIG:
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
        prepare_shapes(os.path.join(root, "shapes"))
    cfg = setup(args)
    dataset_name = cfg.DATASETS.TEST[0]
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    results = trainer._last_eval_results
    scores = {"model": results["panoptic_seg"], **score_baselines(cfg, dataset_name)}
    picture = os.path.join(cfg.OUTPUT_DIR, "sheet.png")
    write_sheet(cfg, trainer.model, dataset_name, picture)
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{dataset_name}, panoptic quality in percent (panopticapi):\n{_table(scores)}\n")
    print(f"Other scores: {_summary(results)}")
    print(f"Pictures: {picture}   Log: {cfg.OUTPUT_DIR}/log.txt   Time: {minutes:.1f} minutes")
    return scores


def _table(scores: Mapping[str, Mapping[str, float]]) -> str:
    names = {"model": "this model", "trivial": "commonest stuff class", "oracle": "stride-4 oracle"}
    rows = [[names[key], *(score[name] for name in SCORES)] for key, score in scores.items()]
    return tabulate(rows, headers=["predictor", *SCORES], floatfmt=".1f")


def _summary(results: Mapping[str, Mapping[str, float]]) -> str:
    found = {**results.get("sem_seg", {}), **results.get("segm", {})}
    return ", ".join(f"{name} {found[name]:.1f}" for name in ("mIoU", "IoU", "AP") if name in found)


@torch.no_grad()
def write_sheet(
    cfg: CfgNode, model: nn.Module, dataset_name: str, path: str, *, num_images: int = 8
) -> None:
    """
    Draw the first images of a dataset: image, ground truth, prediction, heatmap and offsets.

    Args:
        cfg: the model's config.
        model: a Panoptic-DeepLab.
        dataset_name: registered panoptic dataset.
        path: of the PNG; written under a temporary name and renamed.
        num_images: rows.
    """
    records = {record["file_name"]: record for record in DatasetCatalog.get(dataset_name)}
    metadata = MetadataCatalog.get(dataset_name)
    colors = np.array(metadata.stuff_colors)
    thing_ids = list(metadata.thing_dataset_id_to_contiguous_id.values())
    model.eval()
    rows: List[List[np.ndarray]] = []
    for (sample,) in build_test_loader(cfg, dataset_name):
        if len(rows) == num_images:
            break
        record = records[sample["file_name"]]
        images = model.batch([sample["image"]])
        prediction = model.predict(images.tensor)
        output = model.postprocess(prediction, images, [sample])[0]
        truth = (read_panoptic_png(record["pan_seg_file_name"]), record["segments_info"])
        rows.append(
            panoptic_deeplab_row(
                read_image(sample["file_name"], "RGB"),
                colors=colors,
                prediction=output["panoptic_seg"],
                ground_truth=truth,
                center_heatmap=prediction.center_heatmap[0],
                center_offsets=prediction.center_offsets[0],
                thing_ids=thing_ids,
            )
        )
    partial = f"{path}.partial.png"
    Image.fromarray(sheet(rows, titles=ROW_TITLES, cell_size=(256, 320))).save(partial)
    os.replace(partial, path)


def parse_arguments(arguments: "list[str] | None" = None) -> argparse.Namespace:
    """Detectron2's arguments; the generated dataset and ``output/demo`` are the defaults."""
    parser = argument_parser()
    parser.description = __doc__
    parser.set_defaults(config_file=CONFIG)
    args: Any = parser.parse_args(arguments)
    if "OUTPUT_DIR" not in args.opts:
        args.opts += ["OUTPUT_DIR", os.path.join("output", "demo")]
    return args


if __name__ == "__main__":
    main(parse_arguments())
