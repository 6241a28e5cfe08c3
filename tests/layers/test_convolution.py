"""Convolution, batch norm and activation together."""

import copy

import pytest
import torch

from deeplab2_d2.layers import BlockSpec, ConvNormAct, GeneralBlock, Norm
from deeplab2_d2.layers.convolution import DepthwiseConvNormAct

LAYERS = {
    "convolution": lambda norm: ConvNormAct(4, 6, 3, stride=2, norm=norm, activation="relu"),
    "with a bias": lambda norm: ConvNormAct(4, 6, 1, norm=norm, use_bias=True, activation="gelu"),
    "even kernel": lambda norm: ConvNormAct(4, 6, 4, norm=norm, activation="swish"),
    "depthwise": lambda norm: DepthwiseConvNormAct(4, 5, norm=norm, activation="hard_swish"),
    "switchable": lambda norm: ConvNormAct(4, 6, 3, norm=norm, activation="relu", use_sac=True),
    "residual block": lambda norm: GeneralBlock(4, BlockSpec("basic", (6, 6)), norm=norm),
}


def random_layer(name, norm_name):
    layer = LAYERS[name](Norm(norm_name))
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.dtype.is_floating_point:
            tensor.data.uniform_(0.2, 1.5)
    return layer.double().eval()


@pytest.mark.parametrize("norm_name", ["BN", "FrozenBN"])
@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_without_gradients_scales_kernels_and_equals_normalising_features(
    name, norm_name
):
    layer, features = random_layer(name, norm_name), torch.randn(2, 4, 9, 7).double()
    state, given = copy.deepcopy(layer.state_dict()), features.clone()
    expected = layer(features)
    with torch.no_grad():
        found = layer(features)
    # Float64, so only the order of the products differs.
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(features, given)
    assert all(torch.equal(value, state[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_derivatives_though_relu_overwrites(name):
    layer = random_layer(name, "BN").train()
    features = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (features,))
