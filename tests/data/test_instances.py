"""Instances beside panoptic maps: what is joined, and every way in which they may disagree."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from deeplab2_d2.data import InstancePanopticMapper
from deeplab2_d2.data.inspection import inspect_dataset
from deeplab2_d2.data.loader import load_dataset_dicts
from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.registration import panoptic_metadata, register_panoptic_dataset

# Things after stuff, and not in the order of their ids: apples are thing 0, pears thing 1.
_CATEGORIES = [
    {"id": 8, "name": "table", "isthing": 0},
    {"id": 3, "name": "apple", "isthing": 1},
    {"id": 1, "name": "pear", "isthing": 1},
]
_APPLE = [1, 1, 5, 1, 5, 5, 1, 5]


class _Set:
    """Images of 8 x 10: 1 has an apple, polygons, under a pear, RLE; 2 has a table alone."""

    def __init__(self, folder):
        self.path = folder / "instances.json"
        apple, pear = np.zeros((2, 8, 10), bool)
        apple[1:5, 1:5] = pear[3:7, 3:8] = True
        writer = PanopticWriter(
            panoptic_root=str(folder / "png"),
            panoptic_json=str(folder / "panoptic.json"),
            categories=_CATEGORIES,
        )
        (folder / "images").mkdir()
        table = Segment(np.ones((8, 10), bool), 8)
        for k, things in enumerate(([Segment(apple, 3), Segment(pear, 1)], [])):
            name = f"{k + 1}.png"
            Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(folder / "images" / name)
            writer.add(name, (8, 10), [table, *things])
        writer.close()
        # Column by column: three empty ones, then rows 3 to 6 of five, two empty ones.
        counts = [3 * 8 + 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1 + 2 * 8]
        self.content = {
            "images": [
                {"id": k, "file_name": f"{k}.png", "height": 8, "width": 10} for k in (1, 2)
            ],
            "categories": [{"id": 1, "name": "pear"}, {"id": 3, "name": "apple"}],
            "annotations": [
                _annotation(11, 3, [1, 1, 4, 4], [_APPLE, [1, 1, 2, 2]]),
                _annotation(12, 1, [3, 3, 5, 4], {"size": [8, 10], "counts": counts}),
            ],
        }
        self.save()
        register_panoptic_dataset(
            "test_fruit",
            panoptic_metadata(_CATEGORIES),
            image_root=str(folder / "images"),
            panoptic_root=str(folder / "png"),
            panoptic_json=str(folder / "panoptic.json"),
            instances_json=str(self.path),
        )

    def save(self):
        self.path.write_text(json.dumps(self.content))


def _inspect(name):
    # What is seen of the apple is 12 pixels, less than a cell of stride 4.
    return inspect_dataset(name, output_stride=2)


def _annotation(id_, category_id, bbox, segmentation):
    names = ("id", "image_id", "category_id", "bbox", "segmentation", "paint_order")
    return dict(zip(names, (id_, 1, category_id, bbox, segmentation, id_ - 11)), iscrowd=0, area=0)


@pytest.fixture
def fruit(tmp_path):
    yield _Set(tmp_path)
    for name in ("test_fruit", "test_fruit_instances"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_a_dataset_with_an_instances_json_is_there_with_both(fruit):
    plain, joined = (DatasetCatalog.get(f"test_fruit{s}") for s in ("", "_instances"))
    assert [d.pop("annotations") for d in joined][1] == []
    assert joined == plain
    metadata = MetadataCatalog.get("test_fruit_instances")
    assert metadata.json_file == str(fruit.path) and metadata.has_instances
    assert not MetadataCatalog.get("test_fruit").has_instances


def test_annotations_are_detectron2s_with_classes_counted_among_the_things(fruit):
    apple, pear = DatasetCatalog.get("test_fruit_instances")[0]["annotations"]
    assert (apple["category_id"], pear["category_id"]) == (0, 1)
    assert (apple["paint_order"], pear["paint_order"]) == (0, 1)
    assert apple["bbox"] == [1, 1, 4, 4] and apple["bbox_mode"] == BoxMode.XYWH_ABS
    # The polygon of two points is left out; whole numbers are floats, or resizing cuts them off.
    assert apple["segmentation"] == [_APPLE]
    assert all(isinstance(value, float) for value in apple["segmentation"][0])
    expected = np.zeros((8, 10), np.uint8)
    expected[3:7, 3:8] = 1
    assert np.array_equal(mask_util.decode(pear["segmentation"]), expected)


def test_masks_overlap_where_the_panoptic_map_has_one_class(fruit):
    mapper = InstancePanopticMapper(
        is_train=True, augmentations=[], image_format="RGB", num_classes=3, thing_ids=(1, 2)
    )
    sample = mapper(DatasetCatalog.get("test_fruit_instances")[0])
    apple, pear = sample["instances"].gt_masks.tensor
    assert sample["instances"].gt_classes.tolist() == [0, 1]
    # Rows and columns 1 to 4, and rows 3 to 6 of columns 3 to 7: four pixels are of both.
    assert apple.nonzero().tolist() == [[y, x] for y in range(1, 5) for x in range(1, 5)]
    assert (apple & pear).nonzero().tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]
    assert torch.all(sample["sem_seg"][pear] == 2)
    assert torch.all(sample["sem_seg"][apple & ~pear] == 1)
    assert torch.all(sample["sem_seg"][~apple & ~pear] == 0)


def test_an_annotation_without_a_mask_is_left_out(fruit, caplog):
    fruit.content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    fruit.save()
    (pear,) = DatasetCatalog.get("test_fruit_instances")[0]["annotations"]
    assert pear["id"] == 12 and "left out 1 annotations without a mask" in caplog.text


def test_a_sound_set_has_no_finding(fruit):
    assert _inspect("test_fruit_instances").findings == []


def _of_another_class(content):
    content["categories"][0]["name"] = "plum"


def _of_one_class_less(content):
    del content["categories"][0], content["annotations"][1]


_FAULTS = [
    (_of_another_class, "other_things", r"only the file has \['1 plum'\].*have \['1 pear'\]"),
    (_of_one_class_less, "other_things", r"only the file has \[\] .*have \['1 pear'\]"),
    (
        lambda c: c["images"].pop(),
        "unpaired_image",
        r"image_id 2 \(.*2.png\) of .*panoptic.json is",
    ),
    (
        lambda c: c["images"].append({"id": 7, "file_name": "7.png", "height": 8, "width": 10}),
        "unpaired_image",
        r"image_id 7 \(7.png\) has no annotation in .*panoptic.json",
    ),
    (
        lambda c: c["images"][1].update(height=9),
        "instance_size",
        r"image_id 2 \(2.png\) must have the same size .*, 8 x 10, got 9 x 10",
    ),
    (
        lambda c: c["annotations"][1]["segmentation"].update(size=[10, 8]),
        "instance_size",
        r"annotation 12 of image_id 1: its mask must be .*\(8, 10\), got \(10, 8\)",
    ),
    (
        lambda c: c["annotations"][0].update(segmentation=[[1, 1, 4, 1, 4, float("nan")]]),
        "instance_size",
        "annotation 11 of image_id 1: coordinates must be from -10 to 20 in .*, got nan",
    ),
    (
        lambda c: c["annotations"][1]["segmentation"].update(counts=[3, 5]),
        "instance_size",
        "annotation 12 of image_id 1: the run lengths of its RLE must .* got 3 .* and 8 together",
    ),
    (
        lambda c: c["annotations"][0].update(image_id=5),
        "unknown_image_id",
        "annotation 11 of image_id 5: must be of one of the images",
    ),
    (
        lambda c: c["annotations"][0].update(category_id=8),
        "unknown_category",
        "annotation 11 of image_id 1: category_id must be of the categories, got 8",
    ),
]


@pytest.mark.parametrize(
    "spoil, kind, message", _FAULTS, ids=[f"{f[1]}_{f[2][:9]}" for f in _FAULTS]
)
def test_what_disagrees_is_an_error_of_loading_and_a_finding(fruit, spoil, kind, message):
    spoil(fruit.content)
    fruit.save()
    with pytest.raises(ValueError, match=f"{fruit.path}: .*{message}"):
        load_dataset_dicts(["test_fruit_instances"])
    findings = _inspect("test_fruit_instances").findings
    assert (kind, str(fruit.path)) in [(f.kind, f.source) for f in findings]
    # The set without instances is as good as it was.
    assert _inspect("test_fruit").findings == []
    assert len(load_dataset_dicts(["test_fruit"])) == 2


def test_a_class_of_the_map_without_an_instance_is_a_remark(fruit):
    del fruit.content["annotations"][1]
    fruit.save()
    report = _inspect("test_fruit_instances")
    assert [(f.kind, f.detail) for f in report.findings] == [("no_instance", "1.png: pear")]
    assert report.num_errors == 0


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda c: c.pop("categories"), "must have a list 'categories'"),
        (
            lambda c: c["annotations"][1].pop("bbox"),
            r"annotations\[1\] \(id 12\): it must have 'bbox'",
        ),
        (lambda c: c["images"][0].pop("height"), r"images\[0\] \(id 1\): it must have 'height'"),
    ],
)
def test_an_entry_that_is_missing_is_named(fruit, spoil, message):
    spoil(fruit.content)
    fruit.save()
    with pytest.raises(ValueError, match=f"{fruit.path}.*{message}"):
        load_dataset_dicts(["test_fruit_instances"])


def test_a_missing_or_broken_instances_json_is_named(fruit):
    fruit.path.write_text("{")
    with pytest.raises(ValueError, match=f"{fruit.path} is no JSON"):
        load_dataset_dicts(["test_fruit_instances"])
    fruit.path.unlink()
    with pytest.raises(FileNotFoundError, match=f"test_fruit_instances: json_file {fruit.path}"):
        load_dataset_dicts(["test_fruit_instances"])
    with pytest.raises(FileNotFoundError, match=f"instances JSON {fruit.path} does not exist"):
        DatasetCatalog.get("test_fruit_instances")
    assert [f.kind for f in _inspect("test_fruit_instances").findings] == ["missing_annotation"]


def test_instances_without_a_json_are_refused():
    with pytest.raises(ValueError, match="instances_json of test_none must be given"):
        register_panoptic_dataset(
            "test_none",
            panoptic_metadata(_CATEGORIES),
            image_root="a",
            panoptic_root="b",
            panoptic_json="c",
            has_instances=True,
        )
