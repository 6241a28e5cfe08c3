"""The rooms go the way of the model's record: a user's subclass goes its base's way."""

from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.utils import comm
from torch import nn

from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.engine.baselines import score_baselines
from deeplab2_d2.engine.evaluators import model_outputs
from deeplab2_d2.engine.loaders import build_test_loader, build_train_loader
from deeplab2_d2.engine.pictures import PredictionSheets
from deeplab2_d2.engine.testing import load_test_model
from deeplab2_d2.models import AveragedSegmenter
from deeplab2_d2.models.max_deeplab import RECORD, DeepLab2MaXDeepLab

FOLDER = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
CONFIG = str(FOLDER / "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml")
NARROW = [
    *("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.IMS_PER_BATCH", "1"),
]


class UsersMaXDeepLab(DeepLab2MaXDeepLab):
    """A user's variant."""


class UsersModel(nn.Module):
    """A user's model without a record."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


@pytest.fixture
def users(meta_architecture):
    meta_architecture(UsersMaXDeepLab)
    meta_architecture(UsersModel)


def config(name, *options):
    return load_config(CONFIG, [*NARROW, "MODEL.META_ARCHITECTURE", name, *options])


def test_a_subclass_is_trained_with_its_bases_targets(dataset, users):
    found, expected = (
        next(iter(build_train_loader(config(name, "SEED", "3"))))[0]
        for name in ("UsersMaXDeepLab", "DeepLab2MaXDeepLab")
    )
    assert {"thing_masks", "thing_classes"} <= set(found)
    assert found["file_name"] == expected["file_name"]
    for name in ("image", "sem_seg", "thing_masks", "thing_classes"):
        assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(expected[name]))


@pytest.mark.parametrize("name", ["UsersModel", "UsersMaXDeepLab"])
def test_no_model_has_a_sequence_cut_between_processes(dataset, users, monkeypatch, name):
    # Of five frames two processes get three and two, but four are of one sequence.
    frames = DatasetCatalog.get("shapes_panoptic_val")
    first = {k: v for k, v in frames[0].items() if k != "image_id"}
    frames = [{**first, "sequence": "one", "frame": k} for k in range(4)]
    frames += [{**first, "sequence": "two", "frame": 0}]
    DatasetCatalog.register("frames", lambda: frames)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    try:
        parts = []
        for rank in range(2):
            monkeypatch.setattr(comm, "get_rank", lambda: rank)
            loader = build_test_loader(config(name), "frames")
            parts.append([(s["sequence"], s["frame"]) for (s,) in loader])
    finally:
        DatasetCatalog.remove("frames")
        MetadataCatalog.pop("frames", None)
    assert parts == [[("one", 0), ("one", 1), ("one", 2), ("one", 3)], [("two", 0)]]


def test_a_subclass_has_its_bases_checks(users):
    with pytest.raises(ConfigError, match="POSTPROCESSING.MASK_MODE must be one of"):
        config("UsersMaXDeepLab", "MODEL.DEEPLAB2.POSTPROCESSING.MASK_MODE", "slotwise")
    # Of a model without a record nobody reads the key.
    config("UsersModel", "MODEL.DEEPLAB2.POSTPROCESSING.MASK_MODE", "slotwise")


def test_a_subclass_is_averaged_as_its_base(users):
    cfg = config("UsersMaXDeepLab", "TEST.AUG.ENABLED", "True")
    model = load_test_model(cfg, allow_random_weights=True)
    assert isinstance(model, AveragedSegmenter) and isinstance(model.first, UsersMaXDeepLab)
    assert model.averaging is RECORD.averaging
    with pytest.raises(ConfigError, match="TEST.AUG.ENABLED must be False.*'UsersModel'"):
        cfg = config("UsersModel", "TEST.AUG.ENABLED", "True")
        load_test_model(cfg, allow_random_weights=True)


def test_a_subclass_has_its_bases_oracle_and_a_model_without_a_record_none(dataset, users):
    name = "shapes_panoptic_val"
    expected = score_baselines(config("DeepLab2MaXDeepLab"), name)
    assert score_baselines(config("UsersMaXDeepLab"), name) == expected
    # Far above chance: it is ground truth.
    assert expected["oracle"]["PQ"] > 50 > expected["trivial"]["PQ"]
    assert set(score_baselines(config("UsersModel"), name)) == {"trivial"}


def test_a_subclass_has_its_bases_pictures_and_outputs(dataset, users):
    shared = ("image", "semantic", "panoptic")
    sheets = {
        name: PredictionSheets(config(name), "shapes_panoptic_val", 1)
        for name in ("UsersMaXDeepLab", "DeepLab2MaXDeepLab", "UsersModel")
    }
    assert sheets["UsersMaXDeepLab"].titles == sheets["DeepLab2MaXDeepLab"].titles
    assert len(sheets["UsersMaXDeepLab"].titles) > len(shared)
    assert sheets["UsersModel"].titles == shared
    assert model_outputs(config("UsersMaXDeepLab")) == model_outputs(config("DeepLab2MaXDeepLab"))


@pytest.mark.parametrize("name", ["SemanticSegmentor", "UsersModel"])
def test_a_model_without_a_mapper_keeps_detectron2s(dataset, users, name):
    cfg = config(name, "INPUT.CROP.ENABLED", "False", "INPUT.RANDOM_FLIP", "none")
    cfg.INPUT.MIN_SIZE_TRAIN = (cfg.INPUT.MIN_SIZE_TEST,)
    # Detectron2's mapper is asked itself: it shrinks to INPUT.MIN_SIZE_*, and makes no targets.
    trained = next(iter(build_train_loader(cfg)))[0]
    tested = next(iter(build_test_loader(cfg, "shapes_panoptic_val")))[0]
    for sample, dataset_name, is_train in (
        (trained, "shapes_panoptic_train", True),
        (tested, "shapes_panoptic_val", False),
    ):
        (record,) = [
            r for r in DatasetCatalog.get(dataset_name) if r["file_name"] == sample["file_name"]
        ]
        expected = DatasetMapper(cfg, is_train)(record)
        assert set(sample) == set(expected)
        assert torch.equal(sample["image"], expected["image"])
        assert sample["image"].dtype == torch.uint8
