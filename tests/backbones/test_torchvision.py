"""Networks of torchvision: its own numbers, under the contract of our backbones."""

import copy
from typing import Any, Dict

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone
from torch import Tensor

from deeplab2_d2.backbones import LibraryBackbone
from deeplab2_d2.config import add_deeplab2_config

torchvision = pytest.importorskip("torchvision")

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def config(name: str, output_stride: int = 32, *options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    # As torchvision's transforms normalise, so that images go to the network as they are.
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = "RGB", MEAN, STD
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_torchvision_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DEEPLAB2.NORM.NAME = "BN"
    cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE = output_stride
    cfg.merge_from_list(["MODEL.DEEPLAB2.TORCHVISION.NAME", name, *options])
    return cfg


def outputs(network: Any, modules: Dict[str, str], images: Tensor) -> Dict[str, Tensor]:
    """What some modules of torchvision's own network give in a run of the whole of it."""
    found: Dict[str, Tensor] = {}
    for key, name in modules.items():
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, key=key: found.update({key: output})
        )
    network(images)
    return found


RESNET = {"res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}
MOBILE = {"res2": "features.1", "res3": "features.3", "res4": "features.8", "res5": "features.12"}
SWIN = {"res2": "features.1", "res3": "features.3", "res4": "features.5", "res5": "norm"}


@pytest.mark.parametrize(
    "name, modules, output_stride, options, size",
    [
        ("resnet18", RESNET, 32, {}, (65, 98)),
        ("mobilenet_v3_small", MOBILE, 32, {}, (65, 98)),
        ("mobilenet_v3_small", MOBILE, 16, {"dilated": True}, (65, 98)),
        ("swin_t", SWIN, 32, {}, (64, 96)),
    ],
)
@torch.inference_mode()
def test_features_are_torchvisions(
    name: str, modules: Dict[str, str], output_stride: int, options: Any, size: Any
) -> None:
    torch.manual_seed(0)
    backbone: LibraryBackbone = build_backbone(config(name, output_stride)).eval()
    network = torchvision.models.get_model(name, **options).eval()
    network.load_state_dict(backbone.body.network.state_dict(), strict=False)
    images = torch.randn(1, 3, *size)
    expected = outputs(network, modules, images)
    for copied in (backbone, copy.deepcopy(backbone)):
        found, shapes = copied(images), copied.output_shape()
        for key, feature in found.items():
            other = expected[key].permute(0, 3, 1, 2) if name == "swin_t" else expected[key]
            torch.testing.assert_close(feature, other, atol=1e-5, rtol=1e-4)
            assert (feature.shape[1], size[0] / feature.shape[2]) <= (shapes[key].channels, 32)


@pytest.mark.parametrize(
    "name, output_stride, message",
    [
        ("resnet19", 32, "TORCHVISION.NAME must be one of .*'resnet18'.* got 'resnet19'"),
        ("mobilenet_v3_small", 8, r"OUTPUT_STRIDE must be another for torchvision's mobilenet_v3_"),
        ("vit_b_32", 32, "takes images of any size, got torchvision's vit_b_32"),
    ],
)
def test_what_cannot_be_had_is_refused_by_key(name: str, output_stride: int, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_backbone(config(name, output_stride))


@torch.inference_mode()
def test_patches_are_padded_to_our_sizes() -> None:
    backbone = build_backbone(config("convnext_tiny")).eval()
    sizes = {key: tuple(f.shape[2:]) for key, f in backbone(torch.zeros(1, 3, 65, 97)).items()}
    assert sizes == {"res2": (17, 25), "res3": (9, 13), "res4": (5, 7), "res5": (3, 4)}
