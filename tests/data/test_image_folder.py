"""Datasets laid out as ImageNet is."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.data.image_folder import (
    load_image_folder,
    read_class_index,
    register_image_folder,
)


def write_images(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file)


@pytest.fixture
def folder(tmp_path):
    write_images(
        tmp_path, "train/dog/1.jpg", "train/cat/b.JPEG", "train/cat/a.png", "val/dog/more/2.jpg"
    )
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_folders_of_train_are_the_classes_in_order_of_their_names(folder):
    records = load_image_folder(str(folder), "train")
    assert [(r["image_id"], r["class_id"]) for r in records] == [
        ("train/cat/a.png", 0),
        ("train/cat/b.JPEG", 0),
        ("train/dog/1.jpg", 1),
    ]
    # A class that the other split lacks keeps its number.
    assert [r["class_id"] for r in load_image_folder(str(folder), "val")] == [1]


def test_a_class_index_says_order_and_names(folder, tmp_path):
    text, content = tmp_path / "index.txt", tmp_path / "index.json"
    text.write_text("dog a good dog\ncat\n")
    content.write_text(json.dumps({"1": ["cat", "cat"], "0": ["dog", "a good dog"]}))
    expected = (["dog", "cat"], ["a good dog", "cat"])
    assert read_class_index(str(text)) == read_class_index(str(content)) == expected
    assert [r["class_id"] for r in load_image_folder(str(folder), "train", str(text))] == [0, 1, 1]


def test_a_folder_that_comes_later_gives_its_classes_when_it_is_registered_again(tmp_path):
    names = register_image_folder("late_pets", str(tmp_path))
    try:
        assert names == ("late_pets_train", "late_pets_val")
        assert MetadataCatalog.get("late_pets_val").get("stuff_classes") is None
        write_images(tmp_path, "train/dog/1.jpg", "val/dog/2.jpg")
        register_image_folder("late_pets", str(tmp_path))
        assert MetadataCatalog.get("late_pets_val").stuff_classes == ["dog"]
        assert len(DatasetCatalog.get("late_pets_train")) == 1
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    "path, words",
    [
        ("val/3.jpg", "must be in a folder of its class"),
        ("val/bird/3.jpg", "must be a class of"),
    ],
)
def test_images_without_a_class_are_refused_by_name(folder, path, words):
    write_images(folder, path)
    with pytest.raises(ValueError, match=words) as error:
        load_image_folder(str(folder), "val")
    assert str(folder / "val") in str(error.value)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="train/<class>"):
        load_image_folder(str(tmp_path), "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="a folder for each class"):
        load_image_folder(str(tmp_path), "train")
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(ValueError, match="must have images"):
        load_image_folder(str(tmp_path), "train")


@pytest.mark.parametrize(
    "content, words",
    [
        ({"1": ["cat", "cat"]}, "without a gap"),
        ({"0": "cat"}, "got 'cat' for 0"),
        ({"0": ["cat", "a"], "1": ["cat", "b"]}, "distinct folders, got twice: .'cat'"),
    ],
)
def test_a_class_index_that_is_none_is_refused(tmp_path, content, words):
    path = tmp_path / "index.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_class_index(str(path))
