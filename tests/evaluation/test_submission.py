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
from deeplab2_d2.structures import read_panoptic_png

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


def _output_of_id(number, shape=(2, 2)):
    ids = torch.full(shape, number, dtype=torch.int32)
    return {"panoptic_seg": (ids, [{"id": number, "category_id": 1, "isthing": False}])}


def _submit(dataset, folder, number, stop=None):
    """Predict the same segment id for three images, or stop before one of them."""
    pytest.importorskip("panopticapi")
    writer = PanopticSubmission(dataset, str(folder), name="results")
    writer.reset()
    for k in range(3):
        if k == stop:
            return
        inputs = [{"file_name": f"{k}.jpg", "image_id": k}]
        writer.process(inputs, [_output_of_id(number)])
    writer.evaluate()


def _ids_of(folder):
    return {
        path.name: np.unique(read_panoptic_png(str(path))).tolist()
        for path in (folder / "results").iterdir()
    }


def test_an_interrupted_run_leaves_the_files_of_the_run_before(tiny_dataset, tmp_path):
    _submit(tiny_dataset, tmp_path, 1)
    before = (tmp_path / "results.json").read_text()
    _submit(tiny_dataset, tmp_path, 2, stop=1)
    assert _ids_of(tmp_path) == {"0.png": [1], "1.png": [1], "2.png": [1]}
    assert (tmp_path / "results.json").read_text() == before
    _submit(tiny_dataset, tmp_path, 3)
    assert _ids_of(tmp_path) == {"0.png": [3], "1.png": [3], "2.png": [3]}
    assert not list(tmp_path.glob("results.partial*"))


def test_what_the_run_before_wrote_is_removed_and_nothing_else(tiny_dataset, tmp_path):
    _submit(tiny_dataset, tmp_path, 1)
    (tmp_path / "results" / "notes.txt").write_text("mine")
    writer = PanopticSubmission(tiny_dataset, str(tmp_path), name="results")
    writer.reset()
    writer.process([{"file_name": "other.jpg", "image_id": 0}], [_output_of_id(1)])
    writer.evaluate()
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["notes.txt", "other.png"]


def test_two_images_of_one_png_are_both_named(tiny_dataset, tmp_path):
    pytest.importorskip("panopticapi")
    writer = PanopticSubmission(tiny_dataset, str(tmp_path), name="results")
    writer.reset()
    writer.process([{"file_name": "a/x.jpg", "image_id": 0}], [_output_of_id(1)])
    with pytest.raises(ValueError, match="got a/x.jpg and b/X.png: both .* prediction X.png"):
        writer.process([{"file_name": "b/X.png", "image_id": 1}], [_output_of_id(1)])


@pytest.mark.parametrize("submission", ["panoptic", "semantic", "instance"])
def test_a_dataset_with_two_images_of_one_png_is_refused_before_any_work(
    tiny_dataset, tmp_path, submission
):
    pytest.importorskip("panopticapi")
    DatasetCatalog.remove(tiny_dataset)
    DatasetCatalog.register(tiny_dataset, lambda: [{"file_name": n} for n in ("a/x.jpg", "X.png")])
    folder = str(tmp_path / "results")
    writer = {
        "panoptic": lambda: PanopticSubmission(tiny_dataset, str(tmp_path), name="results"),
        "semantic": lambda: CityscapesSemanticSubmission(tiny_dataset, folder),
        "instance": lambda: CityscapesInstanceSubmission(tiny_dataset, folder),
    }[submission]()
    with pytest.raises(ValueError, match="got a/x.jpg and X.png"):
        writer.reset()
    assert not list(tmp_path.glob("results*"))


def test_negative_ids_are_refused(tiny_dataset, tmp_path):
    pytest.importorskip("panopticapi")
    writer = PanopticSubmission(tiny_dataset, str(tmp_path), name="results")
    writer.reset()
    with pytest.raises(ValueError, match=r"a/x.jpg: segment ids must be in .* got -1"):
        writer.process([{"file_name": "a/x.jpg", "image_id": 0}], [_output_of_id(-1)])


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


def test_an_interrupted_run_leaves_the_semantic_files_of_the_run_before(cityscapes, tmp_path):
    for column, is_interrupted in ((3, False), (4, True)):
        writer = CityscapesSemanticSubmission(cityscapes, str(tmp_path / "out"))
        writer.reset()
        writer.process([INPUT], [_output(column)])
        if not is_interrupted:
            writer.evaluate()
    (file,) = (tmp_path / "out").iterdir()
    assert (np.asarray(Image.open(file)) == CAR_LABEL).sum() == 12


def test_a_run_of_fewer_images_leaves_no_file_of_the_run_before(cityscapes, tmp_path):
    other = {"file_name": INPUT["file_name"].replace("000001", "000009")}
    for inputs in ([INPUT, other], [other]):
        writer = CityscapesInstanceSubmission(cityscapes, str(tmp_path / "out"))
        writer.reset()
        writer.process(inputs, [_output(3)] * len(inputs))
        writer.evaluate()
        if len(inputs) > 1:
            (tmp_path / "out" / "notes.txt").write_text("mine")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    stem = "town_000009_000002_leftImg8bit"
    assert names == ["notes.txt", f"{stem}_0_car.png", f"{stem}_pred.txt"]


@pytest.mark.parametrize("content", ['["../x.png"]', '["/x.png"]', "{", "[1]"])
def test_a_list_of_files_that_no_run_has_written_is_refused(cityscapes, tmp_path, content):
    (tmp_path / "out.files.json").write_text(content)
    writer = CityscapesSemanticSubmission(cityscapes, str(tmp_path / "out"))
    with pytest.raises(ValueError, match="out.files.json must list the files"):
        writer.reset()


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
