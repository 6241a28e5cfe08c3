"""Points of depths by hand, files read back, and a scene of known geometry through the command."""

import json

import numpy as np
import pytest
from depth_scene import draw_depth_scene
from PIL import Image

from deeplab2_d2.structures import write_panoptic_png
from deeplab2_d2.visualization.point_cloud import (
    Camera,
    View,
    __main__,
    centered_camera,
    color_segments,
    draw_view,
    read_camera,
    unproject,
    write_ply,
)


def _read_ply(path):
    """(N, 3) floats and (N, 3) bytes of a file as :func:`write_ply` says that it writes it."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(lines[2].removeprefix("element vertex "))
    names = ("float x", "float y", "float z", "uchar red", "uchar green", "uchar blue")
    assert lines[3:] == [f"property {name}" for name in names]
    assert len(body) == 15 * count
    rows = np.frombuffer(body, np.uint8).reshape(count, 15)
    return rows[:, :12].copy().view("<f4"), rows[:, 12:]


def test_a_pixel_of_known_depth_lands_where_its_ray_goes():
    depth = np.zeros((5, 6))
    depth[1, 4], depth[3, 0] = 10.0, 2.5
    points, is_known = unproject(depth, Camera(focal=(50.0, 100.0), center=(2.0, 2.5)))
    # ((4 - 2.5) * 10 / 100, (1 - 2) * 10 / 50, 10), and ((0 - 2.5) * 2.5 / 100, ...).
    expected = [[0.15, -0.2, 10.0], [-0.0625, 0.05, 2.5]]
    np.testing.assert_allclose(points, expected, rtol=1e-6)
    assert points.dtype == np.float32 and np.argwhere(is_known).tolist() == [[1, 4], [3, 0]]


def test_what_is_not_known_is_no_point():
    points, is_known = unproject(
        np.array([[np.nan, np.inf, -1.0, 0.0]]), centered_camera(9, (1, 4))
    )
    assert points.shape == (0, 3) and not is_known.any()
    assert (draw_view(points, points.astype(np.uint8), focal_length=9, size=(4, 5)) == 255).all()


def test_a_file_holds_points_and_colors(tmp_path):
    points = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    colors = np.arange(21, dtype=np.uint8).reshape(7, 3)
    write_ply(str(tmp_path / "new" / "x.ply"), points, colors)
    found, found_colors = _read_ply(tmp_path / "new" / "x.ply")
    assert np.array_equal(found, points) and np.array_equal(found_colors, colors)
    with pytest.raises(ValueError, match=r"colors must be \(7, 3\), as the points, got \(6, 3\)"):
        write_ply(str(tmp_path / "x.ply"), points, colors[1:])


def test_intrinsics_of_cityscapes_and_kitti_are_read(tmp_path):
    city, kitti = tmp_path / "x_camera.json", tmp_path / "000000.txt"
    intrinsic = {"fx": 2262.52, "fy": 2265.3, "u0": 1096.98, "v0": 513.137}
    city.write_text(json.dumps({"extrinsic": {"pitch": 0.038}, "intrinsic": intrinsic}))
    assert read_camera(str(city)) == Camera((2265.3, 2262.52), (513.137, 1096.98))
    left = "7.2e+02 0 6.1e+02 45.75 0 7.3e+02 1.7e+02 -0.35 0 0 1 0.005"
    for key in ("P2", "P_rect_02"):
        kitti.write_text(f"P0: 1 2 3 4 5 6 7 8 9 10 11 12\n\n{key}: {left}\nR_rect 1 0 0\n")
        assert read_camera(str(kitti)) == Camera((730.0, 720.0), (170.0, 610.0))
    assert centered_camera(500.0, (3, 6)) == Camera((500.0, 500.0), (1.0, 2.5))


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.json", "{}", "must be JSON with numbers fx, fy, u0, v0"),
        ("a.txt", "P0: 1 2 3", "have a line P2 or P_rect_02"),
        ("a.txt", "P2: 1 2 3", "P2 must be 12 numbers, got 3"),
        ("a.txt", "P2: 1 x", "P2 must be numbers"),
    ],
)
def test_other_calibrations_are_refused(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_camera(str(tmp_path / name))


def test_what_is_nearer_hides_what_is_behind_it_and_grows():
    # Two points on the axis of the eye, and four at the edges that set the zoom.
    points = np.array([[0, 0, 20], [0, 0, 10], [-5, -5, 10], [5, 5, 10], [-5, 5, 10], [5, -5, 10]])
    colors = np.array([[255, 0, 0], [0, 0, 255], *[[9, 9, 9]] * 4], np.uint8)
    for order in (slice(None), slice(None, None, -1)):
        picture = draw_view(
            points[order], colors[order], focal_length=10.0, view=View(0, 0), size=(21, 21)
        )
        # A pixel was 10 / 10 meters wide, so 2 of the picture's; squares are twice as wide or more.
        assert (picture[8:13, 8:13] == [0, 0, 255]).all()
        assert (picture[10, [7, 13]] == 255).all()


def test_from_above_the_far_ground_is_higher_and_from_the_right_it_is_to_the_right():
    points = np.array([[0, 1, 10.0], [0, 1, 12], [0, 1, 14], [-4, 1, 12], [4, 1, 12]])
    colors = np.array([[255, 0, 0], [9, 9, 9], [0, 0, 255], [9, 9, 9], [9, 9, 9]], np.uint8)
    picture = draw_view(points, colors, focal_length=1e4, view=View(30, 30), size=(101, 101))
    (near,), (far,) = (np.argwhere((picture == color).all(axis=2)) for color in colors[[0, 2]])
    assert far[0] < near[0] and far[1] > near[1]


def test_a_segment_has_one_color_in_all_images():
    first, second = color_segments(np.array([[0, 7001, 7002]])), color_segments(np.array([7002, 0]))
    assert first[0, 0].tolist() == [128] * 3 and np.array_equal(first[0, 2], second[0])
    assert not np.array_equal(first[0, 1], first[0, 2])


@pytest.fixture
def scene(tmp_path):
    """Files of a scene, and the scene."""
    drawn = draw_depth_scene((90, 160), focal_length=150.0)
    Image.fromarray(np.rint(256 * drawn.depth).astype(np.uint16)).save(tmp_path / "depth.png")
    Image.fromarray(drawn.image).save(tmp_path / "image.png")
    write_panoptic_png(str(tmp_path / "segments.png"), drawn.ids)
    return drawn


def _run(folder, *options):
    paths = {"--depth": "depth.png", "--out": "cloud.ply", "--picture": "cloud.png"}
    words = [w for key, name in paths.items() for w in (key, str(folder / name))]
    __main__.main(__main__.parse_arguments([*words, *options]))


def test_the_command_puts_a_scene_where_it_is(scene, tmp_path, capsys):
    _run(tmp_path, "--segments", str(tmp_path / "segments.png"), "--focal-length", "150")
    points, colors = _read_ply(tmp_path / "cloud.ply")
    seen = scene.ids[scene.depth > 0]
    assert f"{len(seen)} points" in capsys.readouterr().out and len(points) == len(seen)
    # Depths have steps of 1 / 256 m, in which Y and X have less. The street is 1.5 m below.
    np.testing.assert_allclose(points[seen == 1, 1], 1.5, atol=2e-3)
    np.testing.assert_allclose(points[seen == 2, 2], 40.0, atol=2e-3)
    distances = np.linalg.norm(points[seen == 7] - [1.4, 0.9, 9.0], axis=1)
    np.testing.assert_allclose(distances, 0.6, atol=4e-3)
    assert np.array_equal(colors, color_segments(scene.ids)[scene.depth > 0])
    picture = np.asarray(Image.open(tmp_path / "cloud.png"))
    assert picture.shape == (720, 1280, 3) and (picture != 255).any(axis=2).mean() > 0.3


def test_the_command_takes_colors_of_the_image_and_leaves_out_what_is_far(scene, tmp_path):
    _run(
        tmp_path,
        "--image",
        str(tmp_path / "image.png"),
        "--focal-length",
        "150",
        "--max-depth",
        "20",
    )
    points, colors = _read_ply(tmp_path / "cloud.ply")
    is_near = (scene.depth > 0) & (np.rint(256 * scene.depth) <= 256 * 20)
    assert points[:, 2].max() <= 20 and np.array_equal(colors, scene.image[is_near])


def test_an_image_of_another_size_is_named(scene, tmp_path):
    Image.fromarray(scene.image[1:]).save(tmp_path / "image.png")
    with pytest.raises(ValueError, match=r"size, \(90, 160\), got \(89, 160\)"):
        _run(tmp_path, "--image", str(tmp_path / "image.png"), "--focal-length", "150")
    with pytest.raises(SystemExit):
        __main__.parse_arguments(["--depth", "x", "--image", "y", "--focal-length", "1"])
