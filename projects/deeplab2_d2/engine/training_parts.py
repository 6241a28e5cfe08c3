"""What a config says of a training: its rate, precision, processes, average and gradients."""

import logging
from typing import Any, Callable, List, Optional

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..solver import clip_gradient_norm
from .ema import WeightAverage

logger = logging.getLogger(__name__)

_AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def amp_dtype(cfg: CfgNode) -> Optional[torch.dtype]:
    """What the step autocasts to, or None where SOLVER.AMP is off."""
    return _AMP_DTYPES[cfg.SOLVER.DEEPLAB2.AMP_DTYPE] if cfg.SOLVER.AMP.ENABLED else None


def wrap_for_processes(model: nn.Module) -> nn.Module:
    """``DistributedDataParallel`` where there are several processes, on GPUs or on CPUs."""
    if comm.get_world_size() == 1:
        return model
    is_cuda = next(model.parameters()).is_cuda
    device_ids = [comm.get_local_rank()] if is_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)


class ToldProgress(HookBase):
    """Tell parts of a model that have a ``follow``, before every step, how far the training is."""

    def __init__(self, model: nn.Module):
        parts: List[Any] = [*model.modules(), getattr(model, "criterion", None)]
        self.followers = [part for part in parts if hasattr(part, "follow")]

    def before_step(self) -> None:
        for part in self.followers:
            part.follow(self.trainer.iter, self.trainer.max_iter)


def compile_network(model: nn.Module) -> None:
    """Compile backbone and head in place; losses and post-processing stay eager."""
    for name in ("backbone", "head"):
        if not hasattr(model, name):
            raise ValueError(
                "config key SOLVER.DEEPLAB2.COMPILE must be False for a model without "
                f"{name!r}, got {type(model).__name__}"
            )
        getattr(model, name).compile()


def scale_learning_rate(cfg: CfgNode) -> CfgNode:
    """
    Multiply BASE_LR by the effective batch size over SOLVER.DEEPLAB2.REFERENCE_BATCH.

    Returns:
        The config itself where REFERENCE_BATCH is 0, else a frozen copy with the new BASE_LR and
        a REFERENCE_BATCH of 0, so that it is not scaled again.
    """
    node = cfg.SOLVER.DEEPLAB2
    if node.REFERENCE_BATCH == 0:
        return cfg
    batch = cfg.SOLVER.IMS_PER_BATCH * node.ACCUMULATION_STEPS
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.BASE_LR = cfg.SOLVER.BASE_LR * batch / node.REFERENCE_BATCH
    scaled.SOLVER.DEEPLAB2.REFERENCE_BATCH = 0
    scaled.freeze()
    logger.info(
        "learning rate %g for a batch of %d (%g for %d)",
        scaled.SOLVER.BASE_LR,
        batch,
        cfg.SOLVER.BASE_LR,
        node.REFERENCE_BATCH,
    )
    return scaled


def build_average(cfg: CfgNode, model: nn.Module) -> Optional[WeightAverage]:
    """The running average of a model's weights, or None where SOLVER.DEEPLAB2.EMA_DECAY is 0."""
    decay = cfg.SOLVER.DEEPLAB2.EMA_DECAY
    return WeightAverage(model, decay) if decay > 0 else None


def gradient_clipping(cfg: CfgNode) -> Optional[Callable[[nn.Module], Any]]:
    """What clips the gradients of a model, or None where SOLVER.CLIP_GRADIENTS is off."""
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return None
    max_norm = cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE
    return lambda model: clip_gradient_norm(model.parameters(), max_norm)
