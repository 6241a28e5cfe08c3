"""What every backbone of the table promises to Detectron2 and to the heads."""

import warnings
from typing import Any, Dict, List

import pytest
import torch
from detectron2.modeling import Backbone
from torch import Tensor

from deeplab2_d2.backbones import BACKBONE_NAMES, MOBILE_NETWORKS, build_backbone_by_name
from deeplab2_d2.layers import Norm

# Rows that differ by name alone (the config sets the width) are one network.
_ALIASES = ("swidernet", "axial_resnet_s", "axial_deeplab_s")
# Its memory path does not get narrower.
_LARGE = ("max_deeplab_l", "max_deeplab_wide_resnet41")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in _LARGE else name
    for name in BACKBONE_NAMES
    if name not in _ALIASES
]

# One of each family; the others are compiled and exported by the slow tests.
_QUICK = ("resnet50", "mobilenet_v3_small", "max_deeplab_s")
COMPILED = [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in BACKBONE_NAMES
    if name not in _ALIASES
]

# The narrowest at which the heads of attention (8) still divide its channels.
_WIDTHS = {name: 0.125 for name in BACKBONE_NAMES}
_WIDTHS.update({name: 0.25 for name in MOBILE_NETWORKS})
# Narrow as they are.
_TINY = ("resnet_tiny", "max_deeplab_tiny")
_WIDTHS.update({name: 1.0 for name in _TINY})


def _narrow(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    if name not in MOBILE_NETWORKS:
        options.setdefault("stem_width_multiplier", 1.0 if name in _TINY else 0.125)
        options.setdefault("layer_multiplier", 0.34)
    backbone = build_backbone_by_name(
        name, norm=Norm("BN"), width_multiplier=_WIDTHS[name], **options
    )
    _randomise(backbone)
    return backbone.eval()


def _randomise(backbone: torch.nn.Module) -> None:
    """Residual branches that start as zeros would hide what is wrong in them."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.3, 0.8)
            module.bias.data.normal_(0.0, 0.1)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(33, 49), (32, 50)], ids=["odd", "even"])
@torch.inference_mode()
def test_declared_channels_and_strides_are_true(name: str, size: Any) -> None:
    backbone = _narrow(name, output_stride=16)
    assert isinstance(backbone, Backbone)
    features = backbone(torch.randn(1, 3, *size))
    shapes = backbone.output_shape()
    assert list(features) == list(shapes)
    assert {"res2", "res3", "res4", "res5"} <= set(features)
    for feature_name, feature in features.items():
        shape = shapes[feature_name]
        assert feature.shape[1] == shape.channels
        if shape.stride is not None:
            assert tuple(feature.shape[2:]) == tuple(-(-n // shape.stride) for n in size)
        assert feature.isfinite().all()


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_strides_follow_the_output_stride(name: str) -> None:
    def shapes(output_stride: int) -> Any:
        with torch.device("meta"):
            backbone = build_backbone_by_name(name, norm=Norm("BN"), output_stride=output_stride)
        return backbone.output_shape().items()

    strides = {
        output_stride: [
            shape.stride
            for key, shape in shapes(output_stride)
            if key in ("res2", "res3", "res4", "res5")
        ]
        for output_stride in (8, 16, 32)
    }
    assert strides == {8: [4, 8, 8, 8], 16: [4, 8, 16, 16], 32: [4, 8, 16, 32]}


# Attention sees other pixels at another stride, so only convolutions are consistent. Squeeze and
# excite averages over other pixels, too, which MobileNetV3 always does.
_CONVOLUTIONAL = [name for name in BACKBONE_NAMES if name.startswith(("resnet", "wide"))]


@pytest.mark.parametrize("name", _CONVOLUTIONAL)
@torch.inference_mode()
def test_dense_network_subsampled_equals_the_strided_one(name: str) -> None:
    images = torch.randn(1, 3, 65, 97)
    strided = _narrow(name, output_stride=32)
    expected = strided(images)["res5"]
    for output_stride in (8, 16):
        dense = _narrow(name, output_stride=output_stride)
        dense.load_state_dict(strided.state_dict())
        step = 32 // output_stride
        found = dense(images)["res5"][:, :, ::step, ::step]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_state_dict_round_trip_and_batch_of_two_equals_two_of_one(name: str) -> None:
    first, images = _narrow(name, output_stride=32), torch.randn(2, 3, 33, 49)
    second = build_backbone_by_name(
        name,
        norm=Norm("BN"),
        width_multiplier=_WIDTHS[name],
        output_stride=32,
        **_structure(name),
    ).eval()
    second.load_state_dict(first.state_dict())
    both = first(images)
    for index in range(2):
        one = second(images[index : index + 1])
        for key, feature in one.items():
            torch.testing.assert_close(both[key][index], feature[0], atol=1e-4, rtol=1e-4)


def _structure(name: str) -> Dict[str, float]:
    if name in MOBILE_NETWORKS:
        return {}
    stem = 1.0 if name in _TINY else 0.125
    return {"stem_width_multiplier": stem, "layer_multiplier": 0.34}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    backbone = _narrow(name, output_stride=16).train()
    features = backbone(torch.randn(2, 3, 33, 49))
    weighted: List[Tensor] = [(f * torch.randn_like(f)).sum() for f in features.values()]
    torch.stack(weighted).sum().backward()
    without = [
        key
        for key, parameter in backbone.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert without == []
    untouched = [
        key
        for key, parameter in backbone.named_parameters()
        if parameter.grad is not None and not parameter.grad.any() and "rpe" not in key
    ]
    assert untouched == []


@pytest.mark.parametrize("name", COMPILED)
def test_evaluation_forward_compiles_without_graph_breaks(name: str) -> None:
    backbone, images = _narrow(name, output_stride=16), torch.randn(1, 3, 33, 49)
    torch._dynamo.reset()
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected, found = backbone(images), compiled(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", COMPILED)
def test_evaluation_forward_exports(name: str) -> None:
    backbone, images = _narrow(name, output_stride=16), torch.randn(1, 3, 33, 49)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(backbone, (images,))
        expected, found = backbone(images), program.module()(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "axial_swidernet"])
def test_inductor_computes_the_same(name: str) -> None:
    backbone, images = _narrow(name, output_stride=16), torch.randn(1, 3, 33, 49)
    torch._dynamo.reset()
    compiled = torch.compile(backbone, fullgraph=True)
    with torch.no_grad():
        expected, found = backbone(images), compiled(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-3, rtol=1e-3)
