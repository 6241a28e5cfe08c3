"""Part of a resized image beside the whole, made by PyTorch and by another operator."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
SIDES = st.sampled_from([1, 2, 3, 8, 17, 40, 131])
STARTS = st.integers(-50, 200)


def make_image(height, width, channels, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, channels), generator=generator).to(dtype)


@needs_extension
@settings(max_examples=200, deadline=None)
@given(
    image_size=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    window=st.tuples(STARTS, STARTS, SIDES, SIDES),
    channels=st.sampled_from([1, 2, 3, 4, 5]),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    is_mirrored=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_the_reference(image_size, size, window, channels, dtype, is_mirrored, seed):
    image = make_image(*image_size, channels, dtype, seed)
    image = image.transpose(0, 1) if is_mirrored else image
    before = image.clone()
    found = ops.resize_window(image, size, window, fill=127.5)
    with ops.use_reference():
        expected = ops.resize_window(image, size, window, fill=127.5)
    assert torch.equal(found, expected) and found.is_contiguous() and torch.equal(image, before)


@pytest.mark.parametrize("size", [(33, 61), (17, 31), (9, 8), (1, 1), (64, 5)])
@pytest.mark.parametrize("is_reference", [False, True])
def test_the_whole_is_what_pytorch_gives(size, is_reference):
    image = make_image(17, 31, 3, torch.float32, 0)
    whole = F.interpolate(
        image.permute(2, 0, 1)[None].double(), size, mode="bilinear", align_corners=True
    )[0]
    run = ops.use_reference() if is_reference else torch.no_grad()
    with run:
        found = ops.resize_window(image, size, (0, 0, *size), fill=0.0)
    # Positions near 30 are rounded to 2e-6, between neighbours that differ by up to 255.
    torch.testing.assert_close(found.double(), whole, rtol=0, atol=1e-3)


def test_a_window_is_cut_from_the_whole_and_padded():
    image = make_image(9, 12, 3, torch.uint8, 1)
    whole = ops.resample_aligned(image.permute(2, 0, 1).float(), (17, 23), (0.5, 0.5))
    window = ops.resize_window(image, (17, 23), (5, -2, 14, 9), fill=-1.0)
    assert torch.equal(window[:, :12, 2:], whole[:, 5:, :7])
    assert (window[:, 12:] == -1).all() and (window[:, :, :2] == -1).all()


def test_a_window_beside_the_image_is_filled():
    image = make_image(4, 4, 3, torch.float32, 0)
    for window in ((8, 0, 2, 3), (0, 8, 2, 3), (-2, 0, 2, 3), (0, -3, 2, 3)):
        assert (ops.resize_window(image, (8, 8), window, fill=7.0) == 7).all(), window


def test_channels_do_not_mix_where_they_are_not_finite():
    image = make_image(6, 6, 3, torch.float32, 0)
    image[2, 2, 1] = torch.nan
    image[4, 4, 1] = torch.inf
    found = ops.resize_window(image, (11, 11), (0, 0, 11, 11), fill=0.0)
    assert found[[0, 2]].isfinite().all()
    assert torch.equal(
        found.nan_to_num(-5, -6, -7),
        reference.resize_window(image, (11, 11), (0.5, 0.5), (0, 0, 11, 11), fill=0.0).nan_to_num(
            -5, -6, -7
        ),
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image": torch.zeros(4, 4)}, r"image must be \(H, W, C\), got \(4, 4\)"),
        ({"image": torch.zeros(4, 4, 3).double()}, r"image must be uint8 or float32, .*float64"),
        ({"image": torch.zeros(0, 4, 3)}, r".*at least one pixel, got \(0, 4, 3\)"),
        ({"size": (0, 4)}, r"size must be \(height, width\)"),
        ({"window": (0, 0, 0, 4)}, r"window must be .* got \(0, 0, 0, 4\)"),
        ({"window": (0, 2**31, 1, 4)}, r"window must be .* got \(0, 2147483648, 1, 4\)"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"image": torch.zeros(4, 4, 3), "size": (4, 4), "window": (0, 0, 4, 4)}
    with pytest.raises(ValueError, match=f"resize_window: {message}"):
        ops.resize_window(**{**arguments, **change}, fill=0.0)


@needs_extension
def test_operator_is_registered_as_torch_expects():
    image = make_image(5, 7, 3, torch.uint8, 0)
    operator = torch.ops.deeplab2_d2.resize_window.default
    arguments = (image, [9, 13], [0.5, 0.5], [-1, 2, 5, 6])
    torch.library.opcheck(operator, arguments, {"fill": 1.0})
