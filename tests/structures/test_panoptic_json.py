"""Broken entries of COCO's panoptic JSON are named; sound ones are kept."""

import copy

import pytest

from deeplab2_d2.structures import check_panoptic_json, read_json_object, sift_panoptic_json

_SOUND = {
    "images": [{"id": k, "file_name": f"{k}.jpg", "height": 4, "width": 6} for k in ("a", 2)],
    "annotations": [
        {
            "image_id": k,
            "file_name": f"{k}.png",
            "segments_info": [{"id": 9, "category_id": 1, "area": 3, "iscrowd": 0}],
        }
        for k in ("a", 2)
    ],
    "categories": [{"id": 1, "name": "apple", "isthing": 1}],
}


def _segment(content):
    return content["annotations"][1]["segments_info"][0]


@pytest.mark.parametrize(
    "change, detail",
    [
        (lambda c: c.pop("images"), "there must be a list 'images', got None"),
        (lambda c: c.update(annotations={}), "there must be a list 'annotations', got {}"),
        (lambda c: c["images"].append(3), r"images\[2\]: it must be an object, got 3"),
        (lambda c: c["images"][1].pop("id"), r"images\[1\] \(2.jpg\): it must have 'id'"),
        (lambda c: c["images"][1].update(id=[2]), r"id must be a number or a text, got \[2\]"),
        (
            lambda c: c["images"][1].update(id="a"),
            r"images\[1\] \(2.jpg\): id .a. is twice in images",
        ),
        (lambda c: c["images"][1].update(file_name=7), r"images\[1\]: file_name must be a path"),
        (lambda c: c["images"][1].pop("height"), r"images\[1\] \(2.jpg\): it must have 'height'"),
        (
            lambda c: c["images"][1].update(width="6"),
            "width must be a whole number from 1, got '6'",
        ),
        (lambda c: c["annotations"][1].pop("file_name"), r"annotations\[1\]: it must have 'file_n"),
        (
            lambda c: c["annotations"][1].pop("segments_info"),
            r"\(2.png\): it must have 'segments_i",
        ),
        (lambda c: c["annotations"][1].update(segments_info=None), "segments_info must be a list"),
        (lambda c: _segment(c).update(id="9"), r"\[1\] \(2.png\): segments_info\[0\]: id must be"),
        (lambda c: _segment(c).update(id=True), "id must be a whole number, got True"),
        (lambda c: _segment(c).update(category_id="1"), "category_id must be .* number, got '1'"),
        (
            lambda c: _segment(c).pop("category_id"),
            r"segments_info\[0\]: it must have 'category_id'",
        ),
        (lambda c: _segment(c).update(iscrowd="0"), "iscrowd must be 0 or 1, got '0'"),
        (lambda c: _segment(c).update(area="3"), "area must be a number, got '3'"),
    ],
)
def test_a_broken_entry_is_named_and_the_others_are_kept(change, detail):
    content = copy.deepcopy(_SOUND)
    change(content)
    with pytest.raises(ValueError, match=f"set.json: .*{detail}"):
        check_panoptic_json(content, "set.json")
    sifted = sift_panoptic_json(content)
    assert len([f for f in sifted.faults if f.kind == "broken_entry"]) == 1
    if "images" in content and isinstance(content["annotations"], list):
        assert "a" in sifted.images and sifted.annotations[0]["image_id"] == "a"


def test_what_is_worked_out_is_no_error():
    content = copy.deepcopy(_SOUND)
    assert sift_panoptic_json(content).faults == []
    del _segment(content)["area"], content["categories"]
    faults = sift_panoptic_json(content).faults
    assert [fault.kind for fault in faults] == ["missing_entry"] * 2
    assert faults[0].detail == "annotations[1] (2.png): segments lack area"
    assert len(check_panoptic_json(content, "set.json").annotations) == 2


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100000])
def test_what_is_no_json_of_an_object_is_named(tmp_path, text):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(ValueError, match="set.json (is no JSON|must be an object)"):
        read_json_object(str(tmp_path / "set.json"))
