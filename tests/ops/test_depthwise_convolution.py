"""Depthwise convolutions: by hand, and beside PyTorch's in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import CASES

from deeplab2_d2 import ops

needs_extension = pytest.mark.skipif(
    not ops.has_extension("depthwise_convolution"), reason="the compiled operators are not built"
)
PLAIN = {
    "none": lambda values: values,
    "relu": lambda values: values.clamp(min=0),
    "relu6": lambda values: values.clamp(0, 6),
    "hard_swish": lambda values: values * (values + 3).clamp(0, 6) / 6,
}
PAIRS = st.tuples(st.sampled_from([1, 1, 2]), st.sampled_from([1, 1, 2]))


@pytest.mark.usefixtures("both_ways")
def test_worked_example():
    features = torch.tensor([[[[1.0, 2.0, 3.0]], [[1.0, -2.0, 0.0]]]])
    weight = torch.tensor([[[1.0, 10.0, 100.0]], [[1.0, 0.0, -1.0]]])
    # Channel 0: 10 + 200, 1 + 20 + 300, 2 + 30; channel 1: 2, 1 - 0, -2, and 0.5 of bias.
    bias = torch.tensor([0.0, 0.5])
    output = ops.depthwise_convolution(features, weight, bias, padding=(0, 1))
    assert output.tolist() == [[[[210.0, 321.0, 32.0]], [[2.5, 1.5, -1.5]]]]
    for activation, expected in {
        "relu": [2.5, 1.5, 0.0],
        "relu6": [2.5, 1.5, 0.0],
        # x * (x + 3) / 6.
        "hard_swish": [2.5 * 5.5 / 6, 1.5 * 4.5 / 6, -1.5 * 1.5 / 6],
    }.items():
        output = ops.depthwise_convolution(
            features, weight, bias, padding=(0, 1), activation=activation
        )
        torch.testing.assert_close(output[0, 1, 0], torch.tensor(expected))
        assert output[0, 0, 0, 0] == (6.0 if activation == "relu6" else 210.0)


@st.composite
def calls(draw):
    """Tensors and options of a call whose kernel fits into the padded features."""
    kernel = draw(st.one_of(st.sampled_from([(3, 3), (5, 5)]), st.tuples(*[st.integers(1, 7)] * 2)))
    dilation = draw(st.tuples(*[st.sampled_from([1, 1, 2, 4, 9])] * 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    padding = tuple(draw(st.sampled_from([side // 2, 0, side])) for side in reach)
    size = tuple(max(draw(st.integers(1, 40)), side - 2 * pad) for side, pad in zip(reach, padding))
    channels = draw(st.one_of(st.integers(1, 70), st.sampled_from([8, 16, 24, 32, 64])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16]))
    features = torch.randn(draw(st.integers(1, 3)), channels, *size, generator=generator).to(dtype)
    weight = torch.randn(channels, *kernel, generator=generator)
    bias = torch.randn(channels, generator=generator) if draw(st.booleans()) else None
    if draw(st.booleans()):
        features = features.contiguous(memory_format=torch.channels_last)
    options = {"stride": draw(PAIRS), "padding": padding, "dilation": dilation}
    return (features, weight, bias), options, draw(st.sampled_from(sorted(PLAIN)))


def plain(tensors, options):
    """In float64."""
    features, weight, bias = (None if tensor is None else tensor.double() for tensor in tensors)
    return F.conv2d(features, weight[:, None], bias, **options, groups=len(weight))


@needs_extension
@settings(max_examples=300, deadline=None)
@given(calls())
def test_it_is_pytorchs_convolution(call):
    tensors, options, activation = call
    before = [None if tensor is None else tensor.clone() for tensor in tensors]
    output = ops.depthwise_convolution(*tensors, **options, activation=activation)
    for tensor, copy in zip(tensors, before):
        assert tensor is None or torch.equal(tensor, copy)
    expected = PLAIN[activation](plain(tensors, options))
    magnitudes = plain([None if t is None else t.abs() for t in tensors], options)
    # A rounding for each addition and some for the activation, whose slope is at most 1.5.
    bound = 1.5 * (tensors[1][0].numel() + 8) * 2**-24 * (1 + magnitudes)
    if output.dtype == torch.bfloat16:
        bound = bound + 2**-8 * expected.abs()
    assert output.dtype == tensors[0].dtype and output.shape == expected.shape
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert ((output - expected).abs() <= bound).all()


@needs_extension
@settings(max_examples=100, deadline=None)
@given(calls(), st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.integers(0, 10**6))
def test_what_is_not_finite_reaches_the_pixels_that_see_it(call, value, place):
    tensors, options, activation = call
    features = tensors[0].contiguous()
    features.view(-1)[place % features.numel()] = value
    arguments = (features, *tensors[1:])
    output = ops.depthwise_convolution(*arguments, **options, activation=activation)
    expected = PLAIN[activation](plain(arguments, options))
    assert torch.equal(output.isnan(), expected.isnan())
    assert torch.equal(output == float("inf"), expected == float("inf"))
    assert torch.equal(output == -float("inf"), expected == -float("inf"))


@needs_extension
def test_threads_change_nothing():
    tensors = [torch.randn(2, 70, 31, 37), torch.randn(70, 5, 5), torch.randn(70)]
    known = torch.get_num_threads()
    try:
        outputs = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            outputs.append(ops.depthwise_convolution(*tensors, padding=(2, 2)))
    finally:
        torch.set_num_threads(known)
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.usefixtures("both_ways")
def test_no_image_gives_none():
    output = ops.depthwise_convolution(torch.zeros(0, 3, 9, 9), torch.zeros(3, 3, 3), None)
    assert output.shape == (0, 3, 7, 7)


@needs_extension
def test_it_is_registered_as_it_runs():
    tensors = CASES["depthwise_convolution"].make(0)
    options = {"stride": [1, 2], "padding": [4, 2], "dilation": [2, 1], "activation": "relu"}
    operator = torch.ops.deeplab2_d2.depthwise_convolution.default
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator, tensors, options, test_utils=checks)


def test_a_gradient_is_pytorchs():
    tensors = [torch.randn(1, 5, 6, 7), torch.randn(5, 3, 3), torch.randn(5)]
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    theirs = [tensor.double().requires_grad_() for tensor in tensors]
    ops.depthwise_convolution(*ours, padding=(1, 1)).square().sum().backward()
    plain(theirs, {"padding": (1, 1)}).square().sum().backward()
    for mine, other in zip(ours, theirs):
        # float32, of sums of up to 42 terms of size 1 to 100.
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-4, atol=1e-3)


GOOD = {
    "features": torch.zeros(1, 4, 5, 5), "weight": torch.zeros(4, 3, 3), "bias": torch.zeros(4)
}  # fmt: skip


@needs_extension
@pytest.mark.parametrize(
    "change, message",
    [
        ({"features": torch.zeros(4, 5, 5)}, "features must be"),
        ({"features": torch.zeros(1, 4, 5, 5).double()}, "features must be"),
        ({"features": torch.zeros(1, 0, 5, 5), "weight": torch.zeros(0, 3, 3)}, "features must be"),
        ({"weight": torch.zeros(3, 3, 3)}, "weight must be"),
        ({"weight": torch.zeros(4, 1, 3, 3)}, "weight must be"),
        ({"weight": torch.zeros(4, 3, 3).bfloat16()}, "weight must be"),
        ({"bias": torch.zeros(3)}, "bias must be"),
        ({"bias": torch.zeros(4).double()}, "bias must be"),
        ({"stride": (0, 1)}, "stride must be"),
        ({"padding": (0, -1)}, "padding must be"),
        ({"dilation": (1, 0)}, "dilation must be"),
        ({"dilation": (1, 3)}, "must fit into the padded features"),
        ({"activation": "gelu"}, "activation must be one of"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises((ValueError, RuntimeError), match=f"depthwise_convolution: .*{message}"):
        ops.depthwise_convolution(**{**GOOD, **change})
