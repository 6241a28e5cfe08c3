"""What every backbone of the table promises to Detectron2 and to the heads."""

import warnings
from typing import Any, Dict, List, Tuple

import pytest
import torch
from detectron2.modeling import Backbone
from torch import Tensor

from deeplab2_d2.backbones import (
    MOBILE_NETWORKS,
    StackedDecoderNetwork,
    backbone_names,
    build_backbone_by_name,
)
from deeplab2_d2.layers import (
    Norm,
    SimplifiedSqueezeAndExcite,
    SqueezeAndExcite,
)

# Rows that differ by name or width alone are one network here, where all are narrow.
_ALIASES = ("swidernet", "axial_resnet_s", "axial_deeplab_s")
# What configs make of rows: a name for the tests, the row, and its options.
_GLOBAL = {"ATTENTION__GLOBAL": [16, 1]}
_VARIANTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "swidernet_sac": ("swidernet", {"SAC_BEYOND_STRIDE": 32}),
    "swidernet_se": ("swidernet", {"SQUEEZE_AND_EXCITE": True}),
    "resnet50_sac": ("resnet50", {"SAC_BEYOND_STRIDE": 8, "ACTIVATION": "gelu"}),
    "resnet50_global": ("resnet50", _GLOBAL),
    "axial_resnet_l_local": ("axial_resnet_l", {"ATTENTION__SPAN": 5}),
    "mobilenet_v3_large_reduced": ("mobilenet_v3_large", {"REDUCED_LAST_BLOCK": True}),
}
# Its memory path does not get narrower.
_LARGE = ("max_deeplab_l", "max_deeplab_wide_resnet41")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in _LARGE else name
    for name in (*backbone_names(), *_VARIANTS)
    if name not in _ALIASES
]

# One of each family; the others are compiled and exported by the slow tests.
_QUICK = ("resnet50", "mobilenet_v3_small", "max_deeplab_s")
COMPILED = [
    name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in (*backbone_names(), *_VARIANTS)
    if name not in _ALIASES
]

# The narrowest at which the heads of attention (8) still divide its channels.
_WIDTHS = {name: 0.125 for name in backbone_names()}
_WIDTHS.update({name: 0.25 for name in MOBILE_NETWORKS})
# Narrow as they are.
_TINY = ("resnet_tiny", "max_deeplab_tiny")
_WIDTHS.update({name: 1.0 for name in _TINY})


def _narrow(name: str, **options: Any) -> Any:
    """The network of a row or a variant, narrow and of few blocks, with random statistics."""
    torch.manual_seed(0)
    row, own_options = _VARIANTS.get(name, (name, {}))
    if row not in MOBILE_NETWORKS:
        options["STEM_WIDTH_MULTIPLIER"] = 1.0 if row in _TINY else 0.125
        options["LAYER_MULTIPLIER"] = 0.34
    backbone = build_backbone_by_name(
        row, norm=Norm("BN"), width_multiplier=_WIDTHS[row], **own_options, **options
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


@pytest.mark.parametrize("name", backbone_names())
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


# Attention sees other pixels at another stride, and switchable convolutions are only where the
# stride is 1, so the other networks alone are consistent. Squeeze and excite averages over other
# pixels, too, so that it is told the means here.
_CONVOLUTIONAL = [
    name
    for name in (*backbone_names(), "mobilenet_v3_large_reduced", "swidernet_se")
    if name.startswith(("resnet", "wide", "mobile")) or name == "swidernet_se"
]


def _gate_by_constant_means(layer: torch.nn.Module, features: Tensor) -> Tensor:
    means = torch.linspace(-1.0, 1.0, features.shape[1]).view(1, -1, 1, 1)
    if isinstance(layer, SqueezeAndExcite):
        means = layer.activation(layer.se_reduce(means))
    last = layer.se_expand if isinstance(layer, SqueezeAndExcite) else layer.se_conv
    return layer.gate(last(means)) * features


@pytest.mark.parametrize("name", _CONVOLUTIONAL)
@torch.inference_mode()
def test_dense_network_subsampled_equals_the_strided_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layer in (SqueezeAndExcite, SimplifiedSqueezeAndExcite):
        monkeypatch.setattr(layer, "forward", _gate_by_constant_means)
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
    second = _narrow(name, output_stride=32)
    for tensor in second.state_dict().values():
        tensor.zero_()
    second.load_state_dict(first.state_dict())
    both = first(images)
    for index in range(2):
        one = second(images[index : index + 1])
        for key, feature in one.items():
            torch.testing.assert_close(both[key][index], feature[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    backbone = _narrow(name, output_stride=16).train()
    if isinstance(backbone, StackedDecoderNetwork) and backbone.memory_shape is not None:
        backbone.return_memory()
        encoded = backbone(torch.randn(2, 3, 33, 49))
        outputs = [*encoded.features.values(), *encoded.memory]
    else:
        outputs = list(backbone(torch.randn(2, 3, 33, 49)).values())
    weighted: List[Tensor] = [(f * torch.randn_like(f)).sum() for f in outputs]
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
