"""A trained model travels: its checkpoint holds the classes of its dataset."""

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from deeplab2_d2.checkpoint import (
    DeepLab2Checkpointer,
    adopt_classes,
    classes_of_dataset,
    read_classes,
)
from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.data.registration import panoptic_metadata
from deeplab2_d2.engine.predictor import DeepLab2Predictor

_CATEGORIES = [
    {"id": 4, "name": "apple", "isthing": 1, "color": [1, 2, 3]},
    {"id": 9, "name": "table", "isthing": 0},
    {"id": 2, "name": "pear", "isthing": 1},
]
_NAME = "test_traveller_train"


@pytest.fixture
def known():
    """The metadata, where the model is trained; forgotten where the test says so."""
    metadata = panoptic_metadata(_CATEGORIES)
    MetadataCatalog.get(_NAME).set(**metadata, ignore_label=255, label_divisor=500)
    yield metadata
    for name in (_NAME, "test_traveller_val"):
        MetadataCatalog.pop(name, None)


def _config():
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2PanopticDeepLab"
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.DEEPLAB2.BACKBONE.NAME = "resnet_tiny"
    cfg.MODEL.DEVICE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "cpu", 3
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (_NAME,), ("test_traveller_val",)
    cfg.INPUT.FORMAT, cfg.INPUT.CROP.SIZE = "RGB", [33, 33]
    return cfg


@pytest.mark.parametrize("predictor", [DefaultPredictor, DeepLab2Predictor])
def test_config_and_weights_suffice_for_a_predictor(tmp_path, known, predictor):
    cfg = _config()
    model = build_model(cfg)
    classes = classes_of_dataset(_NAME)
    DeepLab2Checkpointer(model, str(tmp_path), classes=classes).save("model_final")
    MetadataCatalog.pop(_NAME)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    predictor = predictor(cfg)
    assert _NAME not in DatasetCatalog.list()
    assert predictor.metadata.stuff_classes == ["apple", "table", "pear"]
    assert predictor.metadata.thing_dataset_id_to_contiguous_id == {4: 0, 2: 2}
    assert predictor.metadata.stuff_colors == known["stuff_colors"]
    assert predictor.model.inference.thing_ids == (0, 2)
    assert predictor.model.inference.label_divisor == 500
    assert predictor(np.zeros((33, 33, 3), np.uint8))["panoptic_seg"][0].shape == (33, 33)


def test_weights_without_classes_are_told_with_the_name_of_the_dataset(tmp_path, known):
    cfg = _config()
    DeepLab2Checkpointer(build_model(cfg), str(tmp_path)).save("bare")
    assert read_classes(str(tmp_path / "bare.pth")) is None
    MetadataCatalog.pop(_NAME)
    cfg.MODEL.WEIGHTS = str(tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=f"{_NAME}. is not registered.*bare.pth.*do not hold its"):
        build_model(cfg)


def test_detectron2_leaves_the_classes_alone_and_known_datasets_keep_theirs(tmp_path, known):
    model = torch.nn.Linear(2, 2)
    classes = classes_of_dataset("coco_2017_val_panoptic")
    DeepLab2Checkpointer(model, str(tmp_path), classes=classes).save("model", iteration=3)
    path = str(tmp_path / "model.pth")
    rest = DetectionCheckpointer(torch.nn.Linear(2, 2)).load(path)
    assert rest["iteration"] == 3
    assert read_classes(path) == classes and len(classes["stuff_classes"]) == 133
    cfg = _config()
    cfg.MODEL.WEIGHTS = path
    adopt_classes(cfg)
    assert MetadataCatalog.get(_NAME).stuff_classes == ["apple", "table", "pear"]
    assert len(MetadataCatalog.get("test_traveller_val").stuff_classes) == 133


@pytest.mark.parametrize(
    "classes",
    [
        3,
        {"stuff_classes": "ab", "thing_dataset_id_to_contiguous_id": [1]},
        {"stuff_classes": ["a"], "thing_dataset_id_to_contiguous_id": {1: 0, 2: 1}},
        {"stuff_classes": [1], "thing_dataset_id_to_contiguous_id": {1: 0}},
        {},
    ],
)
def test_classes_that_are_none_are_refused(tmp_path, classes):
    path = str(tmp_path / "model.pth")
    torch.save({"model": {}, "dataset_classes": classes}, path)
    with pytest.raises(ValueError, match="dataset_classes must be the metadata of a dataset"):
        read_classes(path)
