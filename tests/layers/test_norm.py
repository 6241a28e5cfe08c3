"""Batch norm's moving statistics and special cases."""

from typing import List

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import batch_norm
from torch import nn

from deeplab2_d2.backbones import build_backbone_by_name
from deeplab2_d2.layers import Norm

# Two channels; the first holds 0, 2, 4, 6: mean 3, variance 5 (biased) or 20 / 3 (unbiased).
_FEATURES = torch.tensor([[0.0, 2.0], [4.0, 6.0]]).view(1, 1, 2, 2).repeat(1, 2, 1, 1)


@pytest.mark.parametrize(
    "name, is_biased, variance",
    [("BN", False, 20 / 3), ("BN", True, 5.0), ("SyncBN", False, 5.0)],
)
def test_moving_variance_is_biased_where_tensorflows_is(
    name: str, is_biased: bool, variance: float
) -> None:
    layer = Norm(name, momentum=0.1).build_batch_norm(2, is_biased=is_biased).train()
    layer(_FEATURES)
    assert layer.running_mean.tolist() == pytest.approx([0.3, 0.3])
    assert layer.running_var.tolist() == pytest.approx([0.9 + 0.1 * variance] * 2)


def test_single_value_is_normalised_to_the_bias() -> None:
    layer = Norm("BN", momentum=0.1).build(2).train()
    layer.bias.data.copy_(torch.tensor([1.0, -2.0]))
    features = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1).requires_grad_()
    output = layer(features)
    assert output.flatten().tolist() == [1.0, -2.0]
    output.sum().backward()
    assert features.grad.abs().sum() == 0 and layer.bias.grad.tolist() == [1.0, 1.0]
    assert layer.running_mean.tolist() == pytest.approx([0.5, 0.7])
    assert layer.running_var.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_synchronised_norm_has_moments_of_full_precision(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two processes that have the same images.
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda values: 2 * values)
    norm = Norm().build(3)
    # Means of maps, which differ little: of 8 bits the mean of squares is below the squared mean.
    features = (1.3 + 0.01 * torch.randn(2, 3, 1, 1)).to(dtype)
    found = norm(features)
    exact = F.batch_norm(features.double(), None, None, training=True, eps=norm.eps)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), exact, atol=4 * torch.finfo(dtype).eps + 1e-4)
    assert norm.running_var.dtype == torch.float32


def test_frozen_batch_norm_learns_nothing() -> None:
    layer = Norm("FrozenBN").build(2).train()
    assert list(layer.parameters()) == []
    # Detectron2's starts with a variance of 1 - epsilon, so as the identity.
    torch.testing.assert_close(layer(_FEATURES), _FEATURES)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="norm name must be one of .*, got 'IN'"):
        Norm("IN")


@pytest.mark.parametrize(
    "name, expected",
    [
        # Four values of one group: 0, 2, 4, 6 less their mean, over their deviation.
        ("GN", [-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5] * 2),
        # Two channels that differ by 2 at each pixel.
        ("LN", [-1.0] * 4 + [1.0] * 4),
    ],
)
def test_group_and_layer_norm_by_hand(name: str, expected: List[float]) -> None:
    features = _FEATURES + torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    layer = Norm(name, epsilon=1e-9).build(2)
    assert layer(features).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("channels, groups", [(256, 32), (48, 16), (304, 16), (19, 1)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    layer = Norm("GN").build(channels)
    features = torch.randn(2, channels, 3, 4)
    expected = F.group_norm(features, groups, eps=1e-3)
    torch.testing.assert_close(layer(features), expected)


@pytest.mark.parametrize("name", ["GN", "LN"])
def test_a_network_of_convolutions_takes_other_norms_in_evaluation_and_training(name: str) -> None:
    torch.manual_seed(0)
    network = build_backbone_by_name("resnet_tiny", norm=Norm(name))
    for module in network.modules():
        assert not isinstance(module, nn.BatchNorm2d)
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    images = torch.randn(2, 3, 33, 49)
    trained = network.train()(images)["res5"]
    with torch.no_grad():  # Where batch norm would be folded into the convolutions.
        torch.testing.assert_close(network.eval()(images)["res5"], trained)
        torch.testing.assert_close(network(images[1:])["res5"], trained[1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", ["axial_resnet_l", "max_deeplab_tiny"])
def test_attention_takes_batch_norm_only(network: str) -> None:
    with pytest.raises(ValueError, match="norm name must be one of .* in attention, .*got 'GN'"):
        with torch.device("meta"):
            build_backbone_by_name(network, norm=Norm("GN"))
