"""DeepLab v1 to v3+ as models: they learn, and v2 fuses its scales as its authors' files do."""

from pathlib import Path
from typing import Any, Dict

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor

from deeplab2_d2.config import add_deeplab2_config, validate_config
from deeplab2_d2.solver import build_optimizer
from deeplab2_d2.structures import classifier_names

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
CLASSES = 3
_BACKBONES = {
    "V1": ("vgg16", 8),
    "V2": ("resnet101_caffe", 8),
    "V3": ("mobilenet_v3_small", 16),
    "V3Plus": ("xception_41", 16),
}


def config(version: str, **keys: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    base = "Base-DeepLab-Caffe.yaml" if version in ("V1", "V2") else "Base-DeepLab.yaml"
    cfg.merge_from_file(str(CONFIGS / base))
    node = cfg.MODEL.DEEPLAB2
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", f"DeepLab2DeepLab{version}"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = CLASSES
    cfg.MODEL.PIXEL_STD = [64.0] * 3
    node.BACKBONE.NAME, node.BACKBONE.OUTPUT_STRIDE = _BACKBONES[version]
    node.BACKBONE.WIDTH_MULTIPLIER = 0.125
    node.NORM.NAME = "BN"
    node.SEMANTIC_DECODER.CHANNELS = node.SEMANTIC_DECODER.ASPP_CHANNELS = 16
    node.DEEPLAB.HIDDEN_CHANNELS = 16 if version == "V1" else 0
    cfg.INPUT.CROP.SIZE = [65, 65]
    cfg.SOLVER.BASE_LR = 0.003
    cfg.SOLVER.DEEPLAB2.OPTIMIZER = "adam"
    for key, value in keys.items():
        cfg.merge_from_list([f"MODEL.DEEPLAB2.{key.replace('__', '.')}", value])
    validate_config(cfg)
    return cfg


def model(cfg: CfgNode) -> Any:
    torch.manual_seed(0)
    return build_model(cfg)


def bands(height: int = 65, width: int = 65) -> Dict[str, Tensor]:
    """An image of three vertical bands, of gray levels that are their classes."""
    labels = (torch.arange(width) * CLASSES // width).expand(height, width).contiguous()
    image = (labels * 100.0).expand(3, height, width).contiguous()
    return {"image": image, "sem_seg": labels}


@pytest.mark.parametrize("version", list(_BACKBONES))
def test_each_version_learns_an_image(version: str) -> None:
    cfg = config(version)
    network = model(cfg).train()
    optimizer, losses = build_optimizer(cfg, network), []
    for _ in range(25):
        found = network([bands(), bands()])
        assert list(found) == ["loss_semantic"]
        losses.append(found["loss_semantic"].item())
        optimizer.zero_grad()
        found["loss_semantic"].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    sample = {**bands(), "height": 33, "width": 97}
    (output,) = network.eval()([sample])
    assert list(output) == ["sem_seg"] and output["sem_seg"].shape == (CLASSES, 33, 97)


def test_v2_fuses_its_scales_and_each_has_a_loss() -> None:
    network = model(config("V2", DEEPLAB__INPUT_SCALES=[0.75, 0.5])).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    sample = bands()
    losses = network([sample])
    images = network.batch([sample]).tensor

    def scores(size: int) -> Tensor:
        view = F.interpolate(images, (size, size), mode="bilinear", align_corners=True)
        return network.head(network.backbone(view))["semantic_logits"]

    def enlarge(maps: Tensor) -> Tensor:
        return F.interpolate(maps, (9, 9), mode="bilinear", align_corners=True)

    # 65 pixels are 49 at 0.75 and 33 at 0.5; their scores 9, 7 and 5.
    whole, middle, half = scores(65), enlarge(scores(49)), scores(33)
    labels = sample["sem_seg"][None]
    fused = torch.stack([whole, middle, enlarge(half)]).amax(0)
    expected = {
        "loss_semantic": F.cross_entropy(fused, labels[:, ::8, ::8]),
        "loss_semantic_scale0": F.cross_entropy(whole, labels[:, ::8, ::8]),
        "loss_semantic_scale1": F.cross_entropy(middle, labels[:, ::8, ::8]),
        # At its own size, so against every 16th pixel.
        "loss_semantic_scale2": F.cross_entropy(half, labels[:, ::16, ::16]),
    }
    assert list(losses) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    evaluated = network.eval().predict(images)
    torch.testing.assert_close(evaluated, {"semantic_logits": fused})
    torch.testing.assert_close(network.network(images), evaluated)


def test_side_branches_of_v1_are_strided_in_training_alone() -> None:
    sides = ["image", "res1", "res2", "res3", "res4"]
    network = model(config("V1", DEEPLAB__SIDE_FEATURES=sides))
    images = network.batch([bands()]).tensor
    # At stride 8, where the loss is; in evaluation at the size of the image.
    assert network.train().predict(images)["semantic_logits"].shape == (1, CLASSES, 9, 9)
    assert network.eval().predict(images)["semantic_logits"].shape == (1, CLASSES, 65, 65)


def test_the_last_layers_learn_tenfold_and_biases_twice_as_fast() -> None:
    cfg = config("V2")
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 1e-3, 5e-4
    network = model(cfg)
    rates = {
        id(parameter): (group["lr"] / 1e-3, group["weight_decay"])
        for group in build_optimizer(cfg, network).param_groups
        for parameter in group["params"]
    }
    branch = network.head.branches[0].final_conv
    assert rates[id(branch.weight)] == (pytest.approx(10.0), 5e-4)
    assert rates[id(branch.bias)] == (pytest.approx(20.0), 0.0)
    assert rates[id(network.backbone.conv1_1.conv.weight)] == (pytest.approx(1.0), 5e-4)
    assert classifier_names(network) == {
        f"head.branches.{k}.final_conv.{name}" for k in range(4) for name in ("weight", "bias")
    }


def test_depthwise_kernels_of_v3_plus_do_not_decay() -> None:
    cfg = config("V3Plus")
    network = model(cfg)
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(cfg, network).param_groups
        for parameter in group["params"]
    }
    conv = network.backbone.entry_flow.block1.separable_conv1
    assert decays[id(conv.depthwise.depthwise_conv.weight)] == 0.0
    assert decays[id(conv.pointwise.conv.weight)] == 4e-5
