"""Maps at another resolution, and their largest channel, beside PyTorch and the reference."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_schedules import FLOATS, assert_equal, few, schedules, to_device

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
SIDES = st.sampled_from([1, 2, 3, 5, 8, 9, 17, 40, 70])
OUTPUTS = st.sampled_from([1, 2, 7, 8, 9, 33, 64, 157, 280, 300])


def aligned(map_size, size):
    """The scale that aligns corners, exact in float32."""
    ratios = [(low - 1) / (high - 1) if high > 1 else 0.0 for low, high in zip(map_size, size)]
    return tuple(torch.tensor(ratios).tolist())


def make_maps(shape, levels, dtype, seed, is_strided=False):
    """With few levels there are ties; strided, the channels are the last axis in memory."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(*shape, generator=generator)
    maps = maps if levels == 0 else (levels * maps).round() / levels
    maps = maps.to(dtype)
    return maps.contiguous(memory_format=torch.channels_last) if is_strided else maps


any_maps = given(
    num_images=st.integers(0, 3),
    num_channels=st.sampled_from([1, 2, 5, 19]),
    map_size=st.tuples(SIDES, SIDES),
    size=st.tuples(OUTPUTS, OUTPUTS),
    stretch=st.sampled_from([1.0, 0.93, 0.0]),
    kind=st.sampled_from(["aligned", "stride 4", "crop of stride 4", "same size"]),
    levels=st.sampled_from([0, 1, 2]),
    dtype=st.sampled_from([*FLOATS, torch.float64]),
    is_strided=st.booleans(),
    seed=st.integers(0, 1000),
)


def frame_of(map_size, size, stretch, kind):
    if kind == "aligned":
        return size, tuple((stretch * torch.tensor(aligned(map_size, size))).tolist())
    if kind == "same size":
        return map_size, (1.0, 1.0)
    full = [4 * side - 3 for side in map_size]
    cut = 2 if kind == "crop of stride 4" else 0
    return tuple(max(side - cut, 1) for side in full), (0.25, 0.25)


@needs_extension
@settings(max_examples=150, deadline=None)
@any_maps
def test_kernels_equal_the_reference(
    num_images, num_channels, map_size, size, stretch, kind, levels, dtype, is_strided, seed
):
    maps = make_maps((num_images, num_channels, *map_size), levels, dtype, seed, is_strided)
    before = maps.clone()
    frame = frame_of(map_size, size, stretch, kind)
    scores, labels = ops.resample_aligned(maps, *frame), ops.resample_argmax(maps, *frame)
    assert torch.equal(scores, reference.resample_aligned(maps, *frame))
    assert torch.equal(labels, scores.argmax(dim=1).int()) and labels.dtype == torch.int32
    assert torch.equal(labels, reference.resample_argmax(maps, *frame))
    assert torch.equal(maps, before)


@few
@any_maps
def test_cuda_kernels_equal_the_reference(
    kernel_device, monkeypatch, num_images, num_channels, map_size, size, stretch, kind, levels,
    dtype, is_strided, seed,
):  # fmt: skip
    size = (min(size[0], 33), min(size[1], 64))
    map_size = (min(map_size[0], 9), min(map_size[1], 17))
    maps = make_maps((num_images, num_channels, *map_size), levels, dtype, seed, is_strided)
    frame = frame_of(map_size, size, stretch, kind)
    expected = [
        reference.resample_aligned(maps, *frame), reference.resample_argmax(maps, *frame)
    ]  # fmt: skip
    (on_device,) = to_device(kernel_device, maps)
    for _ in schedules(kernel_device, monkeypatch):
        ours = [ops.resample_aligned(on_device, *frame), ops.resample_argmax(on_device, *frame)]
        assert_equal(ours, expected)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("size", [(65, 97), (64, 96), (40, 31), (17, 25)])
def test_aligned_corners_are_those_of_pytorch(size):
    maps = torch.randn(2, 3, 17, 25, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps.double(), size=size, mode="bilinear", align_corners=True)
    ours = ops.resample_aligned(maps, size, aligned((17, 25), size))
    # float32: positions of up to 25 are rounded to 2**-20, differences of values are up to 8.
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.usefixtures("both_ways")
def test_worked_example_of_labels_between_two_pixels():
    # Channel 0 falls from 4 to 0, channel 1 rises from 0 to 4: equal half-way, where 0 wins.
    maps = torch.tensor([[[[4.0, 0.0]], [[0.0, 4.0]]]])
    assert ops.resample_argmax(maps, (1, 5), (0.0, 0.25)).tolist() == [[[0, 0, 0, 1, 1]]]
    scores = ops.resample_aligned(maps, (1, 5), (0.0, 0.25))
    assert scores.tolist() == [[[[4.0, 3.0, 2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0, 3.0, 4.0]]]]


@pytest.mark.usefixtures("both_ways")
def test_leading_axes_are_kept():
    maps = torch.randn(2, 3, 4, 5, 6)
    whole = ops.resample_aligned(maps, (17, 21), (0.25, 0.25))
    assert whole.shape == (2, 3, 4, 17, 21)
    assert torch.equal(whole[1, 2, 3], ops.resample_aligned(maps[1, 2, 3], (17, 21), (0.25, 0.25)))
    assert ops.resample_aligned(maps[:, :0], (17, 21), (0.25, 0.25)).shape == (2, 0, 4, 17, 21)


def test_gradient_is_that_of_the_formula():
    maps = torch.randn(1, 2, 4, 5, dtype=torch.float64).float().requires_grad_()
    (ours,) = torch.autograd.grad(ops.resample_aligned(maps, (13, 17), (0.25, 0.25)).sum(), maps)
    expected = F.interpolate(maps, size=(13, 17), mode="bilinear", align_corners=True).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(expected, maps)[0])


@needs_extension
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_number_of_threads_changes_nothing(num_threads):
    maps = make_maps((2, 19, 33, 41), 2, torch.float32, 0)
    frame = ((300, 500), aligned((33, 41), (300, 500)))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        ours = ops.resample_aligned(maps, *frame), ops.resample_argmax(maps, *frame)
    finally:
        torch.set_num_threads(before)
    expected = reference.resample_aligned(maps, *frame), reference.resample_argmax(maps, *frame)
    assert all(torch.equal(left, right) for left, right in zip(ours, expected))


@needs_extension
def test_positions_where_rounding_moves_two_pixels_apart():
    # The scale is the float32 below 1: positions of more than 2**20 lie on a coarse grid.
    width = 2**21 + 9
    maps = torch.arange(width, dtype=torch.float32).view(1, 1, 1, width) % 7
    frame = ((1, width), (0.0, 1 - 2**-24))
    ours = ops.resample_aligned(maps, *frame)
    assert torch.equal(ours, reference.resample_aligned(maps, *frame))


@pytest.mark.parametrize("name", ["resample_aligned", "resample_argmax"])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"maps": torch.zeros(1, 3, 4, 4).int()}, r"maps must be float, .*torch.int32"),
        ({"maps": torch.zeros(1, 3, 0, 4)}, r".*at least one .*pixel, got \(1, 3, 0, 4\)"),
        ({"maps": torch.zeros(4)}, r"maps must be .*got \(4,\)"),
        ({"size": (0, 4)}, r"size must be \(height, width\)"),
        ({"size": (2**16, 2**15)}, r"size must be .* got \(65536, 32768\)"),
        ({"scale": (-1.0, 1.0)}, r"scale must be at least 0 and .* got \(-1.0, 1.0\)"),
        (
            {"scale": (1.0, 1e30)},
            r"scale must .*positions less than 2\*\*31, got .* a size of \(4, 4\)",
        ),
    ],
)
def test_wrong_arguments_are_named(name, change, message):
    arguments = {"maps": torch.zeros(1, 3, 4, 4), "size": (4, 4), "scale": (1.0, 1.0)}
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        getattr(ops, name)(**{**arguments, **change})


def test_argmax_of_no_channel_is_refused():
    with pytest.raises(ValueError, match=r"at least one channel and pixel, got \(1, 0, 4, 4\)"):
        ops.resample_argmax(torch.zeros(1, 0, 4, 4), (4, 4), (1.0, 1.0))


@needs_extension
@pytest.mark.parametrize("name", ["resample_aligned", "resample_argmax"])
def test_operator_is_registered_as_torch_expects(name):
    operator = getattr(torch.ops.deeplab2_d2, name).default
    for size, scale in (([17, 25], [0.25, 0.25]), ([5, 7], [1.0, 1.0]), ([3, 9], [0.5, 0.3])):
        torch.library.opcheck(operator, (torch.randn(2, 4, 5, 7), size, scale))
