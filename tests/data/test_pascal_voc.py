"""PASCAL VOC 2012 and SBD: which images a split has, and whose labels."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from scipy.io import savemat

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.data.builtin import register_all, register_pascal_voc
from deeplab2_d2.data.pascal_voc import image_names, prepare_pascal_voc
from deeplab2_d2.evaluation.ground_truth import decode_semantic_map
from deeplab2_d2.models.deeplab.targets import build_mapper

# Of VOC's train and val, and of SBD's, which overlap.
LISTS = {
    "ImageSets/Segmentation/train.txt": ["a", "b"],
    "ImageSets/Segmentation/val.txt": ["c"],
    "benchmark_RELEASE/dataset/train.txt": ["b", "d"],
    "benchmark_RELEASE/dataset/val.txt": ["c", "e"],
}
# A border of void, as VOC has around objects; SBD has none.
VOC = np.array([[0, 0, 255, 15], [0, 0, 255, 15]], np.uint8)
SBD = np.array([[0, 20, 20, 20], [0, 20, 20, 20]], np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2012"
    for name, images in LISTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("".join(f"{image}\n" for image in images))
    for folder in ("JPEGImages", "SegmentationClass", "benchmark_RELEASE/dataset/cls"):
        (root / folder).mkdir()
    for image in "abcde":
        pixels = np.full((2, 4, 3), 90, np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{image}.jpg")
    for image in "abc":
        labels = Image.fromarray(VOC, mode="P")
        labels.putpalette(list(range(256)) * 3)
        labels.save(root / "SegmentationClass" / f"{image}.png")
    for image in "bcde":
        file = root / "benchmark_RELEASE" / "dataset" / "cls" / f"{image}.mat"
        savemat(str(file), {"GTcls": {"Segmentation": SBD, "CategoriesPresent": [20]}})
    return root


def test_train_aug_is_all_that_is_annotated_but_val(root: Path) -> None:
    assert image_names(str(root), "train") == ["a", "b"]
    assert image_names(str(root), "train_aug") == ["a", "b", "d", "e"]


@pytest.fixture
def train_aug(root: Path) -> Iterator[Tuple[CfgNode, List[Dict[str, Any]]]]:
    """A config of the registered split, and its dicts."""
    name = "pascal_voc_2012_train_aug"
    prepare_pascal_voc(str(root), "train_aug")
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    register_pascal_voc(str(root.parent))
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.DATASETS.TRAIN = (name,)
    cfg.INPUT.CROP.SIZE = [9, 9]
    yield cfg, DatasetCatalog.get(name)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    register_all()


def test_labels_are_vocs_where_there_are_any_else_sbds(train_aug: Any) -> None:
    found = [decode_semantic_map(r, ignore_label=255, ignore_crowd=True) for r in train_aug[1]]
    assert [labels.tolist() for labels in found] == [v.tolist() for v in (VOC, VOC, SBD, SBD)]


def test_classes_without_instances_can_be_learned(train_aug: Any) -> None:
    cfg, dicts = train_aug
    cfg.INPUT.DEEPLAB2.SCALES = [1.0, 1.0, 0.0]
    sample = build_mapper(cfg, True)(dicts[3])
    assert sample is not None
    values, counts = sample["sem_seg"].unique(return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist())) == {0: 2, 20: 6, 255: 81 - 8}


def test_a_label_that_voc_does_not_have_is_refused(root: Path) -> None:
    Image.fromarray(VOC + 6).save(root / "SegmentationClass" / "a.png")
    with pytest.raises(ValueError, match="annotation of a must have labels below 21 or 255"):
        prepare_pascal_voc(str(root), "train")
