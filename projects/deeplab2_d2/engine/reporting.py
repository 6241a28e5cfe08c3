"""What a training tells of itself: logs, throughput, metrics, pictures."""

import os
from typing import List

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from torch import nn

from ..models import Segmenter
from .config_error import ConfigError
from .pictures import PredictionPictures, PredictionSheets, has_panoptic_truth
from .throughput import Throughput
from .training_metrics import TrainingMetrics


def reporting_hooks(cfg: CfgNode, model: nn.Module) -> List[HookBase]:
    """
    Hooks of the main process; none in others. They stand before the writers.

    Raises:
        ConfigError: if pictures are asked for of a dataset without panoptic ground truth.
    """
    if not comm.is_main_process():
        return []
    period = cfg.SOLVER.DEEPLAB2.LOG_PERIOD
    images = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
    reporting: List[HookBase] = [Throughput(images, period)]
    if isinstance(model, Segmenter):
        reporting.append(TrainingMetrics(model, period))
    if cfg.VIS_PERIOD > 0 and isinstance(model, Segmenter):
        if not cfg.DATASETS.TEST or not has_panoptic_truth(cfg.DATASETS.TEST[0]):
            raise ConfigError(
                "config key VIS_PERIOD must be 0 unless the first of DATASETS.TEST has "
                f"panoptic ground truth, got {cfg.VIS_PERIOD} for {cfg.DATASETS.TEST}"
            )
        sheets = PredictionSheets(cfg, cfg.DATASETS.TEST[0], num_images=2)
        reporting.append(PredictionPictures(sheets, model, cfg.VIS_PERIOD))
    return reporting


def build_writers(cfg: CfgNode, max_iter: int) -> List[EventWriter]:
    """Terminal, metrics.json and TensorBoard; medians over the iterations of one period."""
    folder, period = cfg.OUTPUT_DIR, cfg.SOLVER.DEEPLAB2.LOG_PERIOD
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(folder, "metrics.json"), window_size=period),
        TensorboardXWriter(folder, window_size=period),
    ]
