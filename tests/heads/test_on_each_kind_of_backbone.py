"""Panoptic-DeepLab's heads in every arrangement, DeepLab v3 and v3+: on each kind of backbone."""

from typing import Any, Dict, List

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_sem_seg_head
from torch import Tensor, nn

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.models.panoptic_deeplab import DeepLab2PanopticDeepLab

_HEIGHT, _WIDTH = 65, 97
# Heads read features by name, stride and channels, and tests/backbones proves those of every row of
# the table true. One network for each place where features come from: stages of a residual network,
# decoder stacks without and with a memory path, the blocks of MobileNet-V3, the inside of modules
# (Xception, ResNets with strides at the end), pools (VGG), branches (HRNet) and cells.
_BACKBONES = (
    *("resnet_tiny", "max_deeplab_l_backbone", "max_deeplab_tiny", "mobilenet_v3_small"),
    *("xception_41", "resnet_v1_50_beta", "resnet101_caffe", "vgg16"),
    *("hrnet_w18", "auto_deeplab_s"),
)
_SEMANTIC, _INSTANCE = "MODEL.DEEPLAB2.SEMANTIC_DECODER.", "MODEL.DEEPLAB2.INSTANCE_DECODER."
# What the released configs and the papers' ablations vary.
_ARRANGEMENTS: Dict[str, List[Any]] = {
    "panoptic": [],
    "semantic only": ["MODEL.DEEPLAB2.INSTANCE_ENABLED", False],
    "standard convolutions": [
        *(_SEMANTIC + "CONV_TYPE", "standard_conv", _INSTANCE + "CONV_TYPE", "standard_conv"),
    ],
    "1x1 ASPP, as over attention": [
        *(_SEMANTIC + "ASPP", "1x1", _INSTANCE + "ASPP", "1x1"),
    ],
    "global pooling": [_SEMANTIC + "ASPP", "global", _INSTANCE + "ASPP", "global"],
}


def _config(backbone: str, output_stride: int, options: List[Any]) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DEEPLAB2.BACKBONE.NAME = backbone
    cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE = output_stride
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
    cfg.MODEL.DEEPLAB2.NORM.NAME = "BN"
    cfg.INPUT.CROP.SIZE = [_HEIGHT, _WIDTH]
    cfg.merge_from_list(options)
    return cfg


def _stride_4() -> Any:
    return (_HEIGHT - 1) // 4 + 1, (_WIDTH - 1) // 4 + 1


def _without_gradient(module: nn.Module, outputs: List[Tensor]) -> List[str]:
    """Parameters that do not take part in the outputs."""
    torch.stack([output.sum() for output in outputs]).sum().backward()
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


# On the meta device: no numbers, but shapes, and what depends on what. What could go wrong is which
# features a head reads, and their channels.
@pytest.mark.parametrize("arrangement", _ARRANGEMENTS)
@pytest.mark.parametrize("backbone_name", _BACKBONES)
def test_panoptic_deeplab_predicts_at_stride_4(backbone_name: str, arrangement: str) -> None:
    output_stride = 32 if arrangement == "standard convolutions" else 16
    cfg = _config(backbone_name, output_stride, _ARRANGEMENTS[arrangement])
    with torch.device("meta"):
        backbone = build_backbone(cfg, ShapeSpec(channels=3)).eval()
        head = DeepLab2PanopticDeepLab.build_head(cfg, backbone.output_shape()).eval()
        prediction = head(backbone(torch.zeros(1, 3, _HEIGHT, _WIDTH)))
    assert _without_gradient(head, list(prediction.values())) == []
    assert next(backbone.parameters()).grad is not None
    assert prediction["semantic_logits"].shape == (1, 19, *_stride_4())
    if arrangement == "semantic only":
        assert set(prediction) == {"semantic_logits"}
    else:
        assert prediction["center_heatmap"].shape == (1, 1, *_stride_4())
        assert prediction["center_offsets"].shape == (1, 2, *_stride_4())


@pytest.mark.parametrize("head_name", ["DeepLab2DeepLabV3Head", "DeepLab2DeepLabV3PlusHead"])
@pytest.mark.parametrize("backbone_name", _BACKBONES)
def test_deeplab_v3_and_v3_plus_predict_at_their_stride(backbone_name: str, head_name: str) -> None:
    low_level = [] if head_name == "DeepLab2DeepLabV3Head" else ["res2"]
    options = [_SEMANTIC + "LOW_LEVEL", [[name, 48] for name in low_level]]
    cfg = _config(backbone_name, 16, ["MODEL.SEM_SEG_HEAD.NAME", head_name, *options])
    with torch.device("meta"):
        backbone = build_backbone(cfg, ShapeSpec(channels=3)).eval()
        head = build_sem_seg_head(cfg, backbone.output_shape()).eval()
        logits = head.predict(backbone(torch.zeros(1, 3, _HEIGHT, _WIDTH)))
    assert _without_gradient(head, [logits]) == []
    assert next(backbone.parameters()).grad is not None
    stride = 4 if low_level else 16
    assert logits.shape == (1, 19, (_HEIGHT - 1) // stride + 1, (_WIDTH - 1) // stride + 1)
