"""The checkpointer of trainings and of evaluations."""

from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..checkpoint import DeepLab2Checkpointer, classes_of_dataset


def build_checkpointer(
    cfg: CfgNode, model: nn.Module, **checkpointables: Any
) -> DeepLab2Checkpointer:
    """A checkpointer that saves the model to OUTPUT_DIR, with its config and its classes."""
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    return DeepLab2Checkpointer(
        model,
        cfg.OUTPUT_DIR,
        allow_partial=cfg.MODEL.DEEPLAB2.PARTIAL_WEIGHTS,
        classes=classes_of_dataset(names[0]) if names else None,
        config=cfg.dump(),
        **checkpointables,
    )
