"""The recorded attention is the layer's own, and recording leaves no trace."""

from typing import Any, Tuple

import pytest
import torch
from torch import Tensor, nn

from deeplab2_d2.layers import (
    BlockSpec,
    DualPathSpec,
    DualPathTransformerLayer,
    Norm,
    Stage,
    record_memory_attention,
)

SPEC = {"width": 8, "num_heads": 2, "feed_forward_channels": 8}
NORM = Norm("BN")


def randomize(module: nn.Module) -> nn.Module:
    """Every batch norm does something, and no residual branch starts at zero."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight.data, part.bias.data, part.running_mean):
                values.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return module.eval()


def layer_and_inputs(**changes: Any) -> Tuple[DualPathTransformerLayer, Tensor, Tensor]:
    layer = DualPathTransformerLayer(6, 5, DualPathSpec(**{**SPEC, **changes}), norm=NORM)
    return randomize(layer), torch.randn(2, 6, 3, 4), torch.randn(2, 5, 7)


def similarities(layer: DualPathTransformerLayer, pixels: Tensor, memory: Tensor) -> Tensor:
    """Of 7 slots with 12 pixels, then with 7 slots, (N, heads, 7, 19), normalised by formula."""
    keys = layer.spec.key_depth
    pixel_path = layer.pixel_qkv_conv_bn(layer.pixel_conv1_bn_act(pixels.flatten(2).relu()))
    memory_path = layer.memory_qkv_conv_bn(layer.memory_conv1_bn_act(memory))
    key = torch.cat([pixel_path[:, keys : 2 * keys], memory_path[:, keys : 2 * keys]], dim=2)
    # Channels of a head stand together.
    query_NHDM = memory_path[:, :keys].reshape(2, 2, keys // 2, -1)
    key_NHDP = key.reshape(2, 2, keys // 2, -1)
    products = torch.einsum("nhdm,nhdp->nhmp", query_NHDM, key_NHDP)
    norm = layer.memory_attention.batch_norm_similarity
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return products * scale[:, None, None] + shift[:, None, None]


def test_the_attention_is_the_softmax_of_the_similarities_by_hand():
    layer, pixels, memory = layer_and_inputs()
    with record_memory_attention(layer) as recorded, torch.no_grad():
        layer(pixels, memory)
        expected = similarities(layer, pixels, memory).exp()
    expected = expected / expected.sum(dim=-1, keepdim=True)
    (attention,) = recorded.values()
    # Float32; the exponentials of similarities of a few units lose some digits.
    torch.testing.assert_close(
        attention.to_pixels, expected[..., :12].reshape(2, 2, 7, 3, 4), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(attention.to_memory, expected[..., 12:], rtol=1e-4, atol=1e-6)
    rows = attention.to_pixels.sum(dim=(-1, -2)) + attention.to_memory.sum(dim=-1)
    torch.testing.assert_close(rows, torch.ones(2, 2, 7))


def test_without_memory_self_attention_the_pixels_have_all_of_it():
    layer, pixels, memory = layer_and_inputs(use_memory_self_attention=False)
    with record_memory_attention(layer) as recorded:
        layer(pixels, memory)
    (attention,) = recorded.values()
    assert attention.to_memory is None and not attention.to_pixels.requires_grad
    torch.testing.assert_close(attention.to_pixels.sum(dim=(-1, -2)), torch.ones(2, 2, 7))


def test_layers_are_named_in_the_order_in_which_they_run():
    blocks = [BlockSpec("basic", (8, 8)), BlockSpec("basic", (8, 8))]
    stage = Stage(8, blocks, norm=NORM, transformer=DualPathSpec(**SPEC), memory_channels=5)
    network = nn.ModuleDict({"stage": randomize(stage)})
    pixels, memory = torch.randn(1, 8, 3, 4), torch.randn(1, 5, 7)
    with record_memory_attention(network) as recorded:
        stage(pixels, memory)
        first = dict(recorded)
        stage(-pixels, memory)
    assert list(recorded) == ["stage.block1_transformer", "stage.block2_transformer"]
    # Of two runs the later one counts.
    assert all(not torch.equal(recorded[k].to_pixels, first[k].to_pixels) for k in first)


def test_a_network_without_memory_path_has_nothing_to_record():
    network = nn.Conv2d(3, 3, 1)
    with record_memory_attention(network) as recorded:
        network(torch.randn(1, 3, 2, 2))
    assert recorded == {}


def num_hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) for part in module.modules())


def test_recording_changes_no_output_and_leaves_nothing_behind():
    layer, pixels, memory = layer_and_inputs()
    expected, state = layer(pixels, memory), set(layer.state_dict())
    with record_memory_attention(layer):
        assert num_hooks(layer) == 2
        found = layer(pixels, memory)
        assert set(layer.state_dict()) == state
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert num_hooks(layer) == 0
    with pytest.raises(RuntimeError), record_memory_attention(layer):
        layer(pixels, torch.randn(2, 6, 7))  # The memory has 5 channels.
    assert num_hooks(layer) == 0


def test_a_network_that_was_recorded_exports_as_before():
    layer, pixels, memory = layer_and_inputs()
    with record_memory_attention(layer) as recorded:
        expected = layer(pixels, memory)
    recorded.clear()
    program = torch.export.export(layer, (pixels, memory))
    torch.testing.assert_close(program.module()(pixels, memory), expected)
    assert recorded == {}
