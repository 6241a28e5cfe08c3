"""Maps of each kind, cropped, resized, mirrored."""

from typing import get_args

import pytest
import torch

from deeplab2_d2.postprocessing import Frames
from deeplab2_d2.postprocessing.maps import (
    View,
    crop_to_image,
    flip_map,
    resize_map,
    restore_view,
    to_output,
)
from deeplab2_d2.structures import MapKind

# Whose values do not change with the map's size or side.
PLAIN = ["logits", "probability", "heatmap", "depth", "embedding"]


def offsets_to(center, size):
    """(1, 2, H, W): from every pixel of a map of that size to one point."""
    rows, columns = torch.arange(float(size[0])), torch.arange(float(size[1]))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return (torch.tensor(center)[:, None, None] - grid)[None]


def test_offsets_are_interpolated_and_grow_with_the_map():
    # 2 x 3 to 3 x 5: both axes have twice as many steps, (3 - 1) / (2 - 1) and (5 - 1) / (3 - 1).
    dy = [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    dx = [[4.0, 2.0, 0.0], [4.0, 2.0, 0.0]]
    resized = resize_map(torch.tensor([[dy, dx]]), "offset", (3, 5))
    # Row 1 lies half way between 0 and 2, column 1 between 0 and 1; then all of it twice.
    assert resized[0, 0].tolist() == [[0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [4, 5, 6, 7, 8]]
    assert resized[0, 1].tolist() == [[8, 6, 4, 2, 0]] * 3


def test_each_axis_has_its_own_factor():
    # (4 - 1) / (2 - 1) = 3 and (5 - 1) / (3 - 1) = 2.
    resized = resize_map(torch.ones(1, 2, 2, 3), "offset", (4, 5))
    assert resized[0, 0].unique().tolist() == [3.0]
    assert resized[0, 1].unique().tolist() == [2.0]


def test_offsets_of_a_single_row_keep_their_y():
    resized = resize_map(torch.full((1, 2, 1, 3), 2.0), "offset", (4, 5))
    assert resized[0, 0].tolist() == [[2.0] * 5] * 4
    assert resized[0, 1].tolist() == [[4.0] * 5] * 4


def test_offsets_that_shrink_to_a_single_row_have_no_y():
    # All rows are one: nothing lies above or below it.
    resized = resize_map(torch.full((1, 2, 3, 3), 2.0), "offset", (1, 5))
    assert resized[0, :, 0].tolist() == [[0.0] * 5, [4.0] * 5]


@pytest.mark.parametrize("kind", PLAIN)
def test_other_maps_keep_their_range(kind):
    maps = torch.tensor([[[[0.0, 4.0, 8.0], [8.0, 12.0, 16.0]]]])
    expected = [[0, 2, 4, 6, 8], [4, 6, 8, 10, 12], [8, 10, 12, 14, 16]]
    assert resize_map(maps, kind, (3, 5))[0, 0].tolist() == expected


@pytest.mark.parametrize("kind", PLAIN + ["offset"])
def test_a_map_of_that_size_stays_as_it_is(kind):
    maps = torch.randn(2, 2, 5, 7)
    assert torch.equal(resize_map(maps, kind, (5, 7)), maps)


def test_a_mirrored_offset_points_the_other_way_along_x():
    dy, dx = [[1.0, 2.0, 3.0]], [[4.0, -5.0, 6.0]]
    flipped = flip_map(torch.tensor([[dy, dx]]), "offset")
    assert flipped[0].tolist() == [[[3.0, 2.0, 1.0]], [[-6.0, 5.0, -4.0]]]


@pytest.mark.parametrize("kind", PLAIN)
def test_other_mirrored_maps_keep_their_values(kind):
    flipped = flip_map(torch.tensor([[[[1.0, -2.0, 3.0]], [[4.0, 5.0, 6.0]]]]), kind)
    assert flipped[0].tolist() == [[[3.0, -2.0, 1.0]], [[6.0, 5.0, 4.0]]]


@pytest.mark.parametrize("kind", get_args(MapKind))
def test_mirroring_twice_changes_nothing(kind):
    maps = torch.randn(2, 2, 3, 4) if kind != "slot_logits" else torch.randn(2, 3, 4)
    assert torch.equal(flip_map(flip_map(maps, kind), kind), maps)


def test_logits_of_slots_have_no_pixels_to_move():
    logits = torch.randn(2, 3, 4)
    assert flip_map(logits, "slot_logits") is logits
    assert resize_map(logits, "slot_logits", (3, 5)) is logits
    restored = restore_view(
        {"class_logits": logits},
        {"class_logits": "slot_logits"},
        View((3, 5), is_flipped=True, scale=2.0),
    )
    assert torch.equal(restored["class_logits"], logits)


def test_depth_alone_is_multiplied_by_the_views_scale():
    # Twice as large in the image, so it looked half as far.
    kinds = {kind: kind for kind in PLAIN}
    prediction = {kind: torch.full((1, 1, 9, 17), 3.0) for kind in kinds}
    restored = restore_view(prediction, kinds, View((5, 9), scale=2.0))
    values = {name: maps.unique().tolist() for name, maps in restored.items()}
    assert values == {kind: [6.0] if kind == "depth" else [3.0] for kind in kinds}
    assert {tuple(maps.shape) for maps in restored.values()} == {(1, 1, 5, 9)}


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("scale, size", [(0.5, (3, 5)), (1.0, (5, 9)), (2.0, (9, 17))])
def test_offsets_seen_in_any_view_point_to_the_same_center(scale, size, is_flipped):
    # Row 2 and column 6 of 5 x 9; mirrored, column 8 - 6 = 2.
    center = (2.0 * scale, (2.0 if is_flipped else 6.0) * scale)
    restored = restore_view(
        {"center_offsets": offsets_to(center, size)},
        {"center_offsets": "offset"},
        View((5, 9), is_flipped, scale),
    )
    assert torch.equal(restored["center_offsets"], offsets_to((2.0, 6.0), (5, 9)))


def test_a_mirrored_view_is_resized_where_it_belongs():
    # The largest value stands at the left of the view, so at the right of the image.
    heatmap = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    restored = restore_view(
        {"center_heatmap": heatmap}, {"center_heatmap": "heatmap"}, View((1, 5), is_flipped=True)
    )
    assert restored["center_heatmap"].tolist() == [[[[0.0, 0.0, 0.0, 0.5, 1.0]]]]


def test_restored_maps_are_float32():
    prediction = {"semantic_logits": torch.ones(1, 2, 3, 3, dtype=torch.bfloat16)}
    restored = restore_view(prediction, {"semantic_logits": "logits"}, View((5, 5)))
    assert restored["semantic_logits"].dtype == torch.float32


def test_the_image_is_cut_out_of_a_padded_map():
    maps = torch.arange(12.0).view(1, 3, 4)
    # Stride 4: rows 0, 4, 8 and columns 0, 4, 8, 12. The image's last row, 3, lies between rows 0
    # and 4; its last column, 8, on column 8.
    cropped = crop_to_image(maps, Frames((9, 13), (4, 9), (40, 90)))
    assert cropped.tolist() == [[[0, 1, 2], [4, 5, 6]]]
    assert torch.equal(crop_to_image(maps, Frames.unpadded((9, 13))), maps)
    assert crop_to_image(maps, Frames((9, 13), (1, 1), (1, 1))).tolist() == [[[0]]]


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_what_is_cut_out_is_the_least_that_covers_the_image(stride):
    maps = torch.zeros(5, 3)
    input_size = (4 * stride + 1, 2 * stride + 1)
    for height in range(1, input_size[0] + 1):
        rows, columns = crop_to_image(maps, Frames(input_size, (height, 1), (7, 7))).shape
        assert (rows - 1) * stride >= height - 1 and (rows - 2) * stride < max(height - 1, 0)
        assert columns == 1


@pytest.mark.parametrize("kind", PLAIN + ["offset"])
def test_a_map_in_the_frame_of_the_output(kind):
    # A map of 3 x 3 covers an input of 9 x 9, the image its upper left 5 x 5, so 2 x 2 of the map;
    # the output has the image at half its size, 3 x 3: half a map pixel each.
    frames = Frames((9, 9), (5, 5), (3, 3))
    maps = torch.tensor([[0.0, 2.0, 9.0], [4.0, 6.0, 9.0], [9.0, 9.0, 9.0]]).expand(1, 2, 3, 3)
    expected = torch.tensor([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0], [4.0, 5.0, 6.0]])
    # An offset of one map pixel is two output pixels; what was twice as large is twice as far.
    factor = 2.0 if kind in ("offset", "depth") else 1.0
    assert torch.equal(to_output(maps, kind, frames), (factor * expected).expand(1, 2, 3, 3))


def test_offsets_of_half_precision_have_an_exact_factor():
    # 1000 / 3 is 333.25 in float16, so that an offset of 3 map pixels would be 999.75.
    found = to_output(torch.full((1, 2, 4, 4), 3.0).half(), "offset", Frames.unpadded((1001, 1001)))
    assert found[0, :, 5, 5].tolist() == pytest.approx([1000.0, 1000.0], abs=1e-3)


def test_maps_are_cut_to_the_image():
    # The image is 100 x 150 of an input of 113 x 161, of which a map at stride 4 has 29 x 41.
    frames = Frames((113, 161), (100, 150), (100, 150))
    rows = torch.arange(29.0)[:, None].expand(1, 1, 29, 41) * 4
    # Map row r is row 4 r of the image.
    found = to_output(rows, "probability", frames)
    torch.testing.assert_close(found[0, 0, :, 7], torch.arange(100.0))
    # The last row of the image, 99, lies between map rows 24 and 25; the last column, 149, between
    # 37 and 38.
    assert crop_to_image(rows, frames).shape == (1, 1, 26, 39)
    assert crop_to_image(rows, Frames.unpadded((113, 161))).shape == rows.shape
