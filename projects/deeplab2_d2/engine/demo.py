"""
Train a model, evaluate it, and show what it learnt: what `make demo` and `make demo-max` run.

Configs of the shapes train on a dataset that is generated first. With another config the dataset
must be there:

    DETECTRON2_DATASETS=... python -m deeplab2_d2.engine.demo --config-file CONFIG [KEY VALUE ...]
"""

import argparse
import os
import sys
import time
from typing import Dict, Mapping

from detectron2.config import CfgNode
from PIL import Image
from tabulate import tabulate

from ..allocation import keep_freed_memory
from ..command import run_command
from ..data.catalog import datasets_root
from ..data.shapes import prepare_shapes
from ..structures import atomic_path
from .baselines import score_baselines
from .demo_arguments import parse_demo_arguments
from .evaluators import model_outputs
from .pictures import PredictionSheets
from .setup import ConfigError, setup
from .trainer import DeepLab2Trainer

CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
SCORES = ("PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st")


def main(args: argparse.Namespace) -> Dict[str, Dict[str, float]]:
    """
    Train, evaluate, print the table and write the sheet.

    Returns:
        The panoptic scores of "model", "trivial" and "oracle", in percent.
    """
    start = time.perf_counter()
    cfg = setup(args, _prepare)
    dataset_name = cfg.DATASETS.TEST[0]
    if "panoptic_seg" not in model_outputs(cfg):
        raise ConfigError(
            "the demo must have a model that returns panoptic_seg (config key "
            f"MODEL.DEEPLAB2.POSTPROCESSING.PANOPTIC_OUTPUT), got one with {model_outputs(cfg)}"
        )
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    results = trainer._last_eval_results
    scores = {"model": results["panoptic_seg"], **score_baselines(cfg, dataset_name)}
    picture = os.path.join(cfg.OUTPUT_DIR, "sheet.png")
    sheets = PredictionSheets(cfg, dataset_name, num_images=4)
    with atomic_path(picture) as temporary:
        Image.fromarray(sheets.draw(trainer.checkpointer.model)).save(temporary, format="PNG")
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{dataset_name}, panoptic quality in percent (panopticapi):\n{_table(scores)}\n")
    print(f"Other scores: {_summary(results)}")
    print(f"Pictures: {picture}   Log: {cfg.OUTPUT_DIR}/log.txt   Time: {minutes:.1f} minutes")
    return scores


def _prepare(cfg: CfgNode) -> None:
    if any(name.startswith("shapes_") for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        prepare_shapes(os.path.join(datasets_root(), "shapes"))


def _table(scores: Mapping[str, Mapping[str, float]]) -> str:
    names = {"model": "this model", "trivial": "commonest stuff class", "oracle": "stride-4 oracle"}
    rows = [[names[key], *(score[name] for name in SCORES)] for key, score in scores.items()]
    return tabulate(rows, headers=["predictor", *SCORES], floatfmt=".1f")


def _summary(results: Mapping[str, Mapping[str, float]]) -> str:
    found = {**results.get("sem_seg", {}), **results.get("segm", {})}
    return ", ".join(f"{name} {found[name]:.1f}" for name in ("mIoU", "IoU", "AP") if name in found)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run_command("demo", lambda: main(parse_demo_arguments(__doc__, CONFIG, "demo", None))))
