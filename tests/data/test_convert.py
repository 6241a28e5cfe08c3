import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from deeplab2_d2.data.annotated_images import AnnotatedImage
from deeplab2_d2.data.coco_source import images_of_coco_json
from deeplab2_d2.data.conversion import (
    convert_split,
    images_of_dataset,
)
from deeplab2_d2.data.convert import main
from deeplab2_d2.data.mask_files import decode_segmentation
from deeplab2_d2.data.mask_source import images_with_masks
from deeplab2_d2.structures import read_panoptic_png

_CATEGORIES = [
    {"id": 4, "name": "apple", "isthing": 1},
    {"id": 7, "name": "pear_tree", "isthing": 1},
    {"id": 9, "name": "table", "isthing": 0},
]
_SIZE = (4, 6)


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def _box(y0, y1, x0, x1):
    mask = np.zeros(_SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def photos(tmp_path):
    """One photo; the table is its lower half, with a stray pixel of class apple in the map."""
    _save(tmp_path / "photos" / "a.png", np.zeros((*_SIZE, 3)))
    semantic = np.where(_box(2, 4, 0, 6), 9, 0)
    semantic[0, 0] = 4
    _save(tmp_path / "maps" / "a.png", semantic)
    return tmp_path


def _convert(root, images, **arguments):
    convert_split(
        str(root / "set"),
        "fruit",
        "train",
        images,
        image_root=str(root / "photos"),
        categories=_CATEGORIES,
        **{"semantic_root": str(root / "maps"), **arguments},
    )
    content = json.loads((root / "set" / "annotations" / "panoptic_train.json").read_text())
    (annotation,) = content["annotations"]
    ids = read_panoptic_png(str(root / "set" / "panoptic_train" / "a.png"))
    classes = {s["id"]: s["category_id"] for s in annotation["segments_info"]}
    return annotation["segments_info"], np.vectorize(lambda i: classes.get(i, 0))(ids)


def test_things_lie_over_stuff_and_uncovered_things_of_the_map_are_void(photos):
    images = [AnnotatedImage("a.png", [("apple", _box(1, 3, 1, 3), False)])]
    segments, classes = _convert(photos, images)
    assert [s["category_id"] for s in segments] == [9, 4]
    assert classes.tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 4, 4, 0, 0, 0],
        [9, 4, 4, 9, 9, 9],
        [9, 9, 9, 9, 9, 9],
    ]


def test_a_small_instance_is_not_hidden_by_a_larger_one_whatever_the_order(photos):
    instances = [("apple", _box(0, 1, 0, 1), False), ("pear_tree", _box(0, 2, 0, 6), False)]
    for order in (instances, instances[::-1]):
        _, classes = _convert(photos, [AnnotatedImage("a.png", order)])
        assert classes[0].tolist() == [4, 7, 7, 7, 7, 7]


def test_crowds_keep_their_flag_in_both_annotations(photos):
    images = [AnnotatedImage("a.png", [("apple", _box(0, 1, 0, 3), True)])]
    segments, _ = _convert(photos, images)
    assert [s["iscrowd"] for s in segments] == [0, 1]
    instances = json.loads((photos / "set" / "annotations" / "instances_train.json").read_text())
    (annotation,) = instances["annotations"]
    assert (annotation["iscrowd"], annotation["category_id"], annotation["area"]) == (1, 4, 3)
    assert [c["id"] for c in instances["categories"]] == [4, 7]


def test_every_form_of_a_segmentation_gives_the_same_mask(tmp_path):
    mask = _box(1, 3, 2, 5)
    _save(tmp_path / "m.png", mask)
    compressed = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    # Columns first: 2 columns of 4, then 1 outside, 2 inside, and so on.
    counts = [9, 2, 2, 2, 2, 2, 5]
    for form in (
        mask,
        str(tmp_path / "m.png"),
        compressed,
        {"size": list(_SIZE), "counts": counts},
        [[2, 1, 5, 1, 5, 3, 2, 3]],
    ):
        assert np.array_equal(decode_segmentation(form, _SIZE), mask)


def test_mask_files_are_named_by_class_number_and_crowd(photos):
    for name in ("apple", "apple_2", "pear_tree_1", "apple_crowd", "pear_tree_crowd_3"):
        _save(photos / "masks" / "a" / f"{name}.png", _box(0, 1, 0, 1))
    (image,) = images_with_masks(str(photos / "photos"), str(photos / "masks"))
    assert [(name, is_crowd) for name, _, is_crowd in image.instances] == [
        ("apple", False),
        ("apple", False),
        ("apple", True),
        ("pear_tree", False),
        ("pear_tree", True),
    ]


def test_coco_instances_and_a_registered_dataset_give_the_same_set(photos):
    polygon = [[1, 1, 3, 1, 3, 3, 1, 3]]
    annotation = {"id": 1, "image_id": 5, "category_id": 2, "segmentation": polygon}
    content = {
        "images": [{"id": 5, "file_name": "a.png", "height": 4, "width": 6}],
        "annotations": [annotation],
        "categories": [{"id": 2, "name": "apple"}],
    }
    (photos / "instances.json").write_text(json.dumps(content))
    from_json = _convert(photos, images_of_coco_json(str(photos / "instances.json")))

    dataset_dict = {"file_name": str(photos / "photos" / "a.png"), "image_id": 5}
    boxed = {"category_id": 0, "segmentation": polygon, "bbox": [1, 1, 2, 2]}
    dataset_dict["annotations"] = [{**boxed, "bbox_mode": BoxMode.XYWH_ABS}]
    DatasetCatalog.register("test_fruit", lambda: [dataset_dict])
    MetadataCatalog.get("test_fruit").thing_classes = ["apple"]
    try:
        images = images_of_dataset("test_fruit", str(photos / "photos"))
        from_dataset = _convert(photos, images)
    finally:
        DatasetCatalog.remove("test_fruit")
        MetadataCatalog.remove("test_fruit")
    assert from_json[0] == from_dataset[0]
    assert np.array_equal(from_json[1], from_dataset[1]) and np.any(from_json[1] == 4)


def test_splits_share_one_marker_and_must_agree(photos):
    images = [AnnotatedImage("a.png")]
    arguments = {"image_root": str(photos / "photos"), "categories": _CATEGORIES}
    for split in ("train", "val"):
        convert_split(str(photos / "set"), "fruit", split, images, **arguments)
    marker = json.loads((photos / "set" / "panoptic_dataset.json").read_text())
    assert sorted(marker["splits"]) == ["train", "val"]
    assert marker["splits"]["val"]["images"] == "../photos"
    with pytest.raises(ValueError, match="name and categories must be the same"):
        convert_split(str(photos / "set"), "vegetables", "val", images, **arguments)


@pytest.mark.parametrize(
    "image, message",
    [
        (AnnotatedImage("b.png"), "image .*b.png does not exist"),
        (AnnotatedImage("a.png", [("plum", _box(0, 1, 0, 1), False)]), "a.png: .*'plum'.*'apple'"),
        (AnnotatedImage("a.png", [("table", _box(0, 1, 0, 1), False)]), "a.png: .*'table'"),
        (
            AnnotatedImage("a.png", [("apple", np.ones((2, 2)), False)]),
            r"mask apple must be of the size of its image .*a.png, \(4, 6\), got \(2, 2\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(photos, image, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _convert(photos, [image])


def test_a_semantic_map_of_another_size_or_missing_is_named(photos):
    _save(photos / "maps" / "a.png", np.zeros((2, 2)))
    with pytest.raises(
        ValueError, match=r"maps/a.png must be of the size of its image .*, \(4, 6\), got"
    ):
        _convert(photos, [AnnotatedImage("a.png")])
    (photos / "maps" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match="maps/a.png of .*a.png does not exist"):
        _convert(photos, [AnnotatedImage("a.png")])


def test_the_command_says_how_to_go_on_or_what_is_wrong(photos, capsys):
    (photos / "categories.json").write_text(json.dumps(_CATEGORIES))
    arguments = ["--name", "fruit", "--split", "train", "--output", str(photos / "set")]
    arguments += ["--categories", str(photos / "categories.json")]
    arguments += ["--semantic", str(photos / "maps")]
    assert main(arguments + ["--images", str(photos / "photos")]) == 0
    assert "deeplab2_d2.data.check fruit_train" in capsys.readouterr().out
    assert main(arguments + ["--images", str(photos / "maps" / "none")]) == 1
    assert "none" in capsys.readouterr().err


def _everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["{root}/photos/a.png", "../photos/a.png", "b/../../a.png", ""])
def test_a_name_that_leads_out_of_the_images_is_refused_before_anything_is_written(photos, name):
    before = _everything(photos)
    with pytest.raises(ValueError, match="must be relative to its folder and stay in it"):
        _convert(photos, [AnnotatedImage("a.png"), AnnotatedImage(name.format(root=photos))])
    assert _everything(photos) == before


@pytest.mark.parametrize("name", ["a\0.png", "a\n.png", "..\\a.png"], ids=ascii)
def test_a_name_that_cannot_be_printed_is_refused_before_anything_is_written(photos, name):
    before = _everything(photos)
    with pytest.raises(ValueError, match="in characters that can be printed"):
        _convert(photos, [AnnotatedImage("a.png"), AnnotatedImage(name)])
    assert _everything(photos) == before


@pytest.mark.parametrize("other", ["a.jpg", "A.png", "b/../a.png", "a.png"])
def test_two_images_never_share_an_annotation(photos, other):
    before = _everything(photos)
    with pytest.raises(ValueError, match=r"got a.png and .*both would have the annotation"):
        _convert(photos, [AnnotatedImage("a.png"), AnnotatedImage(other)])
    assert _everything(photos) == before


@pytest.mark.parametrize("linked", ["photos", "maps"])
def test_a_file_that_is_read_is_not_written_over(photos, linked):
    # The folder of the annotations is that of the inputs.
    (photos / "set").mkdir()
    (photos / "set" / "panoptic_train").symlink_to(photos / linked)
    before = _everything(photos)
    with pytest.raises(ValueError, match="--output must not lead to files that are read"):
        _convert(photos, [AnnotatedImage("a.png")])
    assert _everything(photos) == before


def test_the_instances_that_are_read_are_not_written_over(photos, capsys):
    source = photos / "set" / "annotations" / "instances_train.json"
    source.parent.mkdir(parents=True)
    categories = photos / "categories.json"
    categories.write_text(json.dumps(_CATEGORIES))
    image = {"id": 1, "file_name": "a.png"}
    source.write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    before = _everything(photos)
    arguments = ["--name", "fruit", "--split", "train", "--images", str(photos / "photos")]
    arguments += ["--categories", str(categories), "--instances", str(source)]
    assert main([*arguments, "--output", str(photos / "set")]) == 1
    assert "instances_train.json" in capsys.readouterr().err
    assert _everything(photos) == before


def test_a_png_that_no_conversion_wrote_is_not_written_over(photos):
    # The folder of the annotations is one of images: b.png is none of those listed.
    _save(photos / "photos" / "b.jpg", np.zeros((*_SIZE, 3)))
    _save(photos / "photos" / "b.png", np.ones((*_SIZE, 3)))
    (photos / "set" / "panoptic_train").mkdir(parents=True)
    (photos / "photos" / "b.png").rename(photos / "set" / "panoptic_train" / "b.png")
    before = _everything(photos)
    with pytest.raises(ValueError, match="files that no conversion wrote, .*panoptic_train/b.png"):
        _convert(photos, [AnnotatedImage("b.jpg")], semantic_root=None)
    assert _everything(photos) == before


@pytest.mark.parametrize("target", ["photos", "."])
def test_the_annotations_folder_is_not_one_that_is_read_nor_has_it_in_it(photos, target):
    # Nothing that is listed would be written over.
    _save(photos / "photos" / "b.jpg", np.zeros((*_SIZE, 3)))
    (photos / "set").mkdir()
    (photos / "set" / "panoptic_train").symlink_to(photos / target)
    before = _everything(photos)
    with pytest.raises(ValueError, match="--output must not lead to a folder that is read"):
        _convert(photos, [AnnotatedImage("b.jpg")], semantic_root=None)
    assert _everything(photos) == before


def test_an_annotation_that_no_conversion_wrote_is_not_written_over(photos):
    path = photos / "set" / "annotations" / "panoptic_train.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match="no conversion wrote, .*panoptic_train.json"):
        _convert(photos, [AnnotatedImage("a.png")])


def test_a_conversion_can_be_repeated_also_after_an_interruption(photos):
    first = _convert(photos, [AnnotatedImage("a.png")])
    for name in ("panoptic_dataset.json", "annotations/instances_train.json"):
        (photos / "set" / name).unlink()
    again = _convert(photos, [AnnotatedImage("a.png")])
    assert first[0] == again[0] and np.array_equal(first[1], again[1])


def test_what_an_earlier_version_wrote_may_be_written_over(photos):
    _convert(photos, [AnnotatedImage("a.png")])
    png = photos / "set" / "panoptic_train" / "a.png"
    Image.open(png).save(png)  # Without its text, as they had none.
    assert "Software" not in Image.open(png).info
    _convert(photos, [AnnotatedImage("a.png")])
    assert "Software" in Image.open(png).info


def test_a_marker_of_another_kind_is_named(photos):
    (photos / "set").mkdir()
    (photos / "set" / "panoptic_dataset.json").write_text("[]")
    with pytest.raises(ValueError, match="panoptic_dataset.json must have 'name'"):
        _convert(photos, [AnnotatedImage("a.png")])


def test_masks_are_read_whatever_the_case_of_their_ending(photos):
    _save(photos / "masks" / "a" / "apple.png", _box(0, 1, 0, 1))
    (photos / "masks" / "a" / "apple.png").rename(photos / "masks" / "a" / "apple.PNG")
    (photos / "masks" / "a" / "notes.txt").write_text("no mask")
    (image,) = images_with_masks(str(photos / "photos"), str(photos / "masks"))
    assert [(name, is_crowd) for name, _, is_crowd in image.instances] == [("apple", False)]


def test_masks_that_would_be_left_out_are_named(photos):
    _save(photos / "masks" / "a" / "apple.jpg", _box(0, 1, 0, 1))
    with pytest.raises(ValueError, match="masks must be PNGs .*a/apple.jpg"):
        images_with_masks(str(photos / "photos"), str(photos / "masks"))
    with pytest.raises(FileNotFoundError, match="there is none, such as .*maskz/a"):
        images_with_masks(str(photos / "photos"), str(photos / "maskz"))


def test_values_of_a_map_that_are_no_category_are_refused_with_their_share(photos):
    semantic = np.where(_box(2, 4, 0, 6), 250, 0)
    semantic[0, :3] = 150
    _save(photos / "maps" / "a.png", semantic)
    # 3 + 12 of 24 pixels.
    with pytest.raises(ValueError, match=r"a.png has values .*, \[150, 250\] on 62.5 % .*--unlab"):
        _convert(photos, [AnnotatedImage("a.png")])
    segments, classes = _convert(photos, [AnnotatedImage("a.png")], unlabeled=(0, 150, 250))
    assert segments == [] and not classes.any()


def test_masks_must_be_drawn_on_the_photo_as_it_is_read(photos):
    # Stored lying on its side, 6 x 4; upright it is 4 x 6.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", _SIZE).save(photos / "photos" / "a.png", exif=exif)
    upright = [("apple", _box(0, 2, 0, 3), False)]
    segments, classes = _convert(photos, [AnnotatedImage("a.png", upright)])
    assert classes.shape == _SIZE and segments[1]["bbox"] == [0, 0, 3, 2]
    message = r"mask apple must be of .*\(4, 6\), got \(6, 4\).*has an EXIF orientation"
    with pytest.raises(ValueError, match=message):
        _convert(photos, [AnnotatedImage("a.png", [("apple", _box(0, 2, 0, 3).T, False)])])
    # Polygons have no size of their own; the annotation tells it.
    polygon = [("apple", [[0, 0, 2, 0, 2, 4, 0, 4]], False)]
    with pytest.raises(ValueError, match="its annotation must be of .*EXIF orientation"):
        _convert(photos, [AnnotatedImage("a.png", polygon, size=(6, 4))])


def test_folders_of_masks_that_are_of_no_image_are_named(photos, caplog):
    _save(photos / "masks" / "a" / "apple.png", _box(0, 2, 0, 3))
    _save(photos / "masks" / "A_" / "apple.png", _box(0, 2, 0, 3))
    _save(photos / "photos" / "b.png", np.zeros((*_SIZE, 3)))
    images = images_with_masks(str(photos / "photos"), str(photos / "masks"))
    assert [len(image.instances) for image in images] == [1, 0]
    assert "1 masks of no image, which are not read: A_" in caplog.text
    assert "1 images without a folder of masks, which have no instance: b" in caplog.text
    _save(photos / "masks" / "a" / "pear.gif", _box(0, 2, 0, 3))
    with pytest.raises(ValueError, match="masks must be PNGs.*pear.gif"):
        images_with_masks(str(photos / "photos"), str(photos / "masks"))


def test_the_classes_of_a_registered_dataset_are_those_it_has_once_loaded(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "apple"}]}
    (tmp_path / "c.json").write_text(json.dumps(content))
    register_coco_instances("late_classes", {}, str(tmp_path / "c.json"), str(tmp_path))
    try:
        assert images_of_dataset("late_classes", str(tmp_path)) == []
        assert MetadataCatalog.get("late_classes").thing_classes == ["apple"]
    finally:
        DatasetCatalog.remove("late_classes")
        MetadataCatalog.remove("late_classes")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9, -1e9])
def test_a_polygon_that_would_end_the_process_is_told(photos, value):
    images = [AnnotatedImage("a.png", [("apple", [[0.0, 0.0, 5.0, 0.0, 5.0, value]], False)])]
    with pytest.raises(ValueError, match="a.png: instance of 'apple': coordinates must be from -6"):
        _convert(photos, images)
