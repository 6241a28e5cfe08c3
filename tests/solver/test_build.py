import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from deeplab2_d2.backbones.build import build_backbone_by_name
from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.layers import Norm
from deeplab2_d2.solver import (
    KerasAdam,
    KerasAdamW,
    KerasSGD,
    build_lr_scheduler,
    build_optimizer,
    build_parameter_groups,
)


class _Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory_feature = nn.Parameter(torch.zeros(1, 4, 8))
        self.embedding = nn.Embedding(4, 8)


class _Backbone(nn.ModuleDict):
    new_parts = ("transformer", "extra", "memory_feature")


def _model():
    backbone = _Backbone(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "batch_norm": nn.BatchNorm2d(4),
            "transformer1": nn.Linear(4, 4),
            "memory": _Memory(),
            "frozen": nn.Linear(2, 2).requires_grad_(False),
        }
    )
    return nn.ModuleDict({"backbone": backbone, "head": nn.Conv2d(4, 2, 1)})


def _by_name(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_kernels_decay_and_only_pretrained_parts_get_the_backbones_rate():
    model = _model()
    groups = build_parameter_groups(model, base_lr=1.0, weight_decay=0.5, backbone_multiplier=0.1)
    assert _by_name(model, groups) == {
        "backbone.conv.weight": (0.1, 0.5),
        "backbone.conv.bias": (0.1, 0.0),
        "backbone.batch_norm.weight": (0.1, 0.0),
        "backbone.batch_norm.bias": (0.1, 0.0),
        "backbone.transformer1.weight": (1.0, 0.5),
        "backbone.transformer1.bias": (1.0, 0.0),
        "backbone.memory.memory_feature": (1.0, 0.0),
        "backbone.memory.embedding.weight": (0.1, 0.0),
        "head.weight": (1.0, 0.5),
        "head.bias": (1.0, 0.0),
    }
    assert len(groups) == 4


def test_the_memory_path_and_what_follows_the_pretrained_stages_keep_the_full_rate():
    with torch.device("meta"):
        backbone = build_backbone_by_name(
            "max_deeplab_l", norm=Norm(name="BN"), in_channels=3, output_stride=16
        )
    model = nn.ModuleDict({"backbone": backbone})
    groups = build_parameter_groups(model, base_lr=1.0, weight_decay=0.0, backbone_multiplier=0.1)
    rates = {name: rate for name, (rate, _) in _by_name(model, groups).items()}

    def rates_of(prefix):
        return {rate for name, rate in rates.items() if name.startswith("backbone." + prefix)}

    # One of the two stacks of the decoder is pretrained.
    for pretrained in ("stem", "stage1.", "stage4.block1.", "stage5.block2.", "decoder_stage1."):
        assert rates_of(pretrained) == {0.1}, pretrained
    full = ("memory_feature", "stage4.block1_transformer.", "decoder_stage5_extra.")
    for new in full + ("class_feature_extra", "mask_feature_extra"):
        assert rates_of(new) == {1.0}, new


def _cfg(**options):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.SOLVER.BASE_LR = 0.5
    cfg.SOLVER.WEIGHT_DECAY = 0.25
    for name, value in options.items():
        setattr(cfg.SOLVER.DEEPLAB2, name, value)
    return cfg


def test_config_chooses_the_optimizer_and_its_options():
    model = nn.Linear(2, 1)
    adam = build_optimizer(_cfg(), model)
    assert type(adam) is KerasAdam
    assert [(group["keras_eps"], group["weight_decay"]) for group in adam.param_groups] == [
        (1e-7, 0.25),
        (1e-7, 0.0),
    ]
    sgd = build_optimizer(_cfg(OPTIMIZER="sgd"), model)
    assert type(sgd) is KerasSGD
    assert sgd.param_groups[0]["momentum"] == 0.9


def test_adamw_decays_by_the_same_key_but_not_through_the_gradient():
    optimizer = build_optimizer(_cfg(OPTIMIZER="adamw"), nn.Linear(2, 1))
    assert type(optimizer) is KerasAdamW
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


def test_unknown_optimizer_and_schedule_are_named():
    with pytest.raises(ValueError, match="SOLVER.DEEPLAB2.OPTIMIZER must be one of.*'rmsprop'"):
        build_optimizer(_cfg(OPTIMIZER="rmsprop"), nn.Linear(2, 1))
    with pytest.raises(ValueError, match="schedule must be"):
        build_lr_scheduler(_cfg(SCHEDULE="stairs"), build_optimizer(_cfg(), nn.Linear(2, 1)))


def test_schedule_follows_the_config():
    cfg = _cfg(POLY_POWER=1.0, END_LR=0.1, BACKBONE_MULTIPLIER=0.5)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 4, 1
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1, bias=False), "head": nn.Conv1d(1, 1, 1)})
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(5):
        rates.append(scheduler.get_last_lr()[:2])
        optimizer.step()
        scheduler.step()
    assert rates == [
        pytest.approx([backbone, head])
        for backbone, head in [(0, 0), (0.2125, 0.4), (0.175, 0.3), (0.1375, 0.2), (0.1, 0.1)]
    ]
