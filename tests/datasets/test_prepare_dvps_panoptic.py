"""Miniatures of both releases, in the layouts that ViP-DeepLab's scripts leave behind."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.data import (
    Layer,
    NextFrameTargetGenerator,
    PanopticDatasetMapper,
    PanopticTargetGenerator,
)
from deeplab2_d2.data.builtin import register_all, register_dvps
from deeplab2_d2.data.check import main as check
from deeplab2_d2.data.dvps import DVPS_RELEASES, dvps_categories, prepare_dvps
from deeplab2_d2.data.metadata import training_metadata
from deeplab2_d2.data.samplers import SequenceSampler
from deeplab2_d2.structures import read_panoptic_png

_ROOT = pathlib.Path(__file__).parents[2]
_SPLITS = ("train", "val", "test")
_DEPTH = np.array([[0, 256, 512, 1024], [256, 256, 256, 65535]], np.uint16)


def _save(path, values, dtype):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values).astype(dtype)).save(path)


@pytest.fixture
def cityscapes(tmp_path):
    """
    Two clips of six annotated frames a split: road, sky, two cars, one of which leaves, void.

    The names are those of Cityscapes-VPS behind the numbers of the clip and of the frame.
    """
    root = tmp_path / "cityscapes_dvps"
    for split in _SPLITS:
        for clip in (0, 1):
            for frame in range(6):
                stem = f"{clip:06d}_{frame:06d}_munster_{clip:06d}_{4 + 5 * frame:06d}"
                path = root / "video_sequence" / split / stem
                _save(path.with_name(f"{stem}_leftImg8bit.png"), np.full((2, 4, 3), frame), "uint8")
                if split == "test":
                    continue
                second = 13002 if frame < 5 else 13001
                labels = [[10000, 10000, 13001, second], [0, 0, 32000, 13000]]
                _save(path.with_name(f"{stem}_gtFine_instanceTrainIds.png"), labels, "uint16")
                _save(path.with_name(f"{stem}_depth.png"), _DEPTH, "uint16")
    return root


@pytest.fixture
def semkitti(tmp_path):
    """Sequences 0 and 1 to train by, 8, and 12 without labels; three frames each."""
    root = tmp_path / "semkitti_dvps"
    for split, sequences in (("train", (0, 1)), ("val", (8,)), ("test", (12,))):
        for sequence in sequences:
            for frame in range(3):
                stem = f"{sequence:06d}_{frame:06d}"
                path = root / "video_sequence" / split / stem
                _save(path.with_name(f"{stem}_leftImg8bit.png"), np.full((2, 4, 3), frame), "uint8")
                if split == "test":
                    continue
                _save(
                    path.with_name(f"{stem}_gtFine_class.png"), [[255, 8, 0, 0], [5] * 4], "uint8"
                )
                numbers = [[0, 7, 3, 40000], [0, 1, 1, 1]]
                _save(path.with_name(f"{stem}_gtFine_instance.png"), numbers, "uint16")
                _save(path.with_name(f"{stem}_depth_718.8560180664062.png"), _DEPTH, "uint16")
    return root


@pytest.fixture
def registered():
    """Prepares and registers a release that is in a test's folder; gives the names."""

    def prepare(root):
        _forget()
        for split in ("train", "val"):
            prepare_dvps(str(root), root.name, split)
        register_dvps(str(root.parent))
        return [f"{root.name}_panoptic_{split}" for split in _SPLITS]

    def _forget():
        for release in DVPS_RELEASES:
            for split in _SPLITS:
                DatasetCatalog.remove(f"{release}_panoptic_{split}")
                MetadataCatalog.remove(f"{release}_panoptic_{split}")

    yield prepare
    _forget()
    register_all()


def _tracks(dataset_dict):
    """Class, track and crowd of each pixel; None where unlabeled."""
    segments = {
        s["id"]: (s["category_id"], s["track_id"], s["iscrowd"])
        for s in dataset_dict["segments_info"]
    }
    ids = read_panoptic_png(dataset_dict["pan_seg_file_name"])
    return [[segments.get(i) for i in row] for row in ids.tolist()]


def test_the_classes_are_those_of_the_papers():
    cityscapes, semkitti = (dvps_categories(name) for name in ("cityscapes_dvps", "semkitti_dvps"))
    assert [c["id"] for c in cityscapes if c["isthing"]] == list(range(11, 19))
    assert (cityscapes[0]["name"], cityscapes[18]["name"]) == ("road", "bicycle")
    assert [c["id"] for c in semkitti if c["isthing"]] == list(range(8))
    assert (semkitti[0]["name"], semkitti[18]["name"]) == ("car", "traffic-sign")
    assert len(cityscapes) == len(semkitti) == 19


def test_cityscapes_clips_are_sequences_of_six_frames_with_tracks_and_depth(cityscapes, registered):
    train, _, _ = registered(cityscapes)
    dicts = DatasetCatalog.get(train)
    assert [(d["sequence"], d["frame"]) for d in dicts] == [
        (f"{clip:06d}", frame) for clip in (0, 1) for frame in range(6)
    ]
    car, crowd = (13, 1, 0), (13, 0, 1)
    first_row = [(10, 0, 0), (10, 0, 0), car, (13, 2, 0)]
    assert _tracks(dicts[0]) == [first_row, [(0, 0, 0), (0, 0, 0), None, crowd]]
    assert _tracks(dicts[5])[0] == [(10, 0, 0), (10, 0, 0), car, car]
    assert dicts[0]["next_file_name"].endswith(
        "train/000000_000001_munster_000000_000009_" "leftImg8bit.png"
    )
    assert "next_file_name" not in dicts[5] and "previous_file_name" not in dicts[6]
    assert np.array_equal(np.asarray(Image.open(dicts[7]["depth_file_name"])), _DEPTH)
    assert "focal_length" not in dicts[0]
    assert training_metadata([train]).label_divisor == 1000


def test_semkitti_has_numbers_of_16_bits_and_the_focal_length_of_the_file_name(
    semkitti, registered
):
    train, val, _ = registered(semkitti)
    first = DatasetCatalog.get(train)[0]
    assert _tracks(first) == [
        [None, (8, 0, 0), (0, 3, 0), (0, 40000, 0)],
        [(5, 0, 1), (5, 1, 0), (5, 1, 0), (5, 1, 0)],
    ]
    assert first["focal_length"] == 718.8560180664062
    assert os.path.isfile(first["depth_file_name"])
    classes = training_metadata([train])
    assert (classes.label_divisor, classes.thing_ids) == (65536, tuple(range(8)))
    places = [(d["sequence"], d["frame"], d["image_id"]) for d in DatasetCatalog.get(val)]
    assert places == [("000008", k, 8000000 + k) for k in range(3)]


@pytest.mark.parametrize("release", DVPS_RELEASES)
def test_the_test_split_is_images_of_sequences_without_labels(release, request, registered):
    root = request.getfixturevalue(release[: -len("_dvps")])
    _, val, test = registered(root)
    dicts = DatasetCatalog.get(test)
    assert set(dicts[0]) == {"file_name", "image_id", "sequence", "frame", "next_file_name"}
    assert all(os.path.isfile(d["file_name"]) for d in dicts)
    metadata = MetadataCatalog.get(test)
    assert metadata.has_ground_truth is False and metadata.get("panoptic_json") is None
    assert metadata.label_divisor == MetadataCatalog.get(val).label_divisor
    # Two processes: no sequence is cut.
    sequences = [d["sequence"] for d in dicts]
    parts = [
        {sequences[k] for k in SequenceSampler(sequences, rank=rank, world_size=2)}
        for rank in range(2)
    ]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(sequences)


@pytest.mark.parametrize("release", DVPS_RELEASES)
def test_the_check_finds_no_error_and_pairs_with_depth_can_be_made(release, request, registered):
    train, _, _ = registered(request.getfixturevalue(release[: -len("_dvps")]))
    assert check([train, "--stride", "1"]) == 0
    classes = training_metadata([train])
    mapper = PanopticDatasetMapper(
        is_train=True,
        augmentations=[],
        target_generator=NextFrameTargetGenerator(PanopticTargetGenerator(ignore_label=255)),
        num_classes=classes.num_classes,
        thing_ids=classes.thing_ids,
        label_divisor=classes.label_divisor,
        layers=[
            Layer("next_image", ("next_file_name",), "image"),
            Layer("depth", ("depth_file_name",), "depth"),
        ],
    )
    sample = mapper(DatasetCatalog.get(train)[0])
    # The images' values are the numbers of their frames.
    assert float(sample["next_image"].mean()) - float(sample["image"].mean()) == 1
    assert sample["depth"].tolist() == [[0, 1, 2, 4], [1, 1, 1, 65535 / 256]]
    assert torch.equal(sample["next_center_offsets"], sample["center_offsets"])


def test_an_incomplete_release_is_named(cityscapes, semkitti):
    depth = "000000_000002_munster_000000_000014_depth.png"
    (cityscapes / "video_sequence" / "train" / depth).unlink()
    with pytest.raises(FileNotFoundError, match="000000_000002_munster.* has no depth"):
        prepare_dvps(str(cityscapes), "cityscapes_dvps", "train")
    (semkitti / "video_sequence" / "val" / "000008_000001_gtFine_instance.png").unlink()
    with pytest.raises(FileNotFoundError, match="000008_000001_gtFine_instance.png does not exist"):
        prepare_dvps(str(semkitti), "semkitti_dvps", "val")
    (semkitti / "video_sequence" / "train").rename(semkitti / "elsewhere")
    with pytest.raises(FileNotFoundError, match="train has no <sequence>_<frame>.*complete?"):
        prepare_dvps(str(semkitti), "semkitti_dvps", "train")


def test_labels_that_do_not_fit_are_named(cityscapes):
    folder = cityscapes / "video_sequence" / "val"
    labels = folder / "000001_000000_munster_000001_000004_gtFine_instanceTrainIds.png"
    _save(labels, [[19000] * 4] * 2, "uint16")
    with pytest.raises(ValueError, match="labels of .*000001_000000.* below 19, or 32 .* got 19"):
        prepare_dvps(str(cityscapes), "cityscapes_dvps", "val")
    _save(labels, [[0]], "uint16")
    with pytest.raises(ValueError, match=r"000001_000000.* have size \(1, 1\), its image has \(2"):
        prepare_dvps(str(cityscapes), "cityscapes_dvps", "val")


@pytest.mark.slow
def test_the_script_makes_the_splits_that_are_asked_for(semkitti):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(semkitti.parent)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    script = str(_ROOT / "datasets" / "prepare_dvps_panoptic.py")
    command = [sys.executable, script, "semkitti_dvps", "--splits", "val"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(semkitti / "semkitti_dvps_panoptic_val.json")]
    assert [path.name for path in semkitti.glob("*.json")] == ["semkitti_dvps_panoptic_val.json"]
