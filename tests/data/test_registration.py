import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.data.builtin import (
    load_image_info,
    register_step,
    register_test_splits,
)
from deeplab2_d2.data.catalog import describe_missing
from deeplab2_d2.data.mapillary_vistas import mapillary_vistas_categories
from deeplab2_d2.data.panoptic_writer import PanopticWriter, Segment
from deeplab2_d2.data.registration import (
    load_panoptic_json,
    panoptic_metadata,
    register_own_datasets,
    register_panoptic_dataset,
)
from deeplab2_d2.data.shared_names import (
    is_registered,
    register_ade20k,
    register_mapillary_vistas,
)
from deeplab2_d2.structures import DatasetClasses

_CATEGORIES = [
    {"id": 8, "name": "table", "isthing": 0, "color": [1, 2, 3]},
    {"id": 3, "name": "apple", "isthing": 1},
]


@pytest.fixture
def registered():
    """Removes what a test registered, also names that exist for real."""
    before = {name: DatasetCatalog[name] for name in DatasetCatalog.list()}
    metadata = {name: MetadataCatalog.get(name) for name in MetadataCatalog.list()}
    yield
    for name in list(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
    for name in list(MetadataCatalog.list()):
        MetadataCatalog.remove(name)
    for name, function in before.items():
        DatasetCatalog.register(name, function)
    MetadataCatalog.update(metadata)


def _forget(*names):
    for name in names:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def _write_set(root, split, image_file="a/x.tif"):
    """One image of 2 x 3 with an apple on a table, the image in a folder and no JPEG."""
    (root / split / image_file).parent.mkdir(parents=True)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(root / split / image_file)
    writer = PanopticWriter(
        panoptic_root=str(root / f"panoptic_{split}"),
        panoptic_json=str(root / "annotations" / f"panoptic_{split}.json"),
        categories=_CATEGORIES,
    )
    apple = np.zeros((2, 3), bool)
    apple[0, 0] = True
    writer.add(image_file, (2, 3), [Segment(np.ones((2, 3), bool), 8), Segment(apple, 3)])
    return writer.close()


def test_contiguous_ids_are_the_places_in_the_list():
    metadata = panoptic_metadata(_CATEGORIES)
    assert metadata["stuff_classes"] == metadata["thing_classes"] == ["table", "apple"]
    assert metadata["thing_dataset_id_to_contiguous_id"] == {3: 1}
    assert metadata["stuff_dataset_id_to_contiguous_id"] == {8: 0}
    assert metadata["thing_colors"][0] == [1, 2, 3]


def test_missing_colors_are_made_up_and_distinct():
    categories = [{"id": k, "name": str(k), "isthing": 0} for k in range(150)]
    colors = panoptic_metadata(categories)["stuff_colors"]
    assert len({tuple(color) for color in colors}) == 150
    assert min(map(min, colors)) >= 0 and max(map(max, colors)) <= 255


@pytest.mark.parametrize(
    "categories, key",
    [
        ([], "id"),
        (_CATEGORIES + _CATEGORIES[:1], "id"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "name"),
    ],
)
def test_categories_must_be_distinct(categories, key):
    with pytest.raises(ValueError, match=f"distinct {key}s"):
        panoptic_metadata(categories)


def test_images_are_found_by_the_file_name_of_the_json(tmp_path):
    metadata = panoptic_metadata(_CATEGORIES)
    json_file = _write_set(tmp_path, "train")
    roots = str(tmp_path / "train"), str(tmp_path / "panoptic_train")
    (loaded,) = load_panoptic_json(json_file, *roots, metadata)
    assert loaded["file_name"] == str(tmp_path / "train" / "a" / "x.tif")
    assert loaded["pan_seg_file_name"] == str(tmp_path / "panoptic_train" / "a" / "x.png")
    assert (loaded["height"], loaded["width"], loaded["image_id"]) == (2, 3, 1)
    contiguous = [(s["category_id"], s["isthing"]) for s in loaded["segments_info"]]
    assert contiguous == [(0, False), (1, True)]


def test_an_unknown_category_and_a_missing_image_entry_are_named(tmp_path):
    json_file = _write_set(tmp_path, "train")
    roots = str(tmp_path / "train"), str(tmp_path / "panoptic_train")
    with pytest.raises(ValueError, match="a/x.png: segment .* has category id 3"):
        load_panoptic_json(json_file, *roots, panoptic_metadata(_CATEGORIES[:1]))
    content = json.loads(open(json_file).read())
    content["images"] = []
    open(json_file, "w").write(json.dumps(content))
    with pytest.raises(ValueError, match="a/x.png has image_id 1, which is not among"):
        load_panoptic_json(json_file, *roots, panoptic_metadata(_CATEGORIES))


def test_a_name_that_is_taken_is_left_alone(registered):
    function = DatasetCatalog["coco_2017_val_panoptic"]
    paths = {"image_root": "a", "panoptic_root": "b", "panoptic_json": "c"}
    register_panoptic_dataset("coco_2017_val_panoptic", panoptic_metadata(_CATEGORIES), **paths)
    assert DatasetCatalog["coco_2017_val_panoptic"] is function
    assert len(MetadataCatalog.get("coco_2017_val_panoptic").stuff_classes) == 133


def test_a_folder_with_a_marker_registers_its_splits(tmp_path, registered):
    _write_set(tmp_path / "my_fruit", "train")
    split = {"images": "train", "panoptic": "panoptic_train"}
    split["panoptic_json"] = "annotations/panoptic_train.json"
    marker = {"name": "fruit", "categories": _CATEGORIES, "splits": {"train": split}}
    (tmp_path / "my_fruit" / "panoptic_dataset.json").write_text(json.dumps(marker))
    (tmp_path / "other").mkdir()
    assert register_own_datasets(str(tmp_path)) == ["fruit_train"]
    (loaded,) = DatasetCatalog.get("fruit_train")
    assert loaded["file_name"] == str(tmp_path / "my_fruit" / "train" / "a" / "x.tif")
    assert MetadataCatalog.get("fruit_train").evaluator_type == "coco_panoptic_seg"


@pytest.mark.parametrize(
    "content, reason",
    [
        ("no json", "is no JSON"),
        ('{"name": "fruit"}', "must have 'name', 'categories' and 'splits'"),
        ("[]", "must have 'name', 'categories' and 'splits'"),
        ("[" * 100000, "is no JSON"),
        ('{"name": 3, "categories": [], "splits": {}}', "'name' must be a text, got 3"),
        ('{"name": "x", "categories": null, "splits": {}}', "'categories' must be a list"),
        ('{"name": "x", "categories": [7], "splits": {}}', r"'categories'\[0\] must be"),
        (
            '{"name": "x", "categories": [{"id": 1, "name": "a", "isthing": 1}], "splits": []}',
            "'splits' must be an object",
        ),
        (
            '{"name": "x", "categories": [{"id": 1, "name": "a", "isthing": 1}],'
            ' "splits": {"train": {"images": "i"}}}',
            "split 'train': 'panoptic' must be a path, got None",
        ),
        (None, "is no file"),
        ("x" * (2**24 + 1), "must have at most"),
    ],
)
def test_a_marker_that_is_wrong_is_named_and_told_to_who_asks(
    tmp_path, caplog, registered, content, reason
):
    _write_set(tmp_path / "sound", "train")
    split = {"images": "train", "panoptic": "p", "panoptic_json": "annotations/p.json"}
    sound = {"name": "sound", "categories": _CATEGORIES, "splits": {"train": split}}
    (tmp_path / "sound" / "panoptic_dataset.json").write_text(json.dumps(sound))
    marker = tmp_path / "fruit" / "panoptic_dataset.json"
    marker.parent.mkdir()
    if content is None:
        marker.symlink_to(tmp_path / "nowhere")
    else:
        marker.write_text(content)
    assert register_own_datasets(str(tmp_path)) == ["sound_train"]
    assert f"{marker} cannot be used" in caplog.text
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(describe_missing("fruit_train"))
    assert "near it are sound_train" in describe_missing("sound_trian")
    # Mended, it is forgotten.
    marker.unlink()
    marker.write_text(json.dumps({**sound, "name": "fruit"}))
    assert register_own_datasets(str(tmp_path)) == ["fruit_train", "sound_train"]
    assert str(marker) not in describe_missing("fruit_trian")


def test_two_folders_with_one_name_are_named(tmp_path, caplog, registered):
    split = {"images": "train", "panoptic": "p", "panoptic_json": "p.json"}
    marker = {"name": "twice", "categories": _CATEGORIES, "splits": {"train": split}}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "panoptic_dataset.json").write_text(json.dumps(marker))
    register_own_datasets(str(tmp_path))
    assert f"twice_train of {tmp_path}/b/panoptic_dataset.json is not registered" in caplog.text
    assert str(tmp_path / "a" / "p.json") in caplog.text


def _as_mask2former(name):
    """How Mask2Former registers a set: without asking, things alone in thing_classes."""
    DatasetCatalog.register(name, lambda: ["Mask2Former's"])
    metadata = MetadataCatalog.get(name)
    metadata.set(
        thing_classes=["bed", "car"],
        stuff_classes=["wall", "bed", "sky", "car"],
        thing_dataset_id_to_contiguous_id={7: 1, 20: 3},
        stuff_dataset_id_to_contiguous_id={0: 0, 7: 1, 2: 2, 20: 3},
        evaluator_type="ade20k_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
    )
    return metadata


def test_names_that_mask2former_registers_too_are_its_own_in_either_order(registered):
    names = [f"{s}_panoptic_{p}" for s in ("ade20k", "mapillary_vistas") for p in ("train", "val")]
    _forget(*names)
    for name in names:
        assert name not in DatasetCatalog.list()
        classes = DatasetClasses.from_metadata(_as_mask2former(name))
        assert classes.names == ("wall", "bed", "sky", "car") and classes.thing_ids == (1, 3)
        assert is_registered(name) and DatasetCatalog.get(name) == ["Mask2Former's"]
    _forget(*names)
    # Nobody registers it: ours is there when it is asked for.
    with pytest.raises(FileNotFoundError, match="ade20k_panoptic_val.json"):
        DatasetCatalog.get("ade20k_panoptic_val")
    assert len(MetadataCatalog.get("ade20k_panoptic_val").stuff_classes) == 150
    with pytest.raises(KeyError, match="not registered"):
        DatasetCatalog.get("ade20k_panoptic_test")


@pytest.mark.parametrize("name", ["../fruit", "/tmp/fruit", "fr\nuit"])
def test_a_name_that_would_lead_out_of_the_folder_of_results_is_refused(tmp_path, name, caplog):
    split = {"images": "train", "panoptic": "panoptic_train", "panoptic_json": "train.json"}
    marker = {"name": name, "categories": _CATEGORIES, "splits": {"train": split}}
    (tmp_path / "my_fruit").mkdir()
    (tmp_path / "my_fruit" / "panoptic_dataset.json").write_text(json.dumps(marker))
    assert register_own_datasets(str(tmp_path)) == []
    assert "panoptic_dataset.json cannot be used: names of images and sequences must" in caplog.text


def test_vistas_has_65_categories_of_which_37_are_things():
    categories = mapillary_vistas_categories()
    assert [c["id"] for c in categories] == list(range(1, 66))
    assert sum(c["isthing"] for c in categories) == 37


def test_ade20k_and_vistas_are_read_in_the_layout_of_their_releases(tmp_path, registered):
    names = [f"{s}_panoptic_{p}" for s in ("ade20k", "mapillary_vistas") for p in ("train", "val")]
    _forget(*names)
    vistas = tmp_path / "mapillary_vistas" / "validation"
    ade = tmp_path / "ADEChallengeData2016"
    for images, panoptic, json_file, category in (
        (vistas / "images", vistas / "panoptic", vistas / "panoptic" / "panoptic_2018.json", 20),
        (
            ade / "images" / "validation",
            ade / "ade20k_panoptic_val",
            ade / "ade20k_panoptic_val.json",
            7,
        ),
    ):
        images.mkdir(parents=True)
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(images / "x.jpg")
        writer = PanopticWriter(
            panoptic_root=str(panoptic),
            panoptic_json=str(json_file),
            categories=[{"id": category, "name": "thing", "isthing": 1}],
        )
        writer.add("x.jpg", (2, 2), [Segment(np.ones((2, 2), bool), category)], image_id="x")
        writer.close()
    register_ade20k(str(tmp_path))
    register_mapillary_vistas(str(tmp_path))
    for name, class_name, contiguous in (
        ("ade20k_panoptic_val", "bed", 7),
        ("mapillary_vistas_panoptic_val", "Person", 19),
    ):
        (loaded,) = DatasetCatalog.get(name)
        assert loaded["segments_info"][0]["category_id"] == contiguous
        assert MetadataCatalog.get(name).thing_classes[contiguous] == class_name
        assert Image.open(loaded["file_name"]).size == (2, 2)


def test_step_is_registered_with_its_classes_and_paths(tmp_path, registered):
    names = [
        f"{release}_panoptic_{split}"
        for release in ("kitti_step", "motchallenge_step")
        for split in ("train", "val", "trainval")
    ]
    _forget(*names)
    register_step(str(tmp_path))
    things = {"kitti_step": {11: 11, 13: 13}, "motchallenge_step": {4: 4}}
    for name in names:
        metadata, release = MetadataCatalog.get(name), name[: name.index("_panoptic")]
        assert metadata.thing_dataset_id_to_contiguous_id == things[release]
        assert metadata.panoptic_json == str(tmp_path / release / f"{name}.json")
        assert metadata.image_root == str(tmp_path / release)
        assert (metadata.ignore_label, metadata.label_divisor) == (255, 1000)
    colors = MetadataCatalog.get("motchallenge_step_panoptic_val").stuff_colors
    assert colors[0] == MetadataCatalog.get("kitti_step_panoptic_val").stuff_colors[1]


def test_test_splits_are_images_without_annotations(tmp_path, registered):
    names = ("cityscapes_fine_panoptic_test", "mapillary_vistas_panoptic_test")
    _forget(*names, "coco_2017_test-dev_panoptic")
    city = tmp_path / "cityscapes" / "leftImg8bit" / "test" / "bonn"
    vistas = tmp_path / "mapillary_vistas" / "testing" / "images"
    for file in (city / "bonn_1_2_leftImg8bit.png", vistas / "y.jpg"):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
    register_test_splits(str(tmp_path))
    loaded = [DatasetCatalog.get(name) for name in names]
    assert [[d["image_id"] for d in dicts] for dicts in loaded] == [["bonn_1_2"], ["y"]]
    metadata = MetadataCatalog.get("cityscapes_fine_panoptic_test")
    assert len(metadata.stuff_classes) == 19 and not metadata.has_ground_truth
    assert metadata.get("panoptic_json") is None
    with pytest.raises(FileNotFoundError, match="no image matches"):
        (vistas / "y.jpg").unlink()
        DatasetCatalog.get("mapillary_vistas_panoptic_test")


def test_coco_test_dev_is_listed_by_its_image_info(tmp_path):
    image = {"id": 4, "file_name": "4.jpg", "height": 2, "width": 3}
    (tmp_path / "info.json").write_text(json.dumps({"images": [image]}))
    (loaded,) = load_image_info(str(tmp_path / "info.json"), "/images")
    assert loaded == {"file_name": "/images/4.jpg", "image_id": 4, "height": 2, "width": 3}
