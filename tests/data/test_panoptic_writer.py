import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from deeplab2_d2.data.panoptic_writer import (
    PanopticWriter,
    Segment,
    instance_annotations,
    segment_id,
)
from deeplab2_d2.structures import read_panoptic_png

_CATEGORIES = [
    {"id": 3, "name": "apple", "isthing": 1},
    {"id": 8, "name": "table", "isthing": 0},
]


def _mask(*columns, width=4):
    mask = np.zeros((1, width), bool)
    mask[0, list(columns)] = True
    return mask


@pytest.fixture
def writer(tmp_path):
    return PanopticWriter(
        panoptic_root=str(tmp_path / "png"),
        panoptic_json=str(tmp_path / "a" / "panoptic.json"),
        categories=_CATEGORIES,
    )


def test_the_later_segment_wins_and_hidden_ones_are_left_out(writer, tmp_path):
    segments = [Segment(_mask(0, 1, 2), 8), Segment(_mask(1), 3), Segment(_mask(1, 2), 3, True)]
    kept = writer.add("x.jpg", (1, 4), segments)
    assert [s.mask[0].tolist() for s in kept] == [[1, 0, 0, 0], [0, 1, 1, 0]]
    content = json.loads(open(writer.close()).read())
    assert content["images"] == [{"id": 1, "file_name": "x.jpg", "height": 1, "width": 4}]
    (annotation,) = content["annotations"]
    table, crowd = annotation["segments_info"]
    assert (table["area"], table["bbox"], table["iscrowd"]) == (1, [0, 0, 1, 1], 0)
    assert (crowd["area"], crowd["bbox"], crowd["iscrowd"]) == (2, [1, 0, 2, 1], 1)
    ids = read_panoptic_png(str(tmp_path / "png" / "x.png"))
    assert ids.tolist() == [[table["id"], crowd["id"], crowd["id"], 0]]


def test_stuff_of_one_class_becomes_one_segment(writer):
    kept = writer.add("x.jpg", (1, 4), [Segment(_mask(0), 8), Segment(_mask(3), 8)])
    assert [s.mask[0].tolist() for s in kept] == [[1, 0, 0, 1]]


def test_segment_ids_are_distinct_and_in_range():
    ids = [segment_id(k) for k in range(20000)]
    assert len(set(ids)) == len(ids) and min(ids) > 0 and max(ids) < 256**3


def test_nothing_of_the_final_name_is_there_before_close(writer, tmp_path):
    writer.add("x.jpg", (1, 4), [])
    assert list((tmp_path / "a").iterdir()) == []
    writer.close()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["panoptic.json"]


def test_a_wrong_size_and_an_unknown_category_are_named(writer):
    with pytest.raises(ValueError, match=r"x.jpg: a mask of category 3 has size \(1, 5\)"):
        writer.add("x.jpg", (1, 4), [Segment(_mask(0, width=5), 3)])
    with pytest.raises(ValueError, match="x.jpg: category id 4 is not among"):
        writer.add("x.jpg", (1, 4), [Segment(_mask(0), 4)])


def test_instance_annotations_carry_the_masks():
    first, second = instance_annotations(
        [Segment(_mask(0, 1), 3), Segment(_mask(3), 3, True)], image_id=5, first_id=11
    )
    assert (first["id"], second["id"], second["iscrowd"]) == (11, 12, 1)
    assert mask_util.decode(first["segmentation"]).tolist() == [[1, 1, 0, 0]]
    assert first["bbox"] == [0, 0, 2, 1] and first["image_id"] == 5
