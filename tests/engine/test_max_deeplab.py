"""MaX-DeepLab through the trainer, the loaders and the evaluators."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage

from deeplab2_d2.engine import DeepLab2Trainer, load_config
from deeplab2_d2.engine.baselines import score_baselines
from deeplab2_d2.engine.loaders import build_train_loader
from deeplab2_d2.engine.pictures import PredictionSheets
from deeplab2_d2.engine.testing import evaluate, load_test_model
from deeplab2_d2.models.max_deeplab import RECORD

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation"
    / "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
NARROW = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "DATALOADER.NUM_WORKERS", "0"]

pytestmark = pytest.mark.slow


def config(*options):
    return load_config(CONFIG, [*NARROW, *map(str, options)])


def train(output, *options, steps=12):
    """Losses of a short training, by name."""
    options = [*options, "OUTPUT_DIR", output, "SOLVER.MAX_ITER", steps, "SOLVER.WARMUP_ITERS", 0]
    trainer = DeepLab2Trainer(config(*options, "SOLVER.IMS_PER_BATCH", 2, "DATASETS.TEST", ()))
    with EventStorage() as storage:
        for trainer.iter in range(steps):
            trainer._trainer.iter = trainer.iter
            trainer._trainer.run_step()
            storage.step()
        histories = {name: history.values() for name, history in storage.histories().items()}
    return {name: [value for value, _ in values] for name, values in histories.items()}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("SOLVER.AMP.ENABLED", True),
        ("SOLVER.DEEPLAB2.OPTIMIZER", "radam_lookahead", "SOLVER.WEIGHT_DECAY", 1e-4),
        ("MODEL.DEEPLAB2.BACKBONE.RESIDUAL.CHECKPOINTED_KINDS", ["axial", "transformer", "basic"]),
        ("MODEL.DEEPLAB2.LOSS.PQ_STYLE_SIMILARITY", "sum"),
        ("MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_SAMPLING", [256, 0.6]),
    ],
    ids=lambda options: " ".join(map(str, options)) or "default",
)
def test_a_training_with_the_option_lowers_the_loss(dataset, tmp_path, options):
    losses = train(tmp_path, *options)["total_loss"]
    assert min(losses[-3:]) < losses[0]


def test_the_loader_numbers_the_things_of_an_image(dataset):
    sample, *_ = next(iter(build_train_loader(config("SOLVER.IMS_PER_BATCH", 1))))
    numbers = np.unique(sample["thing_masks"])
    count = int((sample["thing_classes"] >= 0).sum())
    assert numbers.tolist() == list(range(-1, count))
    # Every pixel of a thing has the class of the thing.
    is_thing = sample["thing_masks"] >= 0
    classes = sample["thing_classes"][sample["thing_masks"][is_thing].long()]
    assert torch.equal(classes, sample["sem_seg"][is_thing])


def test_evaluation_averages_flips_and_scales(dataset, tmp_path):
    train(tmp_path, steps=2)
    weights = tmp_path / "weights.pth"
    plain = load_test_model(config())
    torch.save({"model": plain.state_dict()}, weights)
    augmented = config(
        *("MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path, "TEST.AUG.ENABLED", True),
        *("TEST.DEEPLAB2.SCALES", [1.0, 0.75]),
    )
    model = load_test_model(augmented)
    assert model.averaging is RECORD.averaging and model.flip
    scores = evaluate(augmented)
    assert {"panoptic_seg", "sem_seg", "segm"} <= set(scores)
    assert 0 <= scores["panoptic_seg"]["PQ"] <= 100


def test_one_view_scores_what_the_model_scores(dataset, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"model": load_test_model(config()).state_dict()}, weights)
    node = "MODEL.DEEPLAB2.POSTPROCESSING"
    # Every slot of an untrained network, whatever its class.
    options = [f"{node}.CONFIDENCE_THRESHOLDS", [0.0, 0.0]]
    options += ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path]
    plain = evaluate(config(*options))
    options += ["TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", False]
    averaged = evaluate(config(*options, "TEST.DEEPLAB2.SCALES", [1.0]))
    # Log-probabilities differ from the logits by a constant a pixel: only near-ties change.
    assert averaged["sem_seg"]["pACC"] == pytest.approx(plain["sem_seg"]["pACC"], abs=0.5)


def test_the_sheet_shows_slots_and_the_oracle_is_nearly_perfect(dataset, tmp_path):
    cfg = config()
    model = load_test_model(cfg)
    picture = PredictionSheets(cfg, "shapes_panoptic_val", 1).draw(model)
    assert picture.dtype == np.uint8 and picture.ndim == 3
    scores = score_baselines(cfg, "shapes_panoptic_val")
    # Masks at a quarter of the resolution lose borders, and things of a few pixels.
    assert scores["oracle"]["PQ"] > 75 > scores["trivial"]["PQ"]


def test_pictures_and_metrics_during_training(dataset, tmp_path):
    options = ["OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2]
    options += ["SOLVER.DEEPLAB2.LOG_PERIOD", 2]
    trainer = DeepLab2Trainer(config(*options, "VIS_PERIOD", 1, "TEST.EVAL_PERIOD", 0))
    trainer.train()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    # The four curves of the paper's Fig. 4 that come from training.
    for name in (
        "matched_class_confidence",
        "matched_mask_dice",
        "mask_id_accuracy",
        "instance_discrimination_accuracy",
    ):
        ((value, iteration),) = trainer.storage.history(name).values()
        assert 0 <= value <= 1 and iteration == 1
