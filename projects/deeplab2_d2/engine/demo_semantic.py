"""
Train semantic models on generated images and evaluate each with and without the dense CRF.

What `make demo-deeplab` runs: DeepLab v2 on a narrow VGG-16, and v3+ on a narrow Xception. With
`--config-file` that config alone, whose dataset must be there unless it is that of the shapes.
"""

import argparse
import os
import sys
import time
from typing import List, Tuple

from detectron2.config import CfgNode
from tabulate import tabulate

from ..allocation import keep_freed_memory
from ..command import run_command
from ..data.catalog import datasets_root
from ..data.shapes import prepare_shapes
from ..models import Segmenter, crf_from_config
from .demo_arguments import refuse_other_runs
from .setup import ConfigError, argument_parser, setup
from .trainer import DeepLab2Trainer

_FOLDER = "configs/Shapes-SemanticSegmentation"
CONFIGS = (
    f"{_FOLDER}/deeplab_v2_VGG_16_narrow_os8_poly_bs8_crop_129_161.yaml",
    f"{_FOLDER}/deeplab_v3plus_X_41_narrow_os16_poly_bs8_crop_129_161.yaml",
)


def main(args: argparse.Namespace) -> List[List[object]]:
    """
    Train, evaluate and print the table.

    Returns:
        Of each config its name, the mIoU in percent without and with the CRF, and the minutes.
    """
    rows = []
    for config in [args.config_file] if args.config_file else CONFIGS:
        name = os.path.splitext(os.path.basename(config))[0]
        folder = ["OUTPUT_DIR", os.path.join("output", "demo_semantic", name)]
        options = argparse.Namespace(**{**vars(args), "config_file": config})
        options.opts = args.opts if "OUTPUT_DIR" in args.opts else [*args.opts, *folder]
        rows.append([name, *_run(options)])
    headers = ["config", "mIoU", "mIoU with CRF", "minutes"]
    print("\n" + tabulate(rows, headers=headers, floatfmt=".1f"))
    return rows


def _run(args: argparse.Namespace) -> List[float]:
    start = time.perf_counter()
    cfg = setup(args, _prepare)
    scores = train_and_evaluate(cfg, resume=args.resume)
    return [*scores, (time.perf_counter() - start) / 60]


def _prepare(cfg: CfgNode) -> None:
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    if any(name.startswith("shapes_panoptic") for name in names):
        prepare_shapes(os.path.join(datasets_root(), "shapes"))


def train_and_evaluate(cfg: CfgNode, *, resume: bool = False) -> Tuple[float, float]:
    """
    Train a config's model.

    Returns:
        Its mIoU on DATASETS.TEST, in percent: as it is, and refined by MODEL.DEEPLAB2.CRF.

    Raises:
        ConfigError: if the config refines by itself, or the model is none of this package's.
    """
    if cfg.MODEL.DEEPLAB2.CRF.ENABLED:
        raise ConfigError(
            "config key MODEL.DEEPLAB2.CRF.ENABLED must be False, since both are compared, got True"
        )
    trainer = DeepLab2Trainer(cfg)
    model = trainer.checkpointer.model
    if not isinstance(model, Segmenter):
        raise ConfigError(
            "config key MODEL.META_ARCHITECTURE must be one of this package's, got "
            f"{cfg.MODEL.META_ARCHITECTURE!r}"
        )
    trainer.resume_or_load(resume=resume)
    trainer.train()
    refined = cfg.clone()
    refined.defrost()
    refined.MODEL.DEEPLAB2.CRF.ENABLED = True
    model.crf = crf_from_config(refined)
    results = DeepLab2Trainer.test(refined, model.eval())
    return trainer._last_eval_results["sem_seg"]["mIoU"], results["sem_seg"]["mIoU"]


def _parse_arguments() -> argparse.Namespace:
    parser = argument_parser()
    parser.description = __doc__
    args = parser.parse_args()
    refuse_other_runs(parser, args)
    return args


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(run_command("demo_semantic", lambda: main(_parse_arguments())))
