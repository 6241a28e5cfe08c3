"""Exports of annotation programs, and what they have that cannot be used."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.annotated_images import AnnotatedImage
from deeplab2_d2.data.coco_source import images_of_coco_json
from deeplab2_d2.data.conversion import convert_split
from deeplab2_d2.data.convert import main
from deeplab2_d2.data.cvat_source import images_of_cvat
from deeplab2_d2.data.labelme_source import images_of_labelme
from deeplab2_d2.data.mask_files import decode_segmentation
from deeplab2_d2.data.omissions import Omissions
from deeplab2_d2.data.yolo_source import images_of_yolo
from deeplab2_d2.structures import read_panoptic_png

_SIZE = (6, 8)
# The same rectangle of 3 x 4 pixels in every form: rows 1 to 3, columns 2 to 5.
_MASK = np.zeros(_SIZE, bool)
_MASK[1:4, 2:6] = True
_POLYGON = [2, 1, 6, 1, 6, 4, 2, 4]


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", _SIZE[::-1]).save(tmp_path / "photos" / name)
    return tmp_path


def _masks(image):
    return [(name, decode_segmentation(s, _SIZE)) for name, s, _ in image.instances]


def _coco(**change):
    annotation = {"id": 1, "image_id": 7, "category_id": 2, "segmentation": [_POLYGON]}
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 6, "width": 8}],
        "annotations": [{**annotation, **change}],
        "categories": [{"id": 2, "name": "apple"}],
    }


@pytest.mark.parametrize(
    "change, kind",
    [
        ({}, None),
        ({"image_id": "7", "category_id": "2"}, None),
        ({"segmentation": _POLYGON}, None),
        ({"segmentation": [[], _POLYGON]}, "polygon of fewer than three points"),
        ({"segmentation": [[1, 1, 2, 2], _POLYGON]}, "polygon of fewer than three points"),
        ({"image_id": 99}, "annotation of no image"),
        ({"image_id": None}, "annotation without image_id or category_id"),
        ({"category_id": 26}, "annotation of no category"),
        ({"segmentation": None}, "instance without a mask (a box alone, or nothing)"),
        ({"segmentation": []}, "instance without a mask (a box alone, or nothing)"),
        ({"segmentation": [[1, 1, 2, 2]]}, "polygon of fewer than three points"),
        ({"segmentation": [[]]}, "polygon of fewer than three points"),
    ],
)
def test_what_an_exporter_leaves_out_is_counted_and_the_rest_is_read(tmp_path, change, kind):
    path = str(tmp_path / "instances.json")
    (tmp_path / "instances.json").write_text(json.dumps(_coco(**change)))
    omitted = Omissions()
    (image,) = images_of_coco_json(path, omitted)
    assert len(omitted) == (0 if kind is None else omitted.count(kind) == 1)
    is_kept = kind is None or _POLYGON in (change.get("segmentation") or ())
    assert len(image.instances) == is_kept
    for name, mask in _masks(image):
        assert name == "apple" and np.array_equal(mask, _MASK)
    if kind is not None:
        assert f"1 x {kind}" in omitted.report() and "annotations[0]" in omitted.report()
        with pytest.raises(ValueError, match="annotations"):
            images_of_coco_json(path)


def test_classes_come_from_the_coco_file_and_the_list_is_printed_at_the_end(photos, capsys):
    content = _coco()
    content["images"].append({"id": 8, "file_name": "missing.jpg", "height": 6, "width": 8})
    nan = [2, 1, float("nan"), 1, 6, 4]
    content["annotations"] += [
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]},
        {"id": 3, "image_id": 7, "category_id": 2, "segmentation": [nan]},
    ]
    (photos / "instances.json").write_text(json.dumps(content))
    arguments = ["--name", "shop", "--split", "train", "--images", str(photos / "photos")]
    arguments += ["--output", str(photos / "set"), "--background", "floor"]
    assert main([*arguments, "--instances", str(photos / "instances.json")]) == 0
    told = capsys.readouterr().err
    assert "Left out: 3" in told and "1 x image that is not there" in told
    assert "missing.jpg" in told and "1 x mask that cannot be used" in told
    marker = json.loads((photos / "set" / "panoptic_dataset.json").read_text())
    assert marker["categories"] == [
        {"id": 2, "name": "apple", "isthing": 1},
        {"id": 3, "name": "floor", "isthing": 0},
    ]
    panoptic = json.loads((photos / "set" / "annotations" / "panoptic_train.json").read_text())
    (annotation,) = panoptic["annotations"]
    # No pixel is unlabeled: 12 of the apple, 36 of the floor.
    found = {s["category_id"]: s["area"] for s in annotation["segments_info"]}
    assert found == {2: 12, 3: 36}
    ids = read_panoptic_png(str(photos / "set" / "panoptic_train" / "a.png"))
    assert np.array_equal(ids == annotation["segments_info"][1]["id"], _MASK)


def _labelme(name, shapes):
    return {"imagePath": name, "imageHeight": 6, "imageWidth": 8, "shapes": shapes}


def test_labelme(photos):
    with io.BytesIO() as file:
        Image.fromarray(np.full((3, 4), 255, np.uint8)).save(file, format="PNG")
        png = base64.b64encode(file.getvalue()).decode()
    points = np.reshape(_POLYGON, (-1, 2)).tolist()
    halves = [[[2, 1], [4, 4]], [[4, 1], [6, 4]]]
    shapes = [
        {"label": "apple", "points": points, "shape_type": "polygon", "group_id": None},
        {"label": "pear", "points": [[2, 1], [6, 4]], "shape_type": "rectangle"},
        {"label": "pear", "points": [[2, 1], [5, 3]], "shape_type": "mask", "mask": png},
        *({"label": "pear", "points": h, "shape_type": "rectangle", "group_id": 4} for h in halves),
        {"label": "pear", "points": [[2, 1]], "shape_type": "point"},
        {"label": "pear", "points": [[2, 1], [3, 3]], "shape_type": "polygon"},
        {"points": points},
    ]
    (photos / "json").mkdir()
    (photos / "json" / "x.json").write_text(json.dumps(_labelme("..\\photos\\a.jpg", shapes)))
    (photos / "json" / "b.json").write_text(json.dumps(_labelme("/elsewhere/c.jpg", [])))
    omitted = Omissions()
    second, first = images_of_labelme(str(photos / "json"), str(photos / "photos"), omitted)
    assert (first.file_name, second.file_name) == ("a.jpg", "b.jpg")
    found = _masks(first)
    assert [name for name, _ in found] == ["apple", "pear", "pear", "pear"]
    assert all(np.array_equal(mask, _MASK) for _, mask in found)
    assert omitted.count("shape that cannot be used") == 2 and len(omitted) == 3
    assert "shapes[5] (pear): a point of 1 points has no area" in omitted.report()
    # Of one instance, but too far away to be joined to its mask.
    far = {"label": "pear", "points": [[0, 0], [1e9, 0], [0, 1]], "group_id": 1}
    (photos / "json" / "x.json").write_text(
        json.dumps(_labelme("a.jpg", [{**shapes[2], "group_id": 1}, far]))
    )
    _, image = images_of_labelme(str(photos / "json"), str(photos / "photos"), omitted)
    assert image.instances == [] and "x.json (pear): coordinates must be" in omitted.report()
    circle = {"label": "pear", "points": [[4, 3], [4, 1]], "shape_type": "circle"}
    (photos / "json" / "x.json").write_text(json.dumps(_labelme("a.jpg", [circle])))
    _, image = images_of_labelme(str(photos / "json"), str(photos / "photos"))
    # Of a disc of radius 2 around (4, 3): 4 pixels wide and high, about pi * 4 of them.
    mask = _masks(image)[0][1]
    assert 10 <= mask.sum() <= 14 and mask[1:5, 2:6].sum() == mask.sum()


def test_cvat(tmp_path):
    pairs = ";".join(f"{x},{y}" for x, y in np.reshape(_POLYGON, (-1, 2)))
    # In a box of 4 x 6 at (1, 2): one row outside, then three rows of four with two outside.
    runs = "6,4,2,4,2,4,2"
    text = f"""<?xml version="1.0"?><annotations><meta><task><labels>
      <label><name>pear</name></label><label><name>apple</name></label></labels></task></meta>
      <image id="0" name="sub\\a.jpg" width="8" height="6">
        <polygon label="apple" points="{pairs}" occluded="0"/>
        <mask label="pear" rle="{runs}" left="2" top="0" width="6" height="4"/>
        <polygon label="pear" points="2,1;4,1;4,4;2,4" group_id="1"/>
        <polygon label="pear" points="4,1;6,1;6,4;4,4" group_id="1"/>
        <box label="pear" xtl="1" ytl="1" xbr="2" ybr="2"/>
        <polygon label="pear" points="1,1;2,2"/>
        <mask label="pear" rle="5" left="0" top="0" width="2" height="2"/>
        <tag label="day"/>
      </image></annotations>"""
    (tmp_path / "cvat.xml").write_text(text)
    omitted = Omissions()
    (image,) = images_of_cvat(str(tmp_path / "cvat.xml"), omitted)
    assert image.file_name == "sub/a.jpg" and image.size == _SIZE
    found = _masks(image)
    assert [name for name, _ in found] == ["apple", "pear", "pear"]
    assert all(np.array_equal(mask, _MASK) for _, mask in found)
    assert (
        omitted.count("shape that cannot be used") == 3 and "a box is no mask" in omitted.report()
    )
    for broken in ("<annotations>", "<a/>", "<annotations/>"):
        (tmp_path / "cvat.xml").write_text(broken)
        with pytest.raises(ValueError, match="cvat.xml (is no XML|must)"):
            images_of_cvat(str(tmp_path / "cvat.xml"))


def test_yolo_segments(photos):
    categories = [{"id": 9, "name": "pear"}, {"id": 4, "name": "apple"}]
    parts = np.reshape(_POLYGON, (-1, 2)) / (8, 6)
    line = " ".join(["1", *(f"{value:.6f}" for value in parts.ravel())])
    lines = [line, "", "0 0.5 0.5 0.2 0.2", "0 0.1 0.1", "7 0 0 1 0 1 1", "x 1", "0 nan 0 1 0 1 1"]
    (photos / "labels").mkdir()
    (photos / "labels" / "a.txt").write_text("\n".join(lines))
    omitted = Omissions()
    images = images_of_yolo(str(photos / "labels"), str(photos / "photos"), categories, omitted)
    assert [len(image.instances) for image in images] == [1, 0]
    assert images[0].instances[0][0] == "apple"
    assert np.array_equal(_masks(images[0])[0][1], _MASK)
    kinds = ["instance without a mask (a box alone, or nothing)", "annotation of no category"]
    assert [omitted.count(kind) for kind in kinds] == [1, 1]
    assert omitted.count("line that is no polygon") == 3


def test_the_command_reads_each_of_them_with_their_own_classes(photos):
    content = _labelme("a.jpg", [{"label": "pear", "points": [[0, 0], [4, 0], [4, 3]]}])
    (photos / "json").mkdir()
    (photos / "json" / "a.json").write_text(json.dumps(content))
    (photos / "cvat.xml").write_text(
        '<annotations><image name="a.jpg" width="8" height="6">'
        '<polygon label="pear" points="0,0;4,0;4,3"/></image></annotations>'
    )
    (photos / "labels").mkdir()
    (photos / "labels" / "a.txt").write_text("0 0 0 0.5 0 0.5 0.5")
    (photos / "data.yaml").write_text("names: {0: pear}")
    areas = []
    for option, source in (("labelme", "json"), ("cvat", "cvat.xml"), ("yolo", "labels")):
        arguments = ["--name", "x", "--split", "train", "--images", str(photos / "photos")]
        arguments += ["--output", str(photos / option), f"--{option}", str(photos / source)]
        if option == "yolo":
            assert main(arguments) == 1
            arguments += ["--categories", str(photos / "data.yaml")]
        assert main(arguments) == 0
        content = json.loads((photos / option / "annotations" / "panoptic_train.json").read_text())
        assert content["categories"] == [{"id": 1, "name": "pear", "isthing": 1}]
        areas.append([s["area"] for s in content["annotations"][0]["segments_info"]])
    assert areas[0] == areas[1] == areas[2] and areas[0][0] > 0


def test_cityscapes_ids_and_suffixes(tmp_path):
    folder = tmp_path / "leftImg8bit" / "bonn"
    folder.mkdir(parents=True)
    Image.new("RGB", _SIZE[::-1]).save(folder / "bonn_1_leftImg8bit.png")
    values = np.full(_SIZE, 7, np.uint16)
    values[:2, :3], values[:2, 4:6], values[3, :2], values[5, 5] = 26000, 26001, 26, 0
    (tmp_path / "gtFine" / "bonn").mkdir(parents=True)
    Image.fromarray(values).save(tmp_path / "gtFine" / "bonn" / "bonn_1_gtFine_instanceIds.png")
    categories = [
        {"id": 7, "name": "road", "isthing": 0},
        {"id": 26, "name": "car", "isthing": 1},
    ]
    (tmp_path / "categories.json").write_text(json.dumps(categories))
    arguments = ["--name", "x", "--split", "val", "--images", str(tmp_path / "leftImg8bit")]
    arguments += ["--output", str(tmp_path / "set"), "--semantic", str(tmp_path / "gtFine")]
    arguments += ["--categories", str(tmp_path / "categories.json"), "--id-divisor", "1000"]
    arguments += ["--image-suffix", "_leftImg8bit.png", "--map-suffix", "_gtFine_instanceIds.png"]
    assert main(arguments) == 0
    content = json.loads((tmp_path / "set" / "annotations" / "panoptic_val.json").read_text())
    assert content["images"][0]["file_name"] == "bonn/bonn_1_leftImg8bit.png"
    segments = content["annotations"][0]["segments_info"]
    found = sorted((s["category_id"], s["iscrowd"], s["area"]) for s in segments)
    # The two cars have 6 and 4 pixels, the group 2; one pixel of 48 is unlabeled.
    assert found == [(7, 0, 35), (26, 0, 4), (26, 0, 6), (26, 1, 2)]


def test_an_image_or_a_mask_that_cannot_be_read_is_left_out_and_named(photos, capsys):
    (photos / "photos" / "._a.jpg").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    for name in ("c.jpg", "d.jpg"):
        Image.fromarray(np.random.randint(0, 255, (60, 80, 3), np.uint8)).save(
            photos / "photos" / name
        )
    whole = (photos / "photos" / "c.jpg").read_bytes()
    (photos / "photos" / "c.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "masks" / "d").mkdir(parents=True)
    (photos / "masks" / "d" / "apple.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    categories = [{"id": 1, "name": "apple", "isthing": 1}]
    (photos / "categories.json").write_text(json.dumps(categories))
    arguments = ["--name", "x", "--split", "train", "--images", str(photos / "photos")]
    arguments += ["--categories", str(photos / "categories.json")]
    arguments += ["--masks", str(photos / "masks"), "--output", str(photos / "set")]
    assert main(arguments) == 0
    told = capsys.readouterr().err
    assert "2 x image that cannot be read" in told
    assert "c.jpg cannot be read" in told and "apple.png cannot be read" in told
    content = json.loads((photos / "set" / "annotations" / "panoptic_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg"]
    for name in ("a.jpg", "b.jpg"):
        (photos / "photos" / name).write_bytes(b"")
    assert main(arguments) == 1
    assert "no image can be used" in capsys.readouterr().err


def test_polygons_of_stuff_lie_below_things(photos):
    whole = [[0, 0, 8, 0, 8, 6, 0, 6]]
    instances = [("apple", whole, False), ("sky", [_POLYGON], False), ("apple", [_POLYGON], False)]
    categories = [
        {"id": 1, "name": "apple", "isthing": 1},
        {"id": 5, "name": "sky", "isthing": 0},
    ]
    for order in (instances, instances[::-1]):
        image = AnnotatedImage("a.jpg", order, _SIZE, may_be_stuff=True)
        options = {"image_root": str(photos / "photos"), "categories": categories}
        convert_split(str(photos / "set"), "x", "train", [image], **options)
        panoptic = json.loads((photos / "set" / "annotations" / "panoptic_train.json").read_text())
        segments = panoptic["annotations"][0]["segments_info"]
        # The sky is smaller than the first apple, but below it, and hidden.
        assert [(s["category_id"], s["area"]) for s in segments] == [(1, 36), (1, 12)]
