"""ResNets of torchvision, timm and Detectron2 in our own ResNets: the same features, or said so."""

import logging
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor

from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.torchvision_resnet import detectron2_names
from deeplab2_d2.config import add_deeplab2_config

torchvision = pytest.importorskip("torchvision")

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def config(name: str, *options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.CROP.SIZE, cfg.MODEL.DEVICE = "RGB", [65, 97], "cpu"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = MEAN, STD
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_deeplab2_backbone", 0
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2DeepLabV3Plus"
    cfg.MODEL.DEEPLAB2.BACKBONE.NAME = name
    cfg.MODEL.DEEPLAB2.NORM.NAME, cfg.MODEL.DEEPLAB2.NORM.EPSILON = "BN", 1e-5
    cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL = [["res2", 16]]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.merge_from_list([*options])
    return cfg


@pytest.fixture(scope="module")
def network() -> Any:
    """torchvision's, with weights and statistics at random as those of a trained one."""
    torch.manual_seed(3)
    network = torchvision.models.resnet50().eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif "bn" in name and value.is_floating_point():
            value.normal_(std=0.2)
    return network


def save(path: Path, network: Any, style: str) -> str:
    weights: Dict[str, Tensor] = network.state_dict()
    if style != "torchvision":
        weights = detectron2_names(weights)
    if style == "pyramid":
        weights = {f"backbone.bottom_up.{name}": value for name, value in weights.items()}
    torch.save({"model": weights} if style == "pyramid" else weights, path / f"{style}.pth")
    return str(path / f"{style}.pth")


def features(network: Any, images: Tensor) -> Dict[str, Tensor]:
    found: Dict[str, Tensor] = {}
    features = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    for number in range(1, 5):
        features = found[f"res{number + 1}"] = getattr(network, f"layer{number}")(features)
    return found


@pytest.mark.parametrize("style, size", [("torchvision", (65, 97)), ("pyramid", (64, 90))])
@torch.inference_mode()
def test_features_are_torchvisions_at_odd_and_even_sizes(
    style: str, size: Any, network: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model(config("resnet50_torchvision")).eval()
    with caplog.at_level(logging.INFO, "deeplab2_d2.checkpoint.imagenet_resnet"):
        checkpointer = DeepLab2Checkpointer(model)
        checkpointer.load(save(tmp_path, network, style))
    assert "it computes the same" in caplog.text
    assert all(name.startswith("head.") for name in checkpointer.unloaded)
    images = torch.randn(1, 3, *size)
    expected = features(network, images)
    for key, feature in model.backbone(images).items():
        torch.testing.assert_close(feature, expected[key], atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_our_pixels_are_folded_into_the_first_convolution(
    network: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = ["MODEL.PIXEL_MEAN", [127.5] * 3, "MODEL.PIXEL_STD", [127.5] * 3]
    model = build_model(config("resnet50_torchvision", *ours)).eval()
    with caplog.at_level(logging.INFO, "deeplab2_d2.checkpoint.imagenet_resnet"):
        DeepLab2Checkpointer(model).load(save(tmp_path, network, "torchvision"))
    assert "first convolution now takes RGB images of mean (127.5, 127.5, 127.5)" in caplog.text
    photo = torch.randint(0, 256, (1, 3, 65, 65)).float()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    expected = network.bn1(network.conv1((photo - mean) / std))
    stem = model.backbone.conv1_1
    found = stem.batch_norm(stem.conv(photo / 127.5 - 1.0))
    # At the border torchvision's zeros are ImageNet's mean, ours are gray.
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_what_is_different_in_the_residual_network_is_said_and_nothing_else_is(
    network: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model(config("resnet50", "MODEL.DEEPLAB2.NORM.EPSILON", 1e-3)).eval()
    with caplog.at_level(logging.INFO, "deeplab2_d2.checkpoint.imagenet_resnet"):
        DeepLab2Checkpointer(model).load(save(tmp_path, network, "torchvision"))
    lines = [r for r in caplog.records if r.name.endswith("imagenet_resnet")]
    assert len(lines) == 1 and "no max pooling" in caplog.text
    assert "add [0.001] to variances, not 1e-05 (MODEL.DEEPLAB2.NORM.EPSILON)" in caplog.text
    # Without torchvision's pooling, with the stride where ours has it, and our epsilon.
    network.layer1[0].conv2.stride = network.layer1[0].downsample[0].stride = (2, 2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    pool, network.maxpool = network.maxpool, torch.nn.Identity()
    images = torch.randn(1, 3, 65, 97)
    expected = features(network, images)
    network.layer1[0].conv2.stride = network.layer1[0].downsample[0].stride = (1, 1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5
    network.maxpool = pool
    found = model.backbone(images)
    for key in ("res2", "res5"):
        torch.testing.assert_close(found[key], expected[key], atol=1e-3, rtol=1e-3)


def test_another_depth_is_refused_by_name(tmp_path: Path, network: Any) -> None:
    with torch.device("meta"):
        model = build_model(config("resnet101", "MODEL.DEVICE", "meta"))
    # The first 50 layers would fit, and the rest would be random.
    with pytest.raises(ValueError, match="must have the depth and widths of the model's"):
        DeepLab2Checkpointer(model).check(save(tmp_path, network, "torchvision"))
