"""CamVid: what of SegNet's files becomes what, and whether it can be learned and evaluated."""

import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.data.builtin import register_all
from deeplab2_d2.data.camvid import CLASSES, SPLITS, load_camvid, prepare_camvid, register_camvid
from deeplab2_d2.evaluation import SemanticEvaluator
from deeplab2_d2.models.deeplab.targets import build_mapper

# Sky over road, a pedestrian, and void as SegNet has it.
LABELS = np.array([[0, 0, 0, 11], [3, 3, 9, 11]], np.uint8)
WITH_255 = [[0, 0, 0, 255], [3, 3, 9, 255]]


def write_split(root: Path, images: str, annotations: str, labels: np.ndarray) -> None:
    for folder in (images, annotations):
        (root / folder).mkdir(parents=True)
    # Names of the release; the order of the files is not that of the frames.
    for number, name in enumerate(("0016E5_08640", "0001TP_006690")):
        pixels = np.full((2, 4, 3), 60 + number, np.uint8)
        Image.fromarray(pixels).save(root / images / f"{name}.png")
        Image.fromarray(labels).save(root / annotations / f"{name}.png")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The folder CamVid of SegNet's repository."""
    for split in SPLITS:
        write_split(tmp_path / "CamVid", split, f"{split}annot", LABELS)
    return tmp_path / "CamVid"


def read(file: str) -> List[List[int]]:
    labels: List[List[int]] = np.asarray(Image.open(file)).tolist()
    return labels


def test_the_classes_are_segnets() -> None:
    # Names in the order of the labels: SegNet's paper, Fig. 4, and its repository's color bar.
    names = "sky building pole road pavement tree sign-symbol fence car pedestrian bicyclist"
    assert [name.replace(" ", "-") for name, _ in CLASSES] == names.split()
    # CamVid's own label_colors.txt.
    colors = dict(CLASSES)
    assert colors["road"] == (128, 64, 128) and colors["bicyclist"] == (0, 128, 192)
    assert len(set(colors.values())) == 11


def test_void_becomes_255_and_images_stay_byte_for_byte(clone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "camvid"
    annotations, count = prepare_camvid(str(clone), str(folder), "val")
    assert (annotations, count) == (str(folder / "annotations" / "val"), 2)
    dicts = load_camvid(str(folder), "val")
    assert [d["image_id"] for d in dicts] == ["0001TP_006690", "0016E5_08640"]
    assert [(d["height"], d["width"]) for d in dicts] == [(2, 4)] * 2
    assert [read(d["sem_seg_file_name"]) for d in dicts] == [WITH_255] * 2
    for d in dicts:
        image = Path(d["file_name"])
        assert image.read_bytes() == (clone / "val" / image.name).read_bytes()


def test_what_was_prepared_can_be_prepared_from(clone: Path, tmp_path: Path) -> None:
    prepare_camvid(str(clone), str(tmp_path / "camvid"), "test")
    annotations, count = prepare_camvid(str(tmp_path / "camvid"), str(tmp_path / "copy"), "test")
    assert count == 2
    assert read(f"{annotations}/0001TP_006690.png") == WITH_255


def test_what_is_missing_or_wrong_is_named(clone: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "camvid")
    with pytest.raises(ValueError, match="split must be one of .*got 'trainval'"):
        prepare_camvid(str(clone), folder, "trainval")
    with pytest.raises(ValueError, match="folder must be another than source"):
        prepare_camvid(str(clone), str(clone), "val")
    with pytest.raises(FileNotFoundError, match="must have valannot/ .*or annotations/val/"):
        prepare_camvid(str(clone.parent), folder, "val")
    wrong = clone / "valannot" / "0001TP_006690.png"
    Image.fromarray(LABELS + 1).save(wrong)
    with pytest.raises(ValueError, match=f"{wrong} must have labels below 11.*got 12"):
        prepare_camvid(str(clone), folder, "val")
    Image.fromarray(LABELS[:1]).save(wrong)
    with pytest.raises(ValueError, match=rf"{wrong} has size \(1, 4\), its image \(2, 4\)"):
        prepare_camvid(str(clone), folder, "val")
    wrong.unlink()
    with pytest.raises(FileNotFoundError, match=f"has no annotation {wrong}"):
        prepare_camvid(str(clone), folder, "val")
    shutil.rmtree(clone / "val")
    with pytest.raises(FileNotFoundError, match="has no image"):
        prepare_camvid(str(clone), folder, "val")


@pytest.fixture
def registered(clone: Path, tmp_path: Path) -> Iterator[str]:
    names = [f"camvid_sem_seg_{split}" for split in SPLITS]
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for split in SPLITS:
        prepare_camvid(str(clone), str(tmp_path / "camvid"), split)
    register_camvid(str(tmp_path))
    yield names[0]
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_all()


def config(name: str) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.DATASETS.TRAIN = (name,)
    cfg.INPUT.CROP.SIZE = [2, 4]
    cfg.INPUT.DEEPLAB2.SCALES = [1.0, 1.0, 0.0]
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def test_a_sample_has_the_labels_of_the_file(registered: str) -> None:
    mapper: Any = build_mapper(config(registered), True)
    for record in DatasetCatalog.get(registered):
        sample: Dict[str, Any] = mapper(record, np.random.default_rng(0))
        assert sample["sem_seg"].tolist() == WITH_255


def test_void_is_not_evaluated_and_absent_classes_are_not_counted(registered: str) -> None:
    evaluator = SemanticEvaluator(registered)
    # Road everywhere: right in 2 of the 6 labelled pixels of each image, so its IoU is 1/3; sky and
    # pedestrian have 0.
    for record in DatasetCatalog.get(registered):
        evaluator.process([record], [{"sem_seg": torch.full((2, 4), 3)}])
    found = (evaluator.evaluate() or {})["sem_seg"]
    assert found["mIoU"] == pytest.approx(100 / 9)
    assert found["IoU-road"] == pytest.approx(100 / 3)
    assert np.isnan(found["IoU-tree"])
