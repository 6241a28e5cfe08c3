import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances
from PIL import Image

from deeplab2_d2.evaluation import (
    CityscapesInstanceSubmission,
    CityscapesMaskEvaluator,
    CityscapesSemanticEvaluator,
    CityscapesSemanticSubmission,
    GroundTruthPredictor,
    PanopticSubmission,
)

CITYSCAPES = "deeplab2_d2_tiny_cityscapes"
CLASSES = [
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
]
CAR, CAR_LABEL, ROAD_LABEL = 13, 26, 7


def test_panoptic_files_are_read_and_scored_by_panopticapi(tiny_dataset, tiny_records, tmp_path):
    evaluation = pytest.importorskip("panopticapi.evaluation")
    writer = PanopticSubmission(tiny_dataset, str(tmp_path), name="panoptic_val_test_results")
    writer.reset()
    for record in tiny_records:
        outputs = GroundTruthPredictor(num_classes=3, thing_ids={0, 2})([record])
        writer.process([record], outputs)
    assert writer.evaluate() == {}
    metadata = MetadataCatalog.get(tiny_dataset)
    predictions = tmp_path / "panoptic_val_test_results"
    with contextlib.redirect_stdout(io.StringIO()):
        scores = evaluation.pq_compute(
            metadata.panoptic_json,
            f"{predictions}.json",
            gt_folder=metadata.panoptic_root,
            pred_folder=str(predictions),
        )
    assert scores["All"]["pq"] == 1.0
    annotation = json.loads(Path(f"{predictions}.json").read_text())["annotations"][0]
    assert annotation == {
        "image_id": 1,
        "file_name": "one.png",
        "segments_info": [
            {"id": 1, "category_id": 7},
            {"id": 2, "category_id": 11},
            {"id": 3, "category_id": 12},
        ],
    }


@pytest.fixture
def cityscapes(tmp_path):
    """One 4 x 6 image in Cityscapes' layout: road, and a car in its right half."""
    folder = tmp_path / "gtFine" / "val" / "town"
    folder.mkdir(parents=True)
    labels = np.full((4, 6), ROAD_LABEL, np.uint8)
    labels[:, 3:] = CAR_LABEL
    Image.fromarray(labels).save(folder / "town_000001_000002_gtFine_labelIds.png")
    instances = labels.astype(np.int32)
    instances[:, 3:] = CAR_LABEL * 1000
    image = Image.fromarray(instances.astype(np.uint16))
    image.save(folder / "town_000001_000002_gtFine_instanceIds.png")
    DatasetCatalog.register(CITYSCAPES, lambda: [])
    MetadataCatalog.get(CITYSCAPES).set(thing_classes=CLASSES, gt_dir=str(folder.parent))
    yield CITYSCAPES
    DatasetCatalog.remove(CITYSCAPES)
    MetadataCatalog.remove(CITYSCAPES)


INPUT = {"file_name": "leftImg8bit/val/town/town_000001_000002_leftImg8bit.png"}


def _output(first_column):
    """Road, and a car from a column on."""
    semantic = torch.zeros(19, 4, 6)
    semantic[0] = 1.0
    semantic[CAR, :, first_column:] = 2.0
    instances = Instances((4, 6))
    instances.pred_masks = (semantic.argmax(0) == CAR)[None]
    instances.pred_classes = torch.tensor([CAR])
    instances.scores = torch.tensor([0.75])
    return {"sem_seg": semantic, "instances": instances}


def test_semantic_files_hold_label_ids(cityscapes, tmp_path):
    writer = CityscapesSemanticSubmission(cityscapes, str(tmp_path / "out"))
    writer.reset()
    writer.process([INPUT], [_output(3)])
    assert writer.evaluate() == {}
    (file,) = (tmp_path / "out").iterdir()
    assert file.name.startswith("town_000001_000002")
    expected = [[ROAD_LABEL] * 3 + [CAR_LABEL] * 3] * 4
    assert np.asarray(Image.open(file)).tolist() == expected


def test_instance_files_name_masks_label_ids_and_scores(cityscapes, tmp_path):
    writer = CityscapesInstanceSubmission(cityscapes, str(tmp_path / "out"))
    writer.reset()
    writer.process([INPUT], [_output(3)])
    writer.evaluate()
    (text,) = (tmp_path / "out").glob("town_000001_000002*.txt")
    mask, label, score = text.read_text().split()
    assert (label, float(score)) == (str(CAR_LABEL), 0.75)
    assert np.asarray(Image.open(text.parent / mask)).tolist() == [[0] * 3 + [255] * 3] * 4


@pytest.mark.parametrize("first_column, iou", [(3, 1.0), (4, (12 / 16 + 8 / 12) / 2)])
def test_cityscapes_scripts_score_semantic_predictions(cityscapes, first_column, iou):
    evaluator = CityscapesSemanticEvaluator(cityscapes)
    evaluator.reset()
    evaluator.process([INPUT], [_output(first_column)])
    assert evaluator.evaluate()["sem_seg"]["IoU"] == pytest.approx(100 * iou)


@pytest.mark.parametrize("first_column, average_precision", [(3, 100.0), (4, 40.0), (6, 0.0)])
def test_cityscapes_scripts_score_instances(
    cityscapes, first_column, average_precision, tmp_path, monkeypatch
):
    # IoU 8/12 is above the thresholds 0.5, 0.55, 0.6 and 0.65 of ten. Four pixels are too few for
    # Cityscapes (100), so the picture is enlarged.
    monkeypatch.chdir(tmp_path)
    folder = Path(MetadataCatalog.get(cityscapes).gt_dir) / "town"
    for file in folder.iterdir():
        Image.fromarray(np.asarray(Image.open(file)).repeat(10, 0).repeat(10, 1)).save(file)
    output = _output(first_column)["instances"]
    instances = Instances((40, 60), scores=output.scores, pred_classes=output.pred_classes)
    instances.pred_masks = output.pred_masks.repeat_interleave(10, 1).repeat_interleave(10, 2)
    evaluator = CityscapesMaskEvaluator(cityscapes)
    evaluator.reset()
    evaluator.process([INPUT], [{"instances": instances}])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(average_precision)
    assert not (tmp_path / "matches.json").exists()
