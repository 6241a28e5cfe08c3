"""
What the generated videos promise, checked from their files.

Of the generator only the camera is taken, as numbers: 2.2 m above the ground, focal length 160
pixels, its middle column 128. The horizon's row is read off the ground's depth.
"""

import json
import os
import pathlib
from dataclasses import dataclass, replace
from typing import FrozenSet, Tuple

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from scipy.ndimage import binary_dilation

from deeplab2_d2.data.dvps import DVPS_RELEASES, prepare_dvps
from deeplab2_d2.data.registration import load_panoptic_json, panoptic_metadata
from deeplab2_d2.data.shapes_video import (
    ShapesVideoOptions,
    prepare_shapes_video,
    shapes_video_categories,
)
from deeplab2_d2.structures import read_depth_png, read_panoptic_png

_BOX, _BALL, _CONE, _GROUND, _WALL, _SKY = range(6)
# The part of its bounding box that a thing fills; of a cone with a top a quarter as wide as its
# foot it is (1 + 1/4) / 2.
_FILLED = {_BOX: 1.0, _BALL: np.pi / 4, _CONE: 0.625}
_OPTIONS = ShapesVideoOptions(num_train=2, num_val=2)
_NAMES = ("slow000", "fast001", "slow500", "fast501")


@pytest.fixture(scope="module")
def root(video_dataset):
    """The folder of four sequences, in both layouts; not to be changed."""
    root = pathlib.Path(MetadataCatalog.get(video_dataset[0]).image_root).parent
    prepare_shapes_video(str(root / "shapes_video_dvps"), _OPTIONS, layout="dvps")
    return root


@pytest.fixture(scope="module")
def sequences(root):
    """Name to (classes, numbers, depths), each (24, 129, 257), from the files of DVPS."""
    found = {}
    for name in _NAMES:
        maps = []
        for suffix in ("gtFine_class", "gtFine_instance", "depth_160.0"):
            files = sorted(root.glob(f"shapes_video_dvps/*/*/000{name[-3:]}_*_{suffix}.png"))
            maps.append(np.stack([np.asarray(Image.open(file)) for file in files]))
        found[name] = maps[0].astype(int), maps[1].astype(int), maps[2] / 256.0
    return found


@pytest.fixture
def dicts(video_dataset):
    """The dicts of the registered validation set."""
    return DatasetCatalog.get(video_dataset[1])


@dataclass(frozen=True)
class _View:
    """A thing in a frame: its pixels, its depth, and the (class, number) of nearer ones beside."""

    frame: int
    mask: np.ndarray
    depth: float
    nearer: FrozenSet[Tuple[int, int]]

    @property
    def box(self):
        """Top, left, height, width."""
        ys, xs = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return ys[0], xs[0], ys[-1] - ys[0] + 1, xs[-1] - xs[0] + 1

    @property
    def is_at_side(self):
        return bool(self.mask[:, [0, -1]].any())

    @property
    def is_whole(self):
        """Whether all of it should be seen: it is inside the image and no nearer one beside."""
        return not (self.nearer or self.is_at_side or self.mask[-1].any())


def _tracks(classes, numbers, depths):
    """(class, number) to the views of the frames in which the thing is seen."""
    tracks = {}
    for frame, (kinds, ids, depth) in enumerate(zip(classes, numbers, depths)):
        labels = kinds * 256 + ids
        for label in np.unique(labels[ids > 0]).tolist():
            mask = labels == label
            beside = (
                binary_dilation(mask, np.ones((3, 3)))
                & ~mask
                & (ids > 0)
                & (depth < depth[mask][0])
            )
            nearer = frozenset(divmod(other, 256) for other in np.unique(labels[beside]).tolist())
            view = _View(frame, mask, depth[mask][0], nearer)
            tracks.setdefault(divmod(label, 256), []).append(view)
    return tracks


def _whole_views(sequence):
    """For each track (frame, middle column, width, depth) of the views where all is seen."""
    for views in _tracks(*sequence).values():
        whole = [view for view in views if view.is_whole]
        yield [(v.frame, v.box[1] + (v.box[3] - 1) / 2, v.box[3], v.depth) for v in whole]


def _files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_longer_set_begins_with_the_same_bytes(root, tmp_path):
    prepare_shapes_video(str(tmp_path / "longer"), ShapesVideoOptions(num_train=3, num_val=2))
    longer, shorter = _files(tmp_path / "longer"), _files(root / "shapes_video")
    same = {path for path in shorter if longer[path] == shorter[path]}
    assert {str(path) for path in set(shorter) - same} == {
        "info.json",
        os.path.join("annotations", "panoptic_train.json"),
        os.path.join("annotations", "instances_train.json"),
    }
    assert {path.parent.name for path in set(longer) - set(shorter)} == {"slow002"}


def test_another_seed_draws_another_set(root, tmp_path):
    prepare_shapes_video(str(tmp_path / "other"), ShapesVideoOptions(1, 1, seed=1))
    image = "images/train/slow000/000000.png"
    other = (tmp_path / "other" / image).read_bytes()
    assert other != (root / "shapes_video" / image).read_bytes()


def test_both_layouts_and_the_panoptic_format_say_the_same(root, dicts, sequences):
    classes, numbers, depths = (
        np.concatenate([sequences[name][k] for name in ("fast501", "slow500")]) for k in range(3)
    )
    assert len(dicts) == len(classes) == 48
    for d, kinds, ids, depth in zip(dicts, classes, numbers, depths):
        step = d["file_name"].replace("/images/", "/panoptic_maps/")
        stem = f"000{d['sequence'][-3:]}_{d['frame']:06d}"
        dvps = root / "shapes_video_dvps" / "video_sequence" / "val" / f"{stem}_leftImg8bit.png"
        colors = np.asarray(Image.open(step)).astype(int)
        assert np.array_equal(colors[..., 0], kinds)
        assert np.array_equal(colors[..., 1] * 256 + colors[..., 2], ids)
        assert np.array_equal(read_depth_png(d["depth_file_name"]), depth * 256)
        images = [np.asarray(Image.open(path)) for path in (d["file_name"], dvps)]
        assert np.array_equal(*images) and images[0].shape == (d["height"], d["width"], 3)
        panoptic = read_panoptic_png(d["pan_seg_file_name"])
        for segment in d["segments_info"]:
            mask = (kinds == segment["category_id"]) & (ids == segment["track_id"])
            assert np.array_equal(panoptic == segment["id"], mask) and mask.any()
            assert segment["isthing"] == (segment["track_id"] > 0)
        assert panoptic.all()


def test_the_dicts_lead_from_frame_to_frame_and_end_with_their_sequence(dicts):
    assert [(d["sequence"], d["frame"]) for d in dicts] == [
        (name, frame) for name in ("fast501", "slow500") for frame in range(24)
    ]
    assert len({d["image_id"] for d in dicts}) == 48
    assert {d["focal_length"] for d in dicts} == {160.0}
    for before, after in zip(dicts, dicts[1:]):
        for key in ("file_name", "pan_seg_file_name", "segments_info"):
            is_last = before["frame"] == 23
            assert before.get(f"next_{key}") == (None if is_last else after[key])
            assert after.get(f"previous_{key}") == (None if is_last else before[key])
    assert "previous_file_name" not in dicts[0] and "next_file_name" not in dicts[-1]


def test_the_reader_of_dvps_finds_the_same_frames_and_tracks(root, dicts, tmp_path, monkeypatch):
    categories = tuple((c["name"], c["isthing"], c["color"]) for c in shapes_video_categories())
    release = replace(DVPS_RELEASES["semkitti_dvps"], categories=categories)
    monkeypatch.setitem(DVPS_RELEASES, "shapes", release)
    copy = tmp_path / "shapes"
    copy.mkdir()
    (copy / "video_sequence").symlink_to(root / "shapes_video_dvps" / "video_sequence")
    json_file = prepare_dvps(str(copy), "shapes", "val")
    metadata = panoptic_metadata(shapes_video_categories())
    read = load_panoptic_json(json_file, str(copy), str(copy / "panoptic"), metadata)
    expected = sorted(dicts, key=lambda d: d["image_id"])
    for key in ("image_id", "segments_info", "frame", "focal_length", "previous_segments_info"):
        assert [d.get(key) for d in read] == [d.get(key) for d in expected]


@pytest.mark.parametrize("name", _NAMES)
def test_the_ground_is_a_plane_below_the_camera(name, sequences):
    # At row y it is 2.2 * 160 / (y - horizon) meters away; the PNG is exact to 1/512 m, which at
    # the nearest, 4.3 m (row 128, horizon 46), is 352 / 4.3^2 / 512 = 0.04 rows.
    classes, _, depths = sequences[name]
    _, rows, _ = np.nonzero(classes == _GROUND)
    horizon = rows - 352 / depths[classes == _GROUND]
    assert np.ptp(horizon) < 0.08
    assert 46 <= horizon.mean() <= 60
    assert np.all(depths[classes == _SKY] == 0)
    assert depths[classes == _WALL].min() >= 18 and depths.max() < 88


@pytest.mark.parametrize("name", _NAMES)
def test_a_thing_stands_on_the_ground_at_its_one_depth(name, sequences):
    classes, numbers, depths = sequences[name]
    horizon = np.median(np.nonzero(classes == _GROUND)[1] - 352 / depths[classes == _GROUND])
    num_feet = 0
    for (kind, _), views in _tracks(classes, numbers, depths).items():
        for view in views:
            assert np.ptp(depths[view.frame][view.mask]) == 0
            ys, _ = np.nonzero(view.mask[:-1] & (classes[view.frame, 1:] == _GROUND))
            if kind != _BALL and len(ys):
                # Its foot is between its lowest row and the next.
                foot = horizon + 352 / view.depth
                assert np.all(ys <= foot + 0.05) and np.all(foot <= ys + 1.05)
                num_feet += 1
    assert num_feet >= 20


@pytest.mark.parametrize("name", _NAMES)
def test_only_what_is_nearer_hides_a_thing(name, sequences):
    classes, numbers, depths = sequences[name]
    num_whole = 0
    for (kind, _), views in _tracks(classes, numbers, depths).items():
        for view in views:
            # Things have no dents: what interrupts a row of one must be a thing before it.
            after = np.maximum.accumulate(view.mask, axis=1)
            before = np.maximum.accumulate(view.mask[:, ::-1], axis=1)[:, ::-1]
            between = after & before & ~view.mask
            assert np.all(depths[view.frame][between] < view.depth)
            assert np.all(classes[view.frame][between] <= _CONE)
            if view.is_whole:
                _, _, height, width = view.box
                assert abs(view.mask.sum() / (height * width) - _FILLED[kind]) < 0.05
                assert kind != _BALL or abs(height - width) <= 1
                num_whole += 1
    assert num_whole > 40


@pytest.mark.parametrize("name", _NAMES)
def test_a_thing_keeps_its_size_and_moves_on_a_straight_line(name, sequences):
    num_tracks = 0
    for views in _whole_views(sequences[name]):
        if len(views) < 3:
            continue
        num_tracks += 1
        frames, columns, widths, depths = np.array(views).T
        pixel = depths.max() / 160  # meters
        # Either end of a width is rounded, and a cone's lowest row is a bit above its foot.
        assert np.ptp(widths * depths / 160) < 3 * pixel
        for values, tolerance in ((depths, 1 / 256), ((columns - 128) * depths / 160, pixel)):
            line = np.polyval(np.polyfit(frames, values, 1), frames)
            assert np.abs(values - line).max() < tolerance
    assert num_tracks >= 4


@pytest.mark.parametrize("name", _NAMES)
def test_fast_ones_move_over_half_their_width_in_a_frame_and_slow_ones_under_a_quarter(
    name, sequences
):
    steps = []
    for views in _whole_views(sequences[name]):
        for (frame, column, width, _), (then, later, wide, _) in zip(views, views[1:]):
            if then == frame + 1:
                steps.append(abs(later - column) / ((width + wide) / 2))
    assert len(steps) > 20
    assert min(steps) > 0.5 if name.startswith("fast") else max(steps) < 0.25


@pytest.mark.parametrize("name", _NAMES)
def test_there_are_four_to_nine_things_most_of_them_large_and_some_enter_or_leave(name, sequences):
    tracks = _tracks(*sequences[name])
    views = [view for views in tracks.values() for view in views]
    frames = np.array([view.frame for view in views])
    assert 4 <= np.bincount(frames, minlength=24).min() <= np.bincount(frames).max() <= 9
    assert np.mean([view.mask.sum() > 100 for view in views]) > 0.85
    numbers = {}
    for kind, number in tracks:
        numbers.setdefault(kind, []).append(number)
    assert all(sorted(n) == list(range(1, len(n) + 1)) for n in numbers.values())
    at_side = [key for key, views in tracks.items() if any(view.is_at_side for view in views)]
    assert len(at_side) >= (8 if name.startswith("fast") else 1)


@pytest.mark.parametrize("name", _NAMES)
def test_four_things_of_one_class_hide_each_other(name, sequences):
    # Hidden is what has less than 4/5 of its area, at this depth, beside a nearer one.
    tracks = _tracks(*sequences[name])
    crossing = {kind: set() for kind in _FILLED}
    for (kind, number), views in tracks.items():
        whole = max(view.mask.sum() * view.depth**2 for view in views)
        for view in views:
            others = {n for k, n in view.nearer if k == kind}
            if others and not view.is_at_side and view.mask.sum() * view.depth**2 < 0.8 * whole:
                crossing[kind] |= others | {number}
    assert max(len(numbers) for numbers in crossing.values()) >= 4


def test_things_that_were_hidden_come_back_with_their_number(sequences):
    gaps = 0
    for name in _NAMES:
        for views in _tracks(*sequences[name]).values():
            frames = [view.frame for view in views]
            gaps += frames[-1] - frames[0] + 1 > len(frames)
    assert gaps >= 2


def test_the_statistics_count_what_is_in_the_annotation(root):
    info = json.loads((root / "shapes_video" / "info.json").read_text())
    content = json.loads((root / "shapes_video/annotations/panoptic_train.json").read_text())
    instances = json.loads((root / "shapes_video/annotations/instances_train.json").read_text())
    things = [(a["image_id"], s) for a in content["annotations"] for s in a["segments_info"]]
    things = [(i, s) for i, s in things if s["track_id"]]
    assert info["train"]["num_things"] == len(things) == len(instances["annotations"])
    assert info["train"]["num_small"] == sum(s["area"] < 100 for _, s in things)
    tracks = {(i // 1000000, s["category_id"], s["track_id"]) for i, s in things}
    assert info["train"]["num_tracks"] == len(tracks)
    dvps = json.loads((root / "shapes_video_dvps" / "info.json").read_text())
    assert (info["layout"], dvps["layout"], dvps["val"]) == ("step", "dvps", info["val"])


def test_a_folder_of_the_other_layout_and_an_unknown_layout_are_refused(root):
    with pytest.raises(ValueError, match="shapes_video dataset with layout step, wanted dvps"):
        prepare_shapes_video(str(root / "shapes_video"), _OPTIONS, layout="dvps")
    with pytest.raises(ValueError, match="layout must be one of step, dvps, got 'kitti'"):
        prepare_shapes_video(str(root / "new"), _OPTIONS, layout="kitti")


@pytest.mark.parametrize(
    "values, name",
    [({"num_train": 0}, "num_train"), ({"num_train": 501}, "num_train"), ({"seed": -1}, "seed")],
)
def test_a_wrong_option_is_named(values, name):
    with pytest.raises(ValueError, match=name):
        ShapesVideoOptions(**values)
