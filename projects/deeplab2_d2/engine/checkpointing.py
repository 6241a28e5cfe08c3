"""The checkpointer of trainings and of evaluations."""

from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..checkpoint import DeepLab2Checkpointer


def build_checkpointer(
    cfg: CfgNode, model: nn.Module, **checkpointables: Any
) -> DeepLab2Checkpointer:
    """A checkpointer of the model that saves to OUTPUT_DIR."""
    return DeepLab2Checkpointer(
        model,
        cfg.OUTPUT_DIR,
        allow_partial=cfg.MODEL.DEEPLAB2.PARTIAL_WEIGHTS,
        **checkpointables,
    )
