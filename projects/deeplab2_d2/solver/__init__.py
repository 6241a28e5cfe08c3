"""Optimizers, parameter groups, schedules and gradient clipping."""

from .build import build_lr_scheduler, build_optimizer
from .clipping import clip_gradient_norm
from .lookahead import LookaheadRAdam
from .optimizers import KerasAdam, KerasAdamW, KerasSGD
from .parameter_groups import build_parameter_groups
from .schedules import DeepLab2LRScheduler, LearningRateFactor, compute_learning_rate

__all__ = [
    "DeepLab2LRScheduler",
    "KerasAdam",
    "KerasAdamW",
    "KerasSGD",
    "LearningRateFactor",
    "LookaheadRAdam",
    "build_lr_scheduler",
    "build_optimizer",
    "build_parameter_groups",
    "clip_gradient_norm",
    "compute_learning_rate",
]
