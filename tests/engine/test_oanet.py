"""OANet goes the way of every model: data, training, checkpoint, evaluation."""

import json
import math
import re
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tiny_oanet import make_config

from deeplab2_d2.config import validate_config
from deeplab2_d2.data.builtin import register_all
from deeplab2_d2.data.shapes_layers import (
    ShapesLayersOptions,
    prepare_shapes_layers,
    register_shapes_layers,
)
from deeplab2_d2.engine import demo_ranking
from deeplab2_d2.engine.demo_arguments import parse_demo_arguments
from deeplab2_d2.engine.pictures import PredictionSheets
from deeplab2_d2.engine.rank_maps import TITLES
from deeplab2_d2.engine.trainer import DeepLab2Trainer
from deeplab2_d2.structures import read_panoptic_png
from deeplab2_d2.visualization.sheets import GAP, ROW_TITLE_WIDTH, TITLE_HEIGHT

ROOT = Path(__file__).parents[2]
NAMES = ("shapes_layers_train", "shapes_layers_val")


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = str(tmp_path_factory.mktemp("datasets"))
    prepare_shapes_layers(f"{folder}/shapes_layers", ShapesLayersOptions(num_train=12, num_val=2))
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_shapes_layers(folder)
    yield
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_all()


def config(folder: Path) -> CfgNode:
    cfg = make_config()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = NAMES[:1], NAMES[1:]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4, 7
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 4, 0
    cfg.SOLVER.DEEPLAB2.OPTIMIZER, cfg.SOLVER.DEEPLAB2.SCHEDULE = "sgd", "step"
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WARMUP_ITERS, cfg.SEED = 0.02, 0, 1
    cfg.OUTPUT_DIR = str(folder)
    return cfg


def test_it_trains_on_overlapping_instances_and_is_scored_on_each_output(
    layers: None, tmp_path: Path
) -> None:
    cfg = config(tmp_path)
    cfg.SOLVER.MAX_ITER = 2
    validate_config(cfg)
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = trainer._last_eval_results
    assert set(results) == {"sem_seg", "panoptic_seg", "segm"}
    assert 0 <= results["panoptic_seg"]["PQ"] <= 100
    assert (tmp_path / "model_final.pth").exists()


def test_the_ranking_module_alone_learns_from_overlapping_instances(
    layers: None, tmp_path: Path
) -> None:
    cfg = config(tmp_path)
    cfg.MODEL.DEEPLAB2.OANET.RANKING.ALONE = True
    torch.manual_seed(0)
    model = DeepLab2Trainer.build_model(cfg).train()
    batches = iter(DeepLab2Trainer.build_train_loader(cfg))
    optimizer = DeepLab2Trainer.build_optimizer(cfg, model)
    losses = []
    for _ in range(80):
        loss = model(next(batches))["loss_ranking"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # A pixel of a conflict has mostly two classes: log 2 without knowledge of which is on top.
    assert sum(losses[:10]) / 10 > 1.2
    assert sum(losses[-30:]) / 30 < math.log(2.0) - 0.05


def test_the_demo_learns_to_rank_and_paints_the_same_stuff_in_every_order(
    layers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    # The fixture's 14 images are those that the demo would draw first.
    monkeypatch.setattr(demo_ranking, "prepare_shapes_layers", lambda folder: None)
    options = {
        "OUTPUT_DIR": tmp_path,
        "INPUT.MIN_SIZE_TRAIN": (96,),
        "INPUT.MIN_SIZE_TEST": 96,
        "SOLVER.MAX_ITER": 40,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.BASE_LR": 0.01,
        # Nothing is sure after 40 steps.
        "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.0,
    }
    words = [str(word) for option in options.items() for word in option]
    args = parse_demo_arguments(None, str(ROOT / demo_ranking.CONFIG), "demo-oanet", words)
    scores = demo_ranking.main(args)
    assert list(scores) == ["detection", "module", "truth"]
    # Without an overlap threshold the order changes no pixel between things and stuff.
    assert len({each.quality["off"]["PQ_st"] for each in scores.values()}) == 1
    printed = capsys.readouterr().out
    for name in ("detection score", "ranking module", "true order"):
        assert re.search(rf"^{name} +\d+\.\d +\d+\.\d +\d+\.\d ", printed, re.MULTILINE)
    with Image.open(tmp_path / "ranking.png") as picture:
        # Two images; a cell of 256 x 192 for each column at least.
        assert picture.width >= 256 * len(TITLES) and picture.height >= 2 * 192
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    losses = [json.loads(line)["loss_ranking"] for line in lines if "loss_ranking" in line]
    # Medians of 20 steps each.
    assert len(losses) == 2 and losses[1] < losses[0] - 0.1


class Truth(torch.nn.Module):
    """A model of Detectron2's kind that returns the annotation."""

    def forward(self, samples: Any) -> Any:
        (sample,) = samples
        (record,) = [
            r for r in DatasetCatalog.get(NAMES[1]) if r["file_name"] == sample["file_name"]
        ]
        ids = read_panoptic_png(record["pan_seg_file_name"])
        classes = np.zeros(ids.shape, np.int64)
        for segment in record["segments_info"]:
            classes[ids == segment["id"]] = segment["category_id"]
        logits = torch.nn.functional.one_hot(torch.from_numpy(classes), 7).permute(2, 0, 1)
        return [{"sem_seg": logits, "panoptic_seg": (ids, record["segments_info"])}]


def test_a_sheet_of_a_model_without_raw_maps_shows_its_outputs_beside_the_truth(
    layers: None, tmp_path: Path
) -> None:
    picture = PredictionSheets(config(tmp_path), NAMES[1], num_images=1).draw(Truth())
    # Cells are 256 high; a prediction that is the truth is drawn as it.
    top, left, height = TITLE_HEIGHT + GAP, ROW_TITLE_WIDTH, 256
    truth, prediction = (picture[y : y + height] for y in (top, top + height + GAP))
    assert np.array_equal(truth[:, left:], prediction[:, left:])
    assert truth[:, left:].std() > 10
    # What differs is what is written at their left: "prediction" is the longer word.
    dark = [(row[:, :left] < 128).any(axis=(1, 2)).nonzero()[0] for row in (truth, prediction)]
    assert np.ptp(dark[0]) > 10 and np.ptp(dark[1]) > 1.5 * np.ptp(dark[0])


def test_a_sheets_legend_has_the_classes_that_are_in_it(layers: None, tmp_path: Path) -> None:
    picture = PredictionSheets(config(tmp_path), NAMES[1], num_images=1).draw(Truth())
    legend = picture[TITLE_HEIGHT + 3 * GAP + 2 * 256 :]
    record = DatasetCatalog.get(NAMES[1])[0]
    present = {segment["category_id"] for segment in record["segments_info"]}
    colors = MetadataCatalog.get(NAMES[1]).stuff_colors
    found = {k for k, color in enumerate(colors) if (legend == color).all(axis=-1).any()}
    assert found == present and 1 < len(present) < 7
