import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.structures import (
    colors_to_ids,
    ids_to_colors,
    read_label_map,
    read_panoptic_png,
    write_panoptic_png,
)

IDS = np.array([[0, 7, 1 + 2 * 256 + 3 * 65536, 256**3 - 1]])


def test_colors_are_ids_red_first(tmp_path):
    colors = np.array([[[0, 0, 0], [7, 0, 0], [1, 2, 3], [255, 255, 255]]], np.uint8)
    Image.fromarray(colors).save(tmp_path / "a.png")
    ids = read_panoptic_png(str(tmp_path / "a.png"))
    assert ids.dtype == np.int32 and ids.tolist() == IDS.tolist()
    assert ids_to_colors(IDS).tolist() == colors.tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_what_is_written_is_read(tmp_path, dtype):
    path = tmp_path / "below" / "a.png"
    write_panoptic_png(str(path), IDS.astype(dtype), software="me")
    assert read_panoptic_png(str(path)).tolist() == IDS.tolist()
    assert Image.open(path).text == {"Software": "me"}
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_an_alpha_channel_is_left_out(tmp_path):
    colors = np.array([[[1, 2, 3, 0], [7, 0, 0, 255]]], np.uint8)
    Image.fromarray(colors).save(tmp_path / "a.png")
    assert read_panoptic_png(str(tmp_path / "a.png")).tolist() == [[IDS[0, 2], 7]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "I;16"])
def test_gray_and_palettes_are_refused_by_name_rule_and_mode(tmp_path, mode):
    pixels = np.array([[0, 5]], np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(pixels)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "a.png")
    found = Image.open(tmp_path / "a.png").mode
    with pytest.raises(ValueError, match=rf"a.png must be RGB, R \+ 256 G .* got mode {found}"):
        read_panoptic_png(str(tmp_path / "a.png"))


def test_missing_and_broken_pngs_are_named(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(FileNotFoundError, match="panoptic PNG .*a.png does not exist"):
        read_panoptic_png(str(path))
    write_panoptic_png(str(path), np.arange(3000).reshape(50, 60))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="panoptic PNG .*a.png cannot be read"):
        read_panoptic_png(str(path))


@pytest.mark.parametrize("value", [-1, 256**3])
def test_ids_without_a_color_are_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(ValueError, match=rf"a.png: segment ids must be in .*got {value}"):
        write_panoptic_png(str(tmp_path / "a.png"), np.array([[0, value]]))
    with pytest.raises(TypeError, match="must be integers, got float64"):
        ids_to_colors(np.zeros((1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_map_has_no_colors():
    assert ids_to_colors(np.zeros((0, 4), int)).shape == (0, 4, 3)
    assert colors_to_ids(np.zeros((0, 4, 3), np.uint8)).shape == (0, 4)


@pytest.mark.parametrize("mode, value", [("L", 200), ("P", 3), ("I;16", 40000)])
def test_label_maps_of_one_channel_are_read_as_they_are(tmp_path, mode, value):
    image = Image.fromarray(np.array([[0, value]], np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([9, 8, 7] * 256)
    image.save(tmp_path / "a.png")
    labels = read_label_map(str(tmp_path / "a.png"))
    assert labels.dtype == np.int64 and labels.tolist() == [[0, value]]


def test_a_colored_label_map_is_refused(tmp_path):
    Image.fromarray(np.zeros((1, 2, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match="map .*a.png must have one channel of integers, got .*RGB"
    ):
        read_label_map(str(tmp_path / "a.png"), "semantic map")
