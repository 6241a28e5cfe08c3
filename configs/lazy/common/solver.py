"""Optimizers and schedules; whoever trains sets `optimizer.params.model`."""

from detectron2.config import LazyCall as L

from deeplab2_d2.solver import (
    KerasAdam,
    KerasAdamW,
    KerasSGD,
    LearningRateFactor,
    build_parameter_groups,
)

_params = L(build_parameter_groups)(
    model=None,
    base_lr="${..lr}",
    weight_decay=0.0,
    backbone_multiplier=1.0,
    classifier_multiplier=1.0,
    bias_multiplier=1.0,
    decays_depthwise=True,
)
# Adam's epsilon is Keras's.
adam = L(KerasAdam)(params=_params, lr=0.001, eps=1e-7)
adamw = L(KerasAdamW)(params=_params, lr=0.001, eps=1e-7)
sgd = L(KerasSGD)(params=_params, lr=0.01, momentum=0.9)

lr_multiplier = L(LearningRateFactor)(
    max_iter="${train.max_iter}", schedule="poly", poly_power=0.9, warmup_iters=0
)
