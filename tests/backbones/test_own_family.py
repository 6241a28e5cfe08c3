"""A family that a user registers: found by name, its keys checked, its memory read by a head."""

from typing import Any, Dict, Tuple

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from deeplab2_d2.backbones import (
    BackboneFamily,
    EndpointBackbone,
    SharedOptions,
    backbone_names,
    family,
    register_family,
)
from deeplab2_d2.config import add_deeplab2_config, validate_config
from deeplab2_d2.layers import ConvNormAct
from deeplab2_d2.solver import build_parameter_groups
from deeplab2_d2.structures import Encoded, MapKind, Memory, MemoryShape, Prediction

_PREFIX = "MODEL.DEEPLAB2.BACKBONE."


class ToyNetwork(EndpointBackbone):
    """Five strided convolutions, and cluster centers that look at the last feature once."""

    new_parts = ("centers",)

    def __init__(self, *, width: int, num_centers: int, shared: SharedOptions):
        super().__init__()
        self.endpoint_shapes, stride, channels = {}, 1, shared.in_channels
        width = int(width * shared.width_multiplier)
        self.layers = nn.ModuleDict()
        for number in range(1, 6):
            step = 2 if stride < shared.output_stride else 1
            stride *= step
            self.layers[f"res{number}"] = ConvNormAct(
                channels, width, 3, stride=step, norm=shared.norm, activation="relu"
            )
            channels = width
            self.endpoint_shapes[f"res{number}"] = ShapeSpec(channels=width, stride=stride)
        self.centers = nn.Parameter(torch.randn(1, width, num_centers))
        self.memory_shape = MemoryShape(num_centers, width, width)
        self.set_out_features(["res2", "res5"])

    def endpoints_and_memory(self, images: Tensor) -> Tuple[Dict[str, Tensor], Memory]:
        endpoints, features = {}, images
        for name, layer in self.layers.items():
            endpoints[name] = features = layer(features)
        pixels = features.flatten(2)
        weights = (self.centers.transpose(1, 2) @ pixels).softmax(2)
        gathered = pixels @ weights.transpose(1, 2)
        return endpoints, Memory(gathered, self.centers.expand(len(images), -1, -1) + gathered)


def add_config(node: CfgNode) -> None:
    node.NUM_CENTERS = 3
    node.WIDTH = 8


def check_config(node: CfgNode, prefix: str) -> None:
    if node.NUM_CENTERS < 1:
        raise ValueError(f"config key {prefix}NUM_CENTERS must be at least 1, got 0")


def build(name: str, node: CfgNode, shared: SharedOptions) -> ToyNetwork:
    return ToyNetwork(width=node.WIDTH, num_centers=node.NUM_CENTERS, shared=shared)


class ClusterHead(nn.Module):
    """
    Cluster assignment of pixels, and one step of k-means on the centers.

    Reference: k-means Mask Transformer (arXiv:2207.04044), Sec. 3.2, Eq. 7 (arg-max over centers).
    """

    kinds: Dict[str, MapKind] = {"mask_logits": "logits", "class_logits": "slot_logits"}

    def __init__(self, memory_shape: MemoryShape, num_classes: int):
        super().__init__()
        self.classify = nn.Conv1d(memory_shape.class_channels, num_classes + 1, 1)

    def forward(self, encoded: Encoded) -> Prediction:
        pixels = encoded.features["res2"]
        assignment = (encoded.memory.mask_features.transpose(1, 2) @ pixels.flatten(2)).argmax(1)
        is_mine = nn.functional.one_hot(assignment, encoded.memory.mask_features.shape[2]).float()
        centers = encoded.memory.mask_features + pixels.flatten(2) @ is_mine
        masks = (centers.transpose(1, 2) @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        classes = self.classify(encoded.memory.class_features).transpose(1, 2)
        return {"mask_logits": masks, "class_logits": classes}


@pytest.fixture(autouse=True)
def toy_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered until the test ends."""
    monkeypatch.setattr(family, "_FAMILIES", list(family._FAMILIES))
    register_family(BackboneFamily("TOY", ("toy_net",), add_config, check_config, build))


def config(*options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.CROP.SIZE = [65, 97]
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DEEPLAB2.NORM.NAME = "BN"
    cfg.merge_from_list([_PREFIX + "NAME", "toy_net", *options])
    return cfg


def test_a_config_names_the_network_with_the_familys_keys() -> None:
    cfg = config(_PREFIX + "TOY.WIDTH", 4, _PREFIX + "OUTPUT_STRIDE", 8)
    validate_config(cfg)
    # A video network's input has more channels.
    backbone = build_backbone(cfg, ShapeSpec(channels=7))
    assert isinstance(backbone, ToyNetwork) and "toy_net" in backbone_names()
    assert backbone.layers["res1"].conv.weight.shape == (4, 7, 3, 3)
    features = backbone.eval()(torch.randn(1, 7, 33, 49))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "res2": (1, 4, 9, 13),
        "res5": (1, 4, 5, 7),
    }
    assert backbone.output_shape()["res5"].stride == 8


def test_the_familys_own_check_names_its_key() -> None:
    with pytest.raises(ValueError, match=f"{_PREFIX}TOY.NUM_CENTERS must be at least 1, got 0"):
        validate_config(config(_PREFIX + "TOY.NUM_CENTERS", 0))


@pytest.mark.parametrize(
    "name, key, value, message",
    [
        ("toy_net", "RESIDUAL.STEM", "inception", "RESIDUAL.STEM must be None for toy_net"),
        ("toy_net", "RESIDUAL.MEMORY.NUM_SLOTS", 8, "NUM_SLOTS must be None for toy_net"),
        ("resnet50", "TOY.NUM_CENTERS", 8, "TOY.NUM_CENTERS must be 3 for resnet50"),
        ("mobilenet_v3_small", "TOY.WIDTH", 4, "TOY.WIDTH must be 8 for mobilenet_v3_small"),
    ],
)
def test_keys_of_another_family_are_refused(name: str, key: str, value: Any, message: str) -> None:
    cfg = config(_PREFIX + key, value, _PREFIX + "NAME", name)
    with pytest.raises(ValueError, match=message):
        build_backbone(cfg)


def test_a_family_may_not_take_a_node_or_a_name() -> None:
    for node, names in (("TOY", ("toy_net_2",)), ("TOY_2", ("resnet50",))):
        with pytest.raises(ValueError, match="must have a node and names of its own"):
            register_family(BackboneFamily(node, names, add_config, check_config, build))


def test_a_head_of_clusters_reads_the_typed_memory() -> None:
    backbone = build_backbone(config()).eval()
    head = ClusterHead(backbone.return_memory(), num_classes=5)
    network, images = nn.Sequential(backbone, head).eval(), torch.randn(2, 3, 33, 49)
    prediction = network(images)
    assert prediction["mask_logits"].shape == (2, 3, 9, 13)
    assert prediction["class_logits"].shape == (2, 3, 6)
    encoded = backbone(images)
    assert isinstance(encoded, Encoded) and isinstance(encoded.memory, Memory)
    assert set(encoded.features) == {"res2", "res5"}
    prediction["mask_logits"].sum().backward()
    assert backbone.centers.grad is not None
    with torch.no_grad():
        exported = torch.export.export(network, (images,)).module()
        torch.testing.assert_close(exported(images), network(images))


def test_what_is_new_of_the_family_learns_at_the_full_rate() -> None:
    model = nn.ModuleDict({"backbone": build_backbone(config())})
    groups = build_parameter_groups(model, base_lr=1.0, weight_decay=0.0, backbone_multiplier=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(model["backbone"].centers)] == 1.0
    assert rates[id(model["backbone"].layers["res1"].conv.weight)] == 0.5
