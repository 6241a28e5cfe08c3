"""MaX-DeepLab and kMaX-DeepLab through the trainer, the loaders and the evaluators."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator, inference_on_dataset

from deeplab2_d2.data.reading import read_image
from deeplab2_d2.engine import DeepLab2Trainer, load_config
from deeplab2_d2.engine.baselines import score_baselines
from deeplab2_d2.engine.loaders import build_test_loader, build_train_loader
from deeplab2_d2.engine.testing import evaluate, load_test_model
from deeplab2_d2.records import find_record

CONFIGS = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
MODELS = {
    "MaX": str(CONFIGS / "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"),
    "kMaX": str(CONFIGS / "kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml"),
}
NARROW = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "DATALOADER.NUM_WORKERS", "0"]

pytestmark = pytest.mark.slow


@pytest.fixture(params=MODELS)
def config(request):
    """Makes a narrow config of a model with more options."""
    return lambda *options: load_config(MODELS[request.param], [*NARROW, *map(str, options)])


def test_the_loader_numbers_the_things_of_an_image(config, dataset):
    sample, *_ = next(iter(build_train_loader(config("SOLVER.IMS_PER_BATCH", 1))))
    numbers = np.unique(sample["thing_masks"])
    count = int((sample["thing_classes"] >= 0).sum())
    assert numbers.tolist() == list(range(-1, count))
    # Every pixel of a thing has the class of the thing.
    is_thing = sample["thing_masks"] >= 0
    classes = sample["thing_classes"][sample["thing_masks"][is_thing].long()]
    assert torch.equal(classes, sample["sem_seg"][is_thing])


def pixels_of_classes(name):
    """Pixels of each class in the ground truth of a set, as (images, 7)."""
    counts = np.zeros((len(DatasetCatalog.get(name)), 7), int)
    for row, record in zip(counts, DatasetCatalog.get(name)):
        ids = read_image(record["pan_seg_file_name"], "RGB").astype(int) @ [1, 256, 65536]
        for segment in record["segments_info"]:
            row[segment["category_id"]] += (ids == segment["id"]).sum()
    return counts


@pytest.fixture
def sure_of_stuff(config, dataset, tmp_path):
    """Weights of a network of which all slots are the stuff class of most pixels; that class."""
    model = load_test_model(config(), allow_random_weights=True)
    things = model.inference.thing_ids
    stuff = [index for index in range(7) if index not in things]
    pixels = pixels_of_classes("shapes_panoptic_val").sum(0)
    most = max(stuff, key=lambda index: pixels[index])
    classes = model.head.transformer_class_head
    torch.nn.init.zeros_(classes.weight)
    # The channels of things are first.
    classes.bias.data[len(things) + stuff.index(most)] = 30.0
    weights = tmp_path / "weights.pth"
    torch.save({"model": model.state_dict()}, weights)
    options = ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path]
    # Slots share a pixel, so none is half sure of it.
    options += ["MODEL.DEEPLAB2.POSTPROCESSING.CONFIDENCE_THRESHOLDS", [0.7, 0.0]]
    return options, most


@pytest.mark.parametrize(
    "views, num_models",
    [
        ([], 1),
        (["TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", False, "TEST.DEEPLAB2.SCALES", [1.0]], 1),
        (["TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", True, "TEST.DEEPLAB2.SCALES", [1.0, 0.75]], 1),
        ([], 2),
    ],
    ids=["no averaging", "one view", "four views", "ensemble"],
)
def test_a_network_that_sees_one_stuff_class_everywhere_scores_what_that_map_scores(
    config, sure_of_stuff, views, num_models
):
    options, most = sure_of_stuff
    cfg = config(*options, *views)
    ensemble = [cfg.MODEL.WEIGHTS] * (num_models - 1)
    scores = evaluate(cfg, ensemble=ensemble)
    pixels = pixels_of_classes("shapes_panoptic_val")
    accuracy = 100 * pixels[:, most].sum() / pixels.sum()
    assert scores["sem_seg"]["pACC"] == pytest.approx(accuracy)
    assert scores["sem_seg"]["mIoU"] == pytest.approx(accuracy / (pixels.sum(0) > 0).sum())
    name = "shapes_panoptic_val"
    judge = COCOPanopticEvaluator(name)
    model = load_test_model(cfg, ensemble=ensemble)
    if views or ensemble:
        assert model.averaging is find_record(cfg).averaging
        assert model.flip == (views[3] if views else False)
        assert len(model.others) == num_models - 1
    expected = inference_on_dataset(model, build_test_loader(cfg, name), judge)
    # PQ of the one class: of images where it has more than half of the pixels, their overlaps.
    overlaps = pixels[:, most] / pixels.sum(1)
    found, present = overlaps > 0.5, pixels[:, most] > 0
    quality = overlaps[found].sum() / (
        found.sum() + 0.5 * (~found).sum() + 0.5 * (present & ~found).sum()
    )
    assert quality > 0
    num_stuff = 7 - len(MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id)
    in_truth = (pixels.sum(0) > 0)[-num_stuff:].sum()
    assert scores["panoptic_seg"]["PQ_st"] == pytest.approx(100 * quality / in_truth)
    for key, value in expected["panoptic_seg"].items():
        assert scores["panoptic_seg"][key] == pytest.approx(value), key


def test_the_oracle_is_nearly_perfect(config, dataset):
    scores = score_baselines(config(), "shapes_panoptic_val")
    # Masks at a quarter of the resolution lose borders, and things of a few pixels.
    assert scores["oracle"]["PQ"] > 75 > scores["trivial"]["PQ"]


def test_pictures_and_metrics_during_training(config, dataset, tmp_path):
    options = ["OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2]
    options += ["SOLVER.DEEPLAB2.LOG_PERIOD", 2, "DATASETS.TEST", "('shapes_panoptic_val',)"]
    trainer = DeepLab2Trainer(config(*options, "VIS_PERIOD", 2, "TEST.EVAL_PERIOD", 3))
    trainer.test = lambda *arguments: {}
    trainer.train()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    metrics = trainer.checkpointer.model.training_metrics
    # The four curves of the paper's Fig. 4 that come from training.
    assert set(metrics) == {
        "matched_class_confidence",
        "matched_mask_dice",
        "mask_id_accuracy",
        "instance_discrimination_accuracy",
    }
    for name, value in metrics.items():
        assert trainer.storage.history(name).values() == [(float(value), 1)]
