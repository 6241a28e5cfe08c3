"""A convolution with its norm and activation as one operation gives what the three give."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from deeplab2_d2 import ops
from deeplab2_d2.layers import ConvNormAct, Norm, fast_layout, fused_convolution
from deeplab2_d2.layers.convolution import DepthwiseConvNormAct

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)
ACTIVATIONS = ("none", "relu", "relu6", "hard_swish", "swish", "gelu")


def _randomised(layer):
    torch.manual_seed(1)
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor) + 0.5
            if not name.endswith("running_var"):
                tensor.data -= 0.9
    return layer.eval()


def _conv_of(layer):
    return getattr(layer, "conv", None) or layer.depthwise_conv


def _plain(layer, features):
    """The three operations in float64."""
    layer = copy.deepcopy(layer).double()
    conv = _conv_of(layer)
    output = nn.functional.conv2d(
        features.double(),
        *(conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups),
    )
    return layer.activation(output if layer.batch_norm is None else layer.batch_norm(output))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", [Norm("BN"), Norm("FrozenBN"), None], ids=["BN", "Frozen", "none"])
@pytest.mark.parametrize(
    "kernel_size, stride, rate, is_depthwise",
    [(1, 1, 1, False), (3, 2, 1, False), (3, 1, 4, False), (5, 1, 2, True), (3, 2, 1, True)],
)
@torch.no_grad()
def test_it_equals_the_three_operations(activation, norm, kernel_size, stride, rate, is_depthwise):
    options = {"stride": stride, "atrous_rate": rate, "norm": norm, "activation": activation}
    if is_depthwise:
        layer = _randomised(DepthwiseConvNormAct(16, kernel_size, **options))
    else:
        layer = _randomised(ConvNormAct(16, 24, kernel_size, **options))
    features = fast_layout(torch.randn(2, 16, 13, 18))
    assert fused_convolution.may_fuse(_conv_of(layer), layer.batch_norm, features)
    output = layer(features)
    assert output.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(output, _plain(layer, features), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    not ops.has_extension("depthwise_convolution"), reason="the compiled operators are not built"
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_a_depthwise_convolution_is_our_operator_or_onednns(activation, monkeypatch):
    options = {"atrous_rate": (3, 2), "norm": Norm("BN"), "activation": activation}
    layer = _randomised(DepthwiseConvNormAct(21, 3, **options))
    features = fast_layout(torch.randn(2, 21, 13, 18))
    expected, calls = _plain(layer, features), []
    operator = ops.depthwise_convolution
    monkeypatch.setattr(
        ops, "depthwise_convolution", lambda *args, **kw: calls.append(1) or operator(*args, **kw)
    )
    np.testing.assert_allclose(layer(features), expected, rtol=1e-4, atol=1e-4)
    # oneDNN has swish; what it has not comes after the convolution.
    assert len(calls) == (activation != "swish")
    # With the kernel that is known by now.
    with ops.use_reference():
        output = layer(features)
    assert len(calls) == (activation != "swish")
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(
    not ops.has_extension("winograd_convolution"), reason="the compiled operators are not built"
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_a_large_3x3_convolution_is_our_operator_or_onednns(activation, monkeypatch):
    options = {"atrous_rate": 2, "norm": Norm("BN"), "activation": activation}
    layer = _randomised(ConvNormAct(40, 33, 3, **options))
    features = fast_layout(torch.randn(1, 40, 33, 41))
    expected, calls = _plain(layer, features), []
    operator = ops.winograd_convolution
    monkeypatch.setattr(
        ops, "winograd_convolution", lambda *args, **kw: calls.append(1) or operator(*args, **kw)
    )
    np.testing.assert_allclose(layer(features), expected, rtol=1e-4, atol=1e-4)
    assert len(calls) == (activation != "swish")
    with ops.use_reference():
        output = layer(features)
    assert len(calls) == (activation != "swish")
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    # A small map, whose kernels would take longer to transform than it takes: with the same kernel.
    few = features[:, :, :9, :9].contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(layer(few), _plain(layer, few), rtol=1e-4, atol=1e-4)
    assert len(calls) == (activation != "swish")


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 16}, {"out_channels": 24}, {"kernel_size": 1}, {"kernel_size": 5},
        {"stride": 2},
    ],
)  # fmt: skip
@torch.no_grad()
def test_other_convolutions_are_not_the_operator_of_3x3(arguments, monkeypatch):
    monkeypatch.delattr(ops, "winograd_convolution")
    options = {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "norm": Norm("BN")}
    layer = _randomised(ConvNormAct(**{**options, **arguments}))
    features = fast_layout(torch.randn(1, layer.conv.in_channels, 65, 65))
    np.testing.assert_allclose(layer(features), _plain(layer, features), rtol=1e-4, atol=2e-4)
    # Nor in bfloat16.
    layer = _randomised(ConvNormAct(**options))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(fast_layout(torch.randn(1, 64, 65, 65))).dtype == torch.bfloat16


@pytest.fixture
def layer():
    return _randomised(ConvNormAct(16, 24, 3, norm=Norm("BN"), activation="relu"))


@pytest.fixture
def features():
    return torch.randn(1, 16, 9, 9).contiguous(memory_format=torch.channels_last)


def _optimizer_step(layer):
    with torch.enable_grad():
        layer(torch.randn(1, 16, 9, 9)).sum().backward()
    torch.optim.SGD(layer.parameters(), 0.1).step()


def _training(layer):
    with torch.enable_grad():
        layer.train()(torch.randn(4, 16, 9, 9))
    layer.eval()


def _data_in_training(layer):
    layer.train()
    layer.conv.weight.data.mul_(2.0)
    layer.eval()


CHANGES = {
    "weights are loaded": lambda layer: layer.load_state_dict(
        {name: value * 1.5 for name, value in layer.state_dict().items()}
    ),
    "an optimizer steps": _optimizer_step,
    "training moves the statistics": _training,
    "data are written during training": _data_in_training,
    "a kernel is another tensor": lambda layer: setattr(
        layer.conv, "weight", nn.Parameter(layer.conv.weight * 2.0)
    ),
    "a statistic is another tensor": lambda layer: setattr(
        layer.batch_norm, "running_mean", layer.batch_norm.running_mean + 1.0
    ),
    "a parameter has other data": lambda layer: setattr(
        layer.batch_norm.weight, "data", layer.batch_norm.weight.data * 2.0
    ),
    "a statistic is written in place": lambda layer: layer.batch_norm.running_var.mul_(2.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_a_change_is_noticed(layer, features, change):
    before = layer(features)
    change(layer)
    after = layer(features)
    assert not torch.allclose(before, after)
    np.testing.assert_allclose(after, _plain(layer, features), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_kernel_is_folded_once(layer, features, monkeypatch):
    folds = []
    fold = fused_convolution._fold
    monkeypatch.setattr(fused_convolution, "_fold", lambda *_: folds.append(1) or fold(*_))
    for _ in range(3):
        layer(features)
    assert len(folds) == 1
    with torch.inference_mode():
        layer(features)
    assert len(folds) == 1


def test_threads_that_fold_at_once_get_kernels(layer, features):
    expected = _plain(layer, features).detach()

    @torch.no_grad()
    def predict(_):
        layer._kernel.clear()
        return layer(features)

    with ThreadPoolExecutor(4) as threads:
        for output in threads.map(predict, range(200)):
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_another_type_is_refused_as_by_the_convolution(layer, features):
    with pytest.raises(RuntimeError):
        layer(features.bfloat16())


@torch.no_grad()
def test_copies_and_files_have_no_kernel(layer, features):
    output = layer(features)
    names = set(layer.state_dict())
    assert names == {f"conv.{n}" for n in ("weight",)} | {
        f"batch_norm.{n}"
        for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    file = io.BytesIO()
    torch.save(layer, file)
    # Twice the kernel would be twice the file.
    assert file.tell() < 2 * 4 * layer.conv.weight.numel()
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert other._kernel is not layer._kernel and other._kernel._kept == ([], ())
        assert torch.equal(other(features), output)


def test_weights_that_know_no_changes_are_folded_at_every_call(features):
    with torch.inference_mode():
        layer = _randomised(ConvNormAct(16, 24, 3, norm=Norm("BN")))
        before = layer(features)
        layer.conv.weight.mul_(2.0)
        assert not torch.allclose(layer(features), before)
        np.testing.assert_allclose(layer(features), _plain(layer, features), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_autocast_decides_the_type(layer, features):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(features)
    assert output.dtype == torch.bfloat16
    expected = _plain(layer, features)
    assert (output.double() - expected).abs().max() < 2**-6 * expected.abs().max()
    assert layer(features).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_type_that_onednn_does_not_compute_in_is_left_to_pytorch(
    layer, features, dtype, monkeypatch
):
    """oneDNN has errors for bfloat16 and float16 on processors without instructions for them."""
    monkeypatch.setattr(fused_convolution, "_is_computed", lambda dtype: dtype == torch.float32)
    assert fused_convolution.may_fuse(_conv_of(layer), layer.batch_norm, features)
    with torch.autocast("cpu", dtype=dtype):
        assert not fused_convolution.may_fuse(_conv_of(layer), layer.batch_norm, features)
        output = layer(features)
    expected = _plain(layer, features)
    assert (output.double() - expected).abs().max() < 2**-6 * expected.abs().max()
    low = features.to(dtype)
    assert not fused_convolution.may_fuse(_conv_of(layer.to(dtype)), layer.batch_norm, low)


def test_who_looks_at_operations_sees_the_plain_ones(layer, features):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(features)
    assert counter.get_total_flops() == 2 * 24 * 16 * 9 * 81
    traced = torch.jit.trace(layer, features)
    assert "aten::_convolution" in str(traced.graph) or "conv" in str(traced.inlined_graph)
    exported = torch.export.export(layer, (features,))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
    assert layer(features).requires_grad


@torch.no_grad()
def test_channels_first_is_left_to_pytorch(layer):
    features = torch.randn(1, 16, 9, 9)
    assert not fused_convolution.may_fuse(_conv_of(layer), layer.batch_norm, features)
    np.testing.assert_allclose(layer(features), _plain(layer, features), rtol=1e-4, atol=1e-4)
    assert fast_layout(features).is_contiguous(memory_format=torch.channels_last)
    with torch.enable_grad():
        assert fast_layout(features) is features


@pytest.mark.parametrize("num_images", [1, 2])
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("layout", ["first", "last", "transposed", "sliced"])
@torch.no_grad()
def test_a_projection_equals_the_product_whatever_the_layout(num_images, is_transposed, layout):
    features = torch.randn(num_images, 12, 7, 10)
    if layout != "first":
        features = features.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        features = features.transpose(2, 3)
    if layout == "sliced":
        features = features[:, :, ::2, ::2]
    kernel = torch.randn(12, 20) if is_transposed else torch.randn(20, 12)
    kept = fused_convolution.FoldedKernel() if is_transposed else None
    projected = fused_convolution.project_channels(features, kernel, kept)
    rows = (kernel.t() if is_transposed else kernel).double()
    expected = torch.einsum("kc,nchw->nkhw", rows, features.double())
    assert projected.is_contiguous()
    np.testing.assert_allclose(projected, expected, rtol=1e-4, atol=1e-5)
    kernel.mul_(2.0)
    again = fused_convolution.project_channels(features, kernel, kept)
    np.testing.assert_allclose(again, 2 * expected, rtol=1e-4, atol=1e-5)


def test_a_projection_has_gradients():
    features = torch.randn(2, 12, 7, 10, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(12, 20, dtype=torch.float64, requires_grad=True)
    kept = fused_convolution.FoldedKernel()
    assert torch.autograd.gradcheck(
        lambda f, k: fused_convolution.project_channels(f, k, kept),
        (features, kernel),
        fast_mode=True,
    )
