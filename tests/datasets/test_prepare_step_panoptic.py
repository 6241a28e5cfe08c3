import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json
from detectron2.utils import comm
from PIL import Image

from deeplab2_d2.data.builtin import register_all, register_step
from deeplab2_d2.data.registration import load_panoptic_json, panoptic_metadata
from deeplab2_d2.data.samplers import SequenceSampler
from deeplab2_d2.data.step import (
    SPLITS,
    STEP_RELEASES,
    prepare_step,
    step_categories,
)
from deeplab2_d2.structures import read_panoptic_png

_ROOT = pathlib.Path(__file__).parents[2]
_VAL = (2, 6, 7, 8, 10, 13, 14, 16, 18)

# Of one frame: class and instance of each pixel. 11 = person, 13 = car, 12 = rider (no thing
# here), 255 = void; instance 513 needs both channels.
_CLASSES = [[0, 0, 11, 11, 11], [12, 12, 13, 13, 255]]
_INSTANCES = [[0, 0, 1, 513, 0], [1, 2, 1, 1, 0]]


def _write_frame(root, images, maps, frame, classes=_CLASSES, instances=_INSTANCES):
    numbers = np.array(instances)
    colors = np.stack([np.array(classes), numbers // 256, numbers % 256], axis=-1)
    for path, pixels in (
        (root / images / frame, np.zeros_like(colors)),
        (root / maps / f"{pathlib.Path(frame).stem}.png", colors),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def kitti(tmp_path):
    """Every video of KITTI-STEP, as the archives unpack; the first has two frames."""
    root = tmp_path / "kitti_step"
    for video in range(21):
        split = "val" if video in _VAL else "train"
        images, maps = f"training/image_02/{video:04d}", f"panoptic_maps/{split}/{video:04d}"
        for frame in ("000000.png", "000001.png")[: 2 if video == 0 else 1]:
            _write_frame(root, images, maps, frame)
    return root


@pytest.fixture
def motchallenge(tmp_path):
    """MOTChallenge-STEP in DeepLab2's layout, with both videos among the images to train by."""
    root = tmp_path / "motchallenge_step"
    for video in ("0002", "0009"):
        for frame, classes in (("000001.jpg", [[0, 4]]), ("000002.jpg", [[6, 4]])):
            folders = f"images/train/{video}", f"panoptic_maps/train/{video}"
            _write_frame(root, *folders, frame, classes, [[0, 7]])
    # The number of a video is there again in the test set.
    _write_frame(root, "images/test/0002", "unused", "000009.jpg")
    return root


def _read(root, split):
    return json.loads((root / f"{root.name}_panoptic_{split}.json").read_text())


def test_kitti_has_cityscapes_classes_and_two_kinds_of_things():
    categories = step_categories("kitti_step")
    assert [c["id"] for c in categories] == list(range(19))
    things = {c["id"]: c["name"] for c in categories if c["isthing"]}
    assert things == {11: "person", 13: "car"}
    assert (categories[0]["name"], categories[18]["name"]) == ("road", "bicycle")


def test_motchallenge_has_seven_classes_and_persons_as_things():
    categories = step_categories("motchallenge_step")
    assert len(categories) == 7
    assert [(c["id"], c["name"]) for c in categories if c["isthing"]] == [(4, "person")]
    assert categories[6] == {"id": 6, "name": "bicycle", "isthing": 0, "color": [119, 11, 32]}


def test_instances_are_apart_crowds_marked_and_stuff_is_one_segment(kitti):
    prepare_step(str(kitti), "kitti_step")
    annotation = _read(kitti, "train")["annotations"][0]
    segments = {(s["category_id"], s["area"], s["iscrowd"]): s for s in annotation["segments_info"]}
    # Road, the crowd of persons, two persons (equal here), riders of two numbers, a car.
    assert sorted((s["category_id"], s["area"]) for s in annotation["segments_info"]) == [
        (0, 2),
        (11, 1),
        (11, 1),
        (11, 1),
        (12, 2),
        (13, 2),
    ]
    ids = read_panoptic_png(str(kitti / "panoptic" / annotation["file_name"]))
    assert ids[0, 4] == segments[11, 1, 1]["id"]
    assert len({ids[0, 2], ids[0, 3], ids[0, 4]}) == 3
    assert sum(s["iscrowd"] for s in annotation["segments_info"]) == 1
    assert ids[1, 0] == ids[1, 1] == segments[12, 2, 0]["id"] and ids[1, 4] == 0


def test_the_number_of_an_instance_is_its_track(kitti):
    prepare_step(str(kitti), "kitti_step")
    annotation = _read(kitti, "train")["annotations"][0]
    tracks = {s["id"]: s["track_id"] for s in annotation["segments_info"]}
    ids = read_panoptic_png(str(kitti / "panoptic" / annotation["file_name"]))
    # Both channels of a number count; riders are stuff here.
    assert [[tracks.get(i) for i in row] for row in ids.tolist()] == [
        [0, 0, 1, 513, 0],
        [0, 0, 1, 1, None],
    ]


def test_the_videos_decide_on_the_split_and_trainval_is_both(kitti):
    paths = prepare_step(str(kitti), "kitti_step")
    assert [pathlib.Path(p).name for p in paths] == [
        f"kitti_step_panoptic_{split}.json" for split in ("train", "val", "trainval")
    ]
    train, val, trainval = (_read(kitti, split) for split in ("train", "val", "trainval"))
    assert [image["id"] // 1000000 for image in val["images"]] == list(_VAL)
    assert (len(train["images"]), len(val["images"])) == (13, 9)
    for key in ("images", "annotations"):
        assert trainval[key] == train[key] + val[key]
    assert trainval["categories"] == train["categories"]


def test_of_motchallenge_video_9_is_train_and_2_is_val(motchallenge):
    prepare_step(str(motchallenge), "motchallenge_step")
    images = {split: _read(motchallenge, split)["images"] for split in ("train", "val")}
    assert [i["id"] for i in images["train"]] == [9000001, 9000002]
    assert [i["file_name"] for i in images["val"]] == [
        "images/train/0002/000001.jpg",
        "images/train/0002/000002.jpg",
    ]


@pytest.fixture
def registered():
    """Registers a release that is in a test's folder."""

    def register(folder):
        _forget()
        register_step(str(folder))

    def _forget():
        for release in STEP_RELEASES:
            for split in (*SPLITS, "test"):
                DatasetCatalog.remove(f"{release}_panoptic_{split}")
                MetadataCatalog.remove(f"{release}_panoptic_{split}")

    yield register
    _forget()
    register_all()


def test_the_registered_dicts_say_which_frame_of_which_video_they_are(kitti, registered):
    prepare_step(str(kitti), "kitti_step")
    registered(kitti.parent)
    dicts = DatasetCatalog.get("kitti_step_panoptic_train")
    frames = [(d["sequence"], d["frame"]) for d in dicts[:3]]
    assert frames == [("0000", 0), ("0000", 1), ("0001", 0)]
    first, second, other = dicts[:3]
    assert first["next_file_name"] == second["file_name"]
    assert second["previous_segments_info"] == first["segments_info"]
    assert second["previous_pan_seg_file_name"] == first["pan_seg_file_name"]
    assert not [key for key in other if key.startswith(("previous", "next"))]
    assert {os.path.basename(os.path.dirname(d["file_name"])) == d["sequence"] for d in dicts} == {
        True
    }


def test_a_video_of_a_registered_release_is_not_cut_between_processes(
    motchallenge, registered, monkeypatch
):
    prepare_step(str(motchallenge), "motchallenge_step")
    registered(motchallenge.parent)
    dicts = DatasetCatalog.get("motchallenge_step_panoptic_trainval")
    assert [(d["sequence"], d["frame"]) for d in dicts] == [
        *(("0002", 1), ("0002", 2)),
        *(("0009", 1), ("0009", 2)),
    ]
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        parts.append(list(SequenceSampler.for_dataset(dicts)))
    assert parts == [[0, 1], [2, 3]]


@pytest.mark.parametrize("layout", ["images/test/{:04d}", "MOTS/test/MOTS20-{:02d}/img1"])
def test_the_test_split_is_videos_without_labels(tmp_path, registered, layout):
    root = tmp_path / "motchallenge_step"
    for video in (1, 7):
        for frame in ("000001.jpg", "000002.jpg"):
            _write_frame(root, layout.format(video), "unused", frame)
    registered(tmp_path)
    dicts = DatasetCatalog.get("motchallenge_step_panoptic_test")
    places = [(d["sequence"], d["frame"], d["image_id"]) for d in dicts]
    assert places == [
        *(("0001", 1, 1000001), ("0001", 2, 1000002)),
        *(("0007", 1, 7000001), ("0007", 2, 7000002)),
    ]
    assert dicts[3]["previous_file_name"] == dicts[2]["file_name"]
    assert "previous_file_name" not in dicts[2] and os.path.isfile(dicts[2]["file_name"])
    assert MetadataCatalog.get("motchallenge_step_panoptic_test").has_ground_truth is False


@pytest.mark.parametrize("release", STEP_RELEASES)
def test_every_image_and_png_is_where_the_loader_looks(release, request):
    root = request.getfixturevalue(release[: -len("_step")])
    paths = prepare_step(str(root), release)
    metadata = panoptic_metadata(step_categories(release))
    dicts = load_panoptic_json(paths[-1], str(root), str(root / "panoptic"), metadata)
    assert len(dicts) == len({d["image_id"] for d in dicts}) > 1
    for d in dicts:
        size = d["width"], d["height"]
        assert Image.open(d["file_name"]).size == size
        assert Image.open(d["pan_seg_file_name"]).size == size


def test_detectron2s_loader_reads_the_jpegs_of_motchallenge(motchallenge):
    path = prepare_step(str(motchallenge), "motchallenge_step")[0]
    metadata = panoptic_metadata(step_categories("motchallenge_step"))
    dicts = load_coco_panoptic_json(
        path, str(motchallenge), str(motchallenge / "panoptic"), metadata
    )
    assert [d["image_id"] for d in dicts] == [9000001, 9000002]
    assert all(os.path.isfile(d["file_name"]) for d in dicts)
    segments = [[(s["category_id"], s["isthing"]) for s in d["segments_info"]] for d in dicts]
    assert segments == [[(0, False), (4, True)], [(4, True), (6, False)]]


def test_an_incomplete_release_is_named(kitti):
    (kitti / "panoptic_maps" / "train" / "0000" / "000001.png").unlink()
    with pytest.raises(FileNotFoundError, match="train/0000/000001.png does not exist"):
        prepare_step(str(kitti), "kitti_step")
    (kitti / "training" / "image_02" / "0000").rename(kitti / "elsewhere")
    with pytest.raises(FileNotFoundError, match="none of images/train/0000, .*release complete"):
        prepare_step(str(kitti), "kitti_step")
    assert not list(kitti.glob("*.json"))


def test_a_class_that_is_not_there_and_a_size_that_differs_are_named(motchallenge):
    folders = "images/train/0009", "panoptic_maps/train/0009"
    _write_frame(motchallenge, *folders, "000001.jpg", [[7, 4]], [[0, 1]])
    with pytest.raises(ValueError, match="0009/000001.png must have classes below 7.*got 7"):
        prepare_step(str(motchallenge), "motchallenge_step")
    _write_frame(motchallenge, "unused", folders[1], "000001.jpg", [[0]], [[0]])
    with pytest.raises(ValueError, match=r"000001.png has size \(1, 1\), but its image has \(1, 2"):
        prepare_step(str(motchallenge), "motchallenge_step")


@pytest.mark.slow
def test_the_script_makes_every_split_that_then_loads(kitti):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(kitti.parent)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    script = str(_ROOT / "datasets" / "prepare_step_panoptic.py")
    code = (
        "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0])['main'](); "
        "import deeplab2_d2.data; from detectron2.data import DatasetCatalog; "
        "print([len(DatasetCatalog.get(f'kitti_step_panoptic_{s}')) "
        "for s in ('train', 'val', 'trainval')])"
    )
    command = [sys.executable, "-c", code, script, "kitti_step"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[13, 9, 22]"
