"""What every backbone of the table promises to Detectron2 and to the heads."""

from typing import Any, List

import pytest
import torch
from detectron2.modeling import Backbone
from narrow_backbones import NAMES, narrow_backbone
from torch import Tensor

from deeplab2_d2.backbones import StackedDecoderNetwork, backbone_names
from deeplab2_d2.layers import SimplifiedSqueezeAndExcite, SqueezeAndExcite


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(33, 49), (32, 50)], ids=["odd", "even"])
@torch.inference_mode()
def test_declared_channels_and_strides_are_true(name: str, size: Any) -> None:
    backbone = narrow_backbone(name, 16)
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


@pytest.mark.parametrize("name", NAMES)
def test_strides_follow_the_output_stride(name: str) -> None:
    strides = {
        output_stride: [
            shape.stride
            for key, shape in narrow_backbone(name, output_stride).output_shape().items()
            if key in ("res2", "res3", "res4", "res5")
        ]
        for output_stride in (8, 16, 32)
    }
    assert strides == {8: [4, 8, 8, 8], 16: [4, 8, 16, 16], 32: [4, 8, 16, 32]}


# Attention and VGG's pools see other pixels at another stride, and switchable convolutions are
# only where the stride is 1, so the other networks alone are consistent. Squeeze and excite
# averages over other pixels, too, so that it is told the means here.
_CONVOLUTIONAL = [
    name
    for name in (*backbone_names(), "mobilenet_v3_large_reduced", "swidernet_se")
    if name.startswith(("resnet", "wide", "mobile", "xception_71")) or name == "swidernet_se"
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
    strided = narrow_backbone(name, 32)
    expected = strided(images)["res5"]
    for output_stride in (8, 16):
        dense = narrow_backbone(name, output_stride)
        dense.load_state_dict(strided.state_dict())
        step = 32 // output_stride
        found = dense(images)["res5"][:, :, ::step, ::step]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_state_dict_round_trip_and_batch_of_two_equals_two_of_one(name: str) -> None:
    first, images = narrow_backbone(name, 32), torch.randn(2, 3, 33, 49)
    second = narrow_backbone(name, 32)
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
    backbone = narrow_backbone(name, 16).train()
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
