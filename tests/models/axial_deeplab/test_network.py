"""Axial-DeepLab under its own name."""

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from deeplab2_d2.config import add_deeplab2_config


def _config(backbone: str) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2AxialDeepLab"
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    cfg.DATASETS.TRAIN = ("cityscapes_fine_panoptic_train",)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
    cfg.INPUT.CROP.SIZE = [65, 65]
    node = cfg.MODEL.DEEPLAB2
    node.BACKBONE.NAME, node.BACKBONE.OUTPUT_STRIDE = backbone, 16
    # The row is half as wide as it is written.
    node.BACKBONE.WIDTH_MULTIPLIER, node.BACKBONE.RESIDUAL.LAYER_MULTIPLIER = 0.25, 0.34
    for decoder in (node.SEMANTIC_DECODER, node.INSTANCE_DECODER):
        decoder.ASPP, decoder.CHANNELS, decoder.ASPP_CHANNELS = "1x1", 8, 8
    return cfg


def test_it_is_panoptic_deeplab_on_axial_attention() -> None:
    cfg = _config("axial_deeplab_s")
    axial = build_model(cfg).eval()
    attention = axial.backbone.stage2.block1.attention
    assert type(attention).__name__ == "AxialAttention2d"
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2PanopticDeepLab"
    panoptic = build_model(cfg).eval()
    panoptic.load_state_dict(axial.state_dict())
    image = torch.randn(1, 3, 33, 49)
    with torch.no_grad():
        found, expected = axial.predict(image), panoptic.predict(image)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # At stride 4.
    assert found["center_offsets"].shape == (1, 2, 9, 13)


def test_backbone_without_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="must start with 'axial_'.*got 'resnet50'"):
        build_model(_config("resnet50"))
