"""3x3 convolutions by minimal filtering: by hand, and beside PyTorch's direct sums in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import CASES

from deeplab2_d2 import ops

needs_extension = pytest.mark.skipif(
    not ops.has_extension("winograd_convolution"), reason="the compiled operators are not built"
)
PLAIN = {
    "none": lambda values: values,
    "relu": lambda values: values.clamp(min=0),
    "relu6": lambda values: values.clamp(0, 6),
    "hard_swish": lambda values: values * (values + 3).clamp(0, 6) / 6,
}


@pytest.mark.usefixtures("both_ways")
def test_worked_example():
    features = torch.zeros(1, 2, 5, 6)
    features[0, 0, 1, 2], features[0, 1, 4, 5] = 1.0, 2.0
    weight = torch.arange(18.0).view(1, 2, 3, 3)
    expected = torch.zeros(5, 6)
    # A pixel of 1 leaves the kernel turned by 180 degrees; in the corner four taps of it are left.
    expected[0:3, 1:4] = torch.tensor([[8.0, 7.0, 6.0], [5.0, 4.0, 3.0], [2.0, 1.0, 0.0]])
    expected[3:5, 4:6] = 2 * torch.tensor([[17.0, 16.0], [14.0, 13.0]])
    output = ops.winograd_convolution(features, weight, torch.tensor([-4.0]), activation="relu")
    torch.testing.assert_close(output[0, 0], (expected - 4).clamp(min=0), rtol=0, atol=1e-4)
    output = ops.winograd_convolution(features, weight, None, activation="relu6")
    torch.testing.assert_close(output[0, 0], expected.clamp(max=6), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("both_ways")
def test_worked_atrous_example():
    features = torch.zeros(1, 1, 4, 7)
    features[0, 0, 1, 3] = 1.0
    weight = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    expected = torch.zeros(4, 7)
    # Rate 2: the rows above and below by 2, of which only that below is there.
    expected[1, [1, 3, 5]] = torch.tensor([6.0, 5.0, 4.0])
    expected[3, [1, 3, 5]] = torch.tensor([3.0, 2.0, 1.0])
    output = ops.winograd_convolution(features, weight, None, dilation=2)
    torch.testing.assert_close(output[0, 0], expected, rtol=0, atol=1e-5)


@st.composite
def calls(draw):
    """Tensors, rate and activation; sizes around those of tiles, panels and vectors."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    channels, outputs = (
        draw(st.one_of(st.integers(1, 40), st.sampled_from([8, 16, 64, 300]))) for _ in range(2)
    )
    size = [draw(st.integers(1, 30)) for _ in range(2)]
    features = torch.randn(draw(st.integers(1, 3)), channels, *size, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator)
    bias = torch.randn(outputs, generator=generator) if draw(st.booleans()) else None
    if draw(st.booleans()):
        features = features.contiguous(memory_format=torch.channels_last)
    if draw(st.booleans()):
        weight = weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    dilation = draw(st.sampled_from([1, 1, 2, 3, 6, 18, 40]))
    return (features, weight, bias), dilation, draw(st.sampled_from(sorted(PLAIN)))


def plain(tensors, dilation):
    """In float64."""
    features, weight, bias = (None if tensor is None else tensor.double() for tensor in tensors)
    return F.conv2d(features, weight, bias, padding=dilation, dilation=dilation)


def largest_error(channels):
    """
    What rounding leaves at most, of standard normal features and weights.

    A sum of C * 9 products is of size sqrt(9 C). The transforms lose some 2^-24 of it; the sums
    over channels, one after the other, sqrt(C) of these. Half of it was measured for 1 to 3000.
    """
    return (150 + 25 * channels**0.5) * 2**-24 * (9 * channels) ** 0.5


@needs_extension
@settings(max_examples=200, deadline=None)
@given(calls())
def test_it_is_pytorchs_convolution(call):
    tensors, dilation, activation = call
    before = [None if tensor is None else tensor.clone() for tensor in tensors]
    output = ops.winograd_convolution(*tensors, dilation=dilation, activation=activation)
    for tensor, copy in zip(tensors, before):
        assert tensor is None or torch.equal(tensor, copy)
    expected = PLAIN[activation](plain(tensors, dilation))
    bound = 1.5 * largest_error(tensors[0].shape[1])  # hard swish has a slope of up to 1.5
    assert output.dtype == torch.float32 and output.shape == expected.shape
    assert output.is_contiguous(memory_format=torch.channels_last)
    error = (output - expected).abs()
    assert error.max() <= bound


@needs_extension
@pytest.mark.parametrize("channels", [32, 256])
def test_its_rounding_errors_are_a_few_times_those_of_the_direct_sum(channels):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, 33, 65, generator=generator).relu()
    features = features.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, channels, 3, 3, generator=generator) * (2 / 9 / channels) ** 0.5
    exact = plain((features, weight, None), 1)

    def error(output):
        return (output - exact).square().mean().sqrt().item()

    direct = error(F.conv2d(features, weight, padding=1))
    assert error(ops.winograd_convolution(features, weight, None)) < 8 * direct
    assert direct > 1e-8


@needs_extension
def test_neither_threads_nor_other_images_change_anything():
    features, weight = torch.randn(3, 70, 31, 37), torch.randn(90, 70, 3, 3)
    known = torch.get_num_threads()
    try:
        outputs = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            outputs.append(ops.winograd_convolution(features, weight, None))
            alone = ops.winograd_convolution(features[1:2], weight, None)
            assert torch.equal(outputs[-1][1:2], alone)
    finally:
        torch.set_num_threads(known)
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@needs_extension
def test_kernels_that_do_not_fit_at_once_come_in_groups():
    """Of 1500 channels the transformed kernels of 144 outputs are kept at a time."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 1500, 9, 5, generator=generator)
    weight = torch.randn(300, 1500, 3, 3, generator=generator)
    tensors = (features, weight, torch.randn(300, generator=generator))
    error = (ops.winograd_convolution(*tensors) - plain(tensors, 1)).abs().max()
    assert error < largest_error(1500)


@needs_extension
def test_a_value_that_is_not_finite_stays_within_its_tiles():
    features, weight = torch.zeros(1, 8, 20, 20), torch.randn(8, 8, 3, 3)
    features[0, 3, 9, 9] = float("nan")
    output = ops.winograd_convolution(features, weight, None)
    # At least what sees it, at most the tiles that read it: of rows and columns 8 to 11.
    assert output[0, :, 8:11, 8:11].isnan().all()
    output[0, :, 8:12, 8:12] = 0.0
    assert (output == 0.0).all()


@pytest.mark.usefixtures("both_ways")
def test_no_image_gives_none():
    output = ops.winograd_convolution(torch.zeros(0, 3, 9, 9), torch.zeros(5, 3, 3, 3), None)
    assert output.shape == (0, 5, 9, 9)


@pytest.mark.parametrize("dilation", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("size", [1, 4, 5, 17, 24])
def test_tiles_are_counted(size, dilation):
    rows = [len(range(first, size, dilation)) for first in range(dilation)]
    assert ops.num_winograd_tiles(size, dilation) == sum(-(-count // 4) for count in rows)


@needs_extension
def test_it_is_registered_as_it_runs():
    tensors = CASES["winograd_convolution"].make(0)
    operator = torch.ops.deeplab2_d2.winograd_convolution.default
    options = {"dilation": 2, "activation": "relu"}
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator, tensors, options, test_utils=checks)


def test_a_gradient_is_pytorchs():
    tensors = [torch.randn(1, 5, 6, 7), torch.randn(4, 5, 3, 3), torch.randn(4)]
    ours = [tensor.clone().requires_grad_() for tensor in tensors]
    theirs = [tensor.double().requires_grad_() for tensor in tensors]
    ops.winograd_convolution(*ours).square().sum().backward()
    plain(theirs, 1).square().sum().backward()
    for mine, other in zip(ours, theirs):
        # float32, of sums of up to 42 terms of size 1 to 100.
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-4, atol=1e-3)


GOOD = {
    "features": torch.zeros(1, 4, 5, 5),
    "weight": torch.zeros(6, 4, 3, 3),
    "bias": torch.zeros(6),
    "dilation": 1,
    "activation": "none",
}


@needs_extension
@pytest.mark.parametrize(
    "name, value, message",
    [
        ("features", torch.zeros(4, 5, 5), r"features must be \(N, C, h, w\).*got \(4, 5, 5\)"),
        ("features", torch.zeros(1, 4, 5, 5).double(), "features must be .* float32.*double"),
        ("features", torch.zeros(1, 0, 5, 5), "at least a channel"),
        ("weight", torch.zeros(6, 4, 5, 5), r"weight must be \(K, 4, 3, 3\).*\[6, 4, 5, 5\]"),
        ("weight", torch.zeros(6, 3, 3, 3), r"weight must be \(K, 4, 3, 3\).*\[6, 3, 3, 3\]"),
        ("weight", torch.zeros(6, 4, 3, 3).half(), "weight must be .* float32.*Half"),
        ("bias", torch.zeros(5), r"bias must be \(6\).*\[5\]"),
        ("dilation", 0, "dilation must be at least 1, got 0"),
        ("activation", "swish", "activation must be one of 'none', 'relu', .*got 'swish'"),
    ],
)
def test_bad_arguments_are_refused(name, value, message):
    arguments = {**GOOD, name: value}
    tensors = [arguments.pop(key) for key in ("features", "weight", "bias")]
    with pytest.raises((ValueError, RuntimeError), match=message):
        ops.winograd_convolution(*tensors, **arguments)
