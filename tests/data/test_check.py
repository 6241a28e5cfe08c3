"""The inspection on a dataset that is broken in every way it knows."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.data.check import format_report, main
from deeplab2_d2.data.findings import KINDS
from deeplab2_d2.data.inspection import inspect_dataset
from deeplab2_d2.data.loader import load_dataset_dicts
from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.registration import panoptic_metadata, register_panoptic_dataset

_CATEGORIES = [
    {"id": 1, "name": "apple", "isthing": 1},
    {"id": 2, "name": "pear", "isthing": 1},
    {"id": 5, "name": "table", "isthing": 0},
]
_NUM_IMAGES = 16


class _Set:
    """A sound dataset of small images that a test breaks and then inspects."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "images").mkdir()
        writer = PanopticWriter(
            panoptic_root=str(folder / "png"),
            panoptic_json=str(folder / "panoptic.json"),
            categories=_CATEGORIES,
        )
        table = np.ones((8, 10), bool)
        apple, pear = np.zeros((2, 8, 10), bool)
        apple[:4, :5] = True
        pear[4:, 5:] = True
        for k in range(_NUM_IMAGES):
            Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(folder / "images" / f"{k}.jpg")
            segments = [Segment(table, 5), Segment(apple, 1), Segment(pear, 2)]
            writer.add(f"{k}.jpg", (8, 10), segments)
        writer.close()
        self.content = json.loads((folder / "panoptic.json").read_text())
        register_panoptic_dataset(
            "test_broken",
            panoptic_metadata(_CATEGORIES),
            image_root=str(folder / "images"),
            panoptic_root=str(folder / "png"),
            panoptic_json=str(folder / "panoptic.json"),
        )

    def segments(self, k):
        return self.content["annotations"][k]["segments_info"]

    def save(self):
        (self.folder / "panoptic.json").write_text(json.dumps(self.content))

    def kinds(self, **arguments):
        report = inspect_dataset("test_broken", **arguments)
        return [(f.kind, os.path.basename(f.source)) for f in report.findings]


@pytest.fixture
def dataset(tmp_path):
    yield _Set(tmp_path)
    DatasetCatalog.remove("test_broken")
    MetadataCatalog.remove("test_broken")


def _break_everything(dataset):
    """Image k has the k-th fault; the images of the last faults have none of their own."""
    folder, segments = dataset.folder, dataset.segments
    (folder / "images" / "0.jpg").unlink()
    (folder / "images" / "1.jpg").write_bytes(b"no image")
    (folder / "png" / "2.png").unlink()
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(folder / "png" / "3.png")
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(folder / "images" / "4.jpg")
    segments(5).append(dict(segments(5)[0], category_id=1))
    segments(6).append({"id": 256**3, "category_id": 1, "area": 3, "iscrowd": 0})
    segments(7).append({"id": 77, "category_id": 1, "area": 3, "iscrowd": 0})
    segments(8).pop()
    segments(9)[1]["category_id"] = 99
    segments(10)[1]["category_id"] = 5
    segments(11)[0]["iscrowd"] = 1
    segments(12)[1]["area"] += 1
    # Past the guard of Metadata, which refuses to change a value.
    vars(MetadataCatalog.get("test_broken"))["label_divisor"] = 2
    segments(13)[2]["category_id"] = 1
    dataset.content["annotations"][14]["image_id"] = 1
    dataset.content["annotations"][15]["image_id"] = 1000
    dataset.save()


def test_a_sound_dataset_has_no_finding_and_its_classes_are_counted(dataset):
    report = inspect_dataset("test_broken")
    assert report.findings == [] and report.num_images == _NUM_IMAGES
    assert report.segments == {"apple": 16, "pear": 16, "table": 16}
    assert report.pixels == {"apple": 16 * 20, "pear": 16 * 20, "table": 16 * 40}


def test_each_fault_is_found_once_and_named_by_its_file(dataset):
    _break_everything(dataset)
    assert sorted(dataset.kinds()) == sorted(
        [
            ("missing_image", "0.jpg"),
            ("broken_image", "1.jpg"),
            ("missing_png", "2.png"),
            ("broken_png", "3.png"),
            ("size_mismatch", "4.png"),
            ("overlapping_segments", "5.png"),
            ("divisor_overflow", "5.png"),
            ("invalid_segment_id", "6.png"),
            ("empty_segment", "6.png"),
            ("divisor_overflow", "6.png"),
            ("empty_segment", "7.png"),
            ("divisor_overflow", "7.png"),
            ("unlisted_segment", "8.png"),
            ("unknown_category", "9.png"),
            ("repeated_stuff", "10.png"),
            ("stuff_crowd", "11.png"),
            ("wrong_area", "12.png"),
            ("divisor_overflow", "13.png"),
            ("repeated_image", "panoptic.json"),
            ("unknown_image_id", "panoptic.json"),
            ("no_annotation", "panoptic.json"),
            ("no_annotation", "panoptic.json"),
        ]
    )


def test_an_image_that_pil_thinks_a_bomb_is_a_finding(dataset, monkeypatch):
    pixels = np.zeros((30, 30, 3), np.uint8)
    Image.fromarray(pixels).save(dataset.folder / "images" / "3.jpg")
    # It refuses images of more than twice as many pixels.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    report = inspect_dataset("test_broken")
    (finding,) = report.findings
    assert (finding.kind, os.path.basename(finding.source)) == ("broken_image", "3.jpg")
    assert "900 pixels" in finding.detail


def test_an_area_that_does_not_belong_to_the_repeated_id_is_reported_too(dataset):
    first = dataset.segments(0)[0]
    dataset.segments(0).append({**first, "category_id": 1, "area": 7})
    dataset.save()
    assert dataset.kinds() == [("overlapping_segments", "0.png"), ("wrong_area", "0.png")]


def test_small_instances_depend_on_the_stride(dataset):
    assert dataset.kinds(output_stride=4) == []
    # An apple has 20 pixels, a cell of stride 8 has 64.
    assert {kind for kind, _ in dataset.kinds(output_stride=8)} == {"small_instance"}


def test_the_share_of_unlabeled_pixels_is_told_and_what_the_model_does_there(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(tmp_path / "images" / "0.jpg")
    apple = np.zeros((8, 10), bool)
    apple[:4, :5] = True
    # A quarter of the pixels is an apple's; a set of things alone is remarked.
    for things_alone in (True, False):
        categories = _CATEGORIES[:1] if things_alone else _CATEGORIES[::2]
        arguments = {"panoptic_root": str(tmp_path / "png")}
        arguments["panoptic_json"] = str(tmp_path / "panoptic.json")
        writer = PanopticWriter(categories=categories, **arguments)
        writer.add("0.jpg", (8, 10), [Segment(apple, 1)])
        writer.close()
        register_panoptic_dataset(
            "test_unlabeled",
            panoptic_metadata(categories),
            image_root=str(tmp_path / "images"),
            **arguments,
        )
        try:
            report = inspect_dataset("test_unlabeled")
        finally:
            DatasetCatalog.remove("test_unlabeled")
            MetadataCatalog.remove("test_unlabeled")
        assert report.unlabeled_percent == 75.0 and report.num_errors == 0
        assert "unlabeled: 75.00 % of all pixels" in format_report(report)
        remarks = [(f.kind, f.detail) for f in report.findings]
        expected = ("no_background", "75.0 % of the pixels"), ("absent_class", "table")
        assert remarks == [expected[0] if things_alone else expected[1]]


def test_a_class_that_never_occurs_is_reported(dataset):
    for k in range(_NUM_IMAGES):
        dataset.segments(k)[2]["category_id"] = 1
    dataset.save()
    report = inspect_dataset("test_broken")
    assert [(f.kind, f.detail) for f in report.findings] == [("absent_class", "pear")]


def test_a_missing_and_a_broken_json_are_findings(dataset):
    (dataset.folder / "panoptic.json").write_text("{")
    assert dataset.kinds() == [("missing_annotation", "panoptic.json")]
    (dataset.folder / "panoptic.json").unlink()
    assert dataset.kinds() == [("missing_annotation", "panoptic.json")]


@pytest.mark.parametrize(
    "change, entry",
    [
        (lambda c: c["annotations"][1].pop("segments_info"), "annotations[1] (1.png)"),
        (lambda c: c.pop("images"), "there must be a list 'images'"),
        (lambda c: c["images"][3].pop("height"), "images[3] (3.jpg)"),
        (
            lambda c: c["annotations"][2]["segments_info"][1].update(id="4"),
            "annotations[2] (2.png)",
        ),
    ],
)
def test_a_broken_entry_is_a_finding_and_the_same_in_training(dataset, change, entry):
    change(dataset.content)
    dataset.save()
    findings = inspect_dataset("test_broken").findings
    broken = [f for f in findings if f.kind == "broken_entry"]
    assert len(broken) == 1 and entry in broken[0].detail
    assert broken[0].source == str(dataset.folder / "panoptic.json")
    with pytest.raises(ValueError) as error:
        DatasetCatalog.get("test_broken")
    assert str(error.value) == f"{broken[0].source}: {broken[0].detail}"


@pytest.mark.parametrize(
    "name",
    ["/elsewhere/images/{}.jpg", "C:\\data\\images\\{}.jpg", "images\\{}.jpg", "{}.PNG"],
)
def test_a_path_to_nowhere_is_found_as_training_would_and_what_is_meant_is_named(dataset, name):
    for k, image in enumerate(dataset.content["images"]):
        image["file_name"] = name.format(k)
    dataset.save()
    findings = inspect_dataset("test_broken").findings
    assert {f.kind for f in findings} == {"missing_image"} and len(findings) == _NUM_IMAGES
    loaded = DatasetCatalog.get("test_broken")
    for k, finding in enumerate(findings):
        assert finding.source == loaded[k]["file_name"]
        assert finding.detail == f"there is {dataset.folder}/images/{k}.jpg"


def test_image_ids_as_text_in_one_of_the_lists_are_told(dataset):
    dataset.content["annotations"][1]["image_id"] = "2"
    dataset.save()
    found = [f.detail for f in inspect_dataset("test_broken").findings]
    unknown = "1.png has image_id '2', which is not among the images: there it is of type int"
    assert unknown in found


def test_a_set_without_images_is_a_finding_and_no_training(dataset):
    dataset.content.update(images=[], annotations=[])
    dataset.save()
    assert dataset.kinds() == [("no_image", "panoptic.json")]
    with pytest.raises(ValueError, match="test_broken must have an annotated image, got none of"):
        load_dataset_dicts(["test_broken"])


def test_what_the_loader_of_a_user_refuses_is_a_finding(dataset):
    def load():
        raise KeyError("height")

    DatasetCatalog.remove("test_broken")
    DatasetCatalog.register("test_broken", load)
    assert dataset.kinds() == [("cannot_load", "panoptic.json")]


def test_faults_of_videos_and_depth_are_found(dataset):
    (dataset.folder / "images" / "depth").mkdir()
    for k, image in enumerate(dataset.content["images"]):
        name = f"depth/{k}.png"
        image.update(sequence="a" if k < 8 else "b", frame=k, depth_file_name=name)
        Image.fromarray(np.full((8, 10), 256, np.uint16)).save(dataset.folder / "images" / name)
        for segment in dataset.segments(k):
            segment["track_id"] = int(segment["category_id"] != 5)
    dataset.save()
    assert dataset.kinds() == []
    del dataset.segments(0)[1]["track_id"]
    # The pear becomes the same apple a second time.
    dataset.segments(1)[2]["category_id"] = 1
    (dataset.folder / "images" / "depth" / "2.png").unlink()
    Image.new("RGB", (10, 8)).save(dataset.folder / "images" / "depth" / "3.png")
    Image.new("L", (5, 4)).save(dataset.folder / "images" / "depth" / "4.png")
    dataset.content["images"][6]["frame"] = 5
    dataset.save()
    assert sorted(dataset.kinds()) == [
        ("broken_depth", "2.png"),
        ("broken_depth", "3.png"),
        ("broken_depth", "4.png"),
        ("broken_sequence", "panoptic.json"),
        ("broken_track", "0.png"),
        ("broken_track", "1.png"),
    ]


def test_a_part_of_the_images_can_be_inspected(dataset):
    report = inspect_dataset("test_broken", max_images=3)
    assert report.num_images == 3 and report.findings == []


def test_the_text_names_files_and_says_what_to_do(dataset):
    _break_everything(dataset)
    text = format_report(inspect_dataset("test_broken"), max_lines=2)
    assert "ERROR: image missing (1)\n  to mend: copy the image there" in text
    assert str(dataset.folder / "images" / "0.jpg") in text
    assert "ERROR: more instances of a class than the label divisor holds (4)" in text
    assert "... and 2 more (--all prints them)" in text
    assert text.index("ERROR") < text.index("remark")
    assert text.endswith("test_broken: 14 images, 17 errors, 5 remarks")
    shown = {kind for kind in KINDS if KINDS[kind].title in text}
    of_videos = {"broken_sequence", "broken_track", "broken_depth"}
    of_entries = {"no_image", "no_background", "broken_entry", "missing_entry", "cannot_load"}
    of_instances = {"other_things", "unpaired_image", "instance_size", "no_instance"}
    absent = {"small_instance", "absent_class", "missing_annotation", "dark_image", "turned_image"}
    assert shown == set(KINDS) - of_videos - of_instances - of_entries - absent


def test_the_exit_status_tells_errors_from_remarks(dataset, capsys):
    assert main(["test_broken"]) == 0
    assert main(["test_broken", "--stride", "8"]) == 0
    (dataset.folder / "images" / "0.jpg").unlink()
    assert main(["test_broken"]) == 1
    assert main(["no_such_set"]) == 2
    assert "'no_such_set' is not registered" in capsys.readouterr().err


@pytest.mark.slow
def test_the_module_runs_as_a_command_on_a_set_below_detectron2_datasets(dataset, tmp_path):
    split = {"images": "images", "panoptic": "png", "panoptic_json": "panoptic.json"}
    marker = {"name": "fruit", "categories": _CATEGORIES, "splits": {"all": split}}
    shutil.copytree(dataset.folder, tmp_path / "root" / "fruit")
    (tmp_path / "root" / "fruit" / "panoptic_dataset.json").write_text(json.dumps(marker))
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path / "root")}
    result = subprocess.run(
        [sys.executable, "-m", "deeplab2_d2.data.check", "fruit_all"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("fruit_all: 16 images, 0 errors, 0 remarks")


def test_photos_are_inspected_as_training_reads_them(dataset):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = dataset.folder / "images" / "0.jpg"
    Image.new("RGB", (8, 10)).save(photo, exif=exif)  # upright 10 wide, as its PNG
    assert dataset.kinds() == [("turned_image", "0.jpg")]
    Image.new("RGB", (10, 8)).save(photo, exif=exif)
    report = inspect_dataset("test_broken")
    (mismatch,) = [f for f in report.findings if f.kind == "size_mismatch"]
    assert mismatch.detail.endswith("has 10 x 8, upright as its EXIF data say")


def test_an_image_of_16_bits_that_uses_few_of_them_is_remarked(dataset):
    values = np.full((8, 10), 4095, np.uint16)
    for k, factor in enumerate((1, 16)):
        Image.fromarray(values * factor).save(dataset.folder / "images" / f"{k}.png")
        dataset.content["images"][k]["file_name"] = f"{k}.png"
    dataset.save()
    assert dataset.kinds() == [("dark_image", "0.png")]


@pytest.mark.parametrize("name", ["/elsewhere/0.jpg", "train\\0.jpg", "0.png"])
def test_an_image_is_looked_for_where_training_looks_for_it(dataset, name):
    dataset.content["images"][0]["file_name"] = name
    dataset.save()
    (finding,) = inspect_dataset("test_broken").findings
    assert finding.kind == "missing_image"
    assert finding.source == DatasetCatalog.get("test_broken")[0]["file_name"]
    if name == "0.png":
        assert finding.detail == f"there is {dataset.folder / 'images' / '0.jpg'}"
