"""Training and evaluation of the models of videos, by the trainer of all models."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, load_config
from deeplab2_d2.engine.testing import load_test_model
from deeplab2_d2.engine.track_baselines import predict_frames, score_mean_depth, score_numberings
from deeplab2_d2.structures import read_depth

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "ShapesVideo-PanopticSegmentation"
MODELS = ("motion", "vip")


def config(model, folder, *options):
    return load_config(
        str(CONFIGS / f"{model}_deeplab_tiny_os16_poly_bs8_crop_129_257.yaml"),
        [
            *("INPUT.CROP.SIZE", "[65, 129]", "SOLVER.IMS_PER_BATCH", "2"),
            *("SOLVER.DEEPLAB2.ACCUMULATION_STEPS", "2", "DATALOADER.NUM_WORKERS", "0"),
            *("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.WARMUP_ITERS", "0"),
            *("OUTPUT_DIR", str(folder)),
            *map(str, options),
        ],
    )


def train(cfg, *, resume=False):
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    losses = {n: h.values() for n, h in trainer.storage.histories().items() if "loss" in n}
    return trainer, losses


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_training_repeats_the_uninterrupted_one(model, video_dataset, tmp_path):
    whole, losses = train(config(model, tmp_path / "whole"))
    names = {"motion": {"loss_motion"}, "vip": {"loss_next_offset", "loss_depth"}}[model]
    assert names < losses.keys() and all(np.isfinite(v) for h in losses.values() for v, _ in h)
    interrupted = config(model, tmp_path / "parts")
    # As if it had been stopped: the checkpoint of the second iteration is the last one.
    parts = tmp_path / "parts"
    parts.mkdir()
    checkpoint = "model_0000001.pth"
    (parts / checkpoint).write_bytes((tmp_path / "whole" / checkpoint).read_bytes())
    (parts / "last_checkpoint").write_text(checkpoint)
    resumed, rest = train(interrupted, resume=True)
    for name, history in rest.items():
        assert history == losses[name][2:], name
    state, again = (t.checkpointer.model.state_dict() for t in (whole, resumed))
    assert all(torch.equal(value, again[name]) for name, value in state.items())


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_an_evaluation_scores_frames_and_videos_and_depth(model, video_dataset, tmp_path):
    trainer, _ = train(config(model, tmp_path, "SOLVER.MAX_ITER", 30, "SOLVER.BASE_LR", 0.01))
    results = trainer._last_eval_results
    assert {"sem_seg", "panoptic_seg", "segm", "stq", "vpq"} <= results.keys()
    assert ({"depth", "dvpq", "dstq"} <= results.keys()) == (model == "vip")
    # Numbers of tracks do not matter in a single frame; the frames are scored by panopticapi.
    assert results["vpq"]["VPQ-1"] == pytest.approx(results["panoptic_seg"]["PQ"], abs=1e-6)
    assert results["panoptic_seg"]["PQ"] > 5
    # The demo's way to the same numbers, beside which others are put.
    cfg = config(model, tmp_path, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth"))
    name = cfg.DATASETS.TEST[0]
    scores = score_numberings(predict_frames(cfg, load_test_model(cfg), name), name, lambda s: s)
    for task, values in scores["model", ""].items():
        assert values == pytest.approx(results[task], nan_ok=True), task
    sequences = {group for _, group in scores} - {""}
    assert len(sequences) == 2
    for sequence in sequences:
        own = scores["model", sequence]["stq"]["STQ"]
        assert own == pytest.approx(results["stq"][f"STQ-{sequence}"])
    # How instances are numbered says nothing about classes.
    assert {group["stq"]["SQ"] for (_, which), group in scores.items() if not which} == {
        results["stq"]["SQ"]
    }


def test_a_mean_depth_is_that_of_the_frames_it_was_taken_from(video_dataset):
    from detectron2.data import DatasetCatalog

    train_name, test_name = video_dataset
    depths = [read_depth(r["depth_file_name"]) for r in DatasetCatalog.get(train_name)]
    known = np.concatenate([depth[depth > 0] for depth in depths]).astype(np.float64)
    expected = []
    for record in DatasetCatalog.get(test_name):
        truth = read_depth(record["depth_file_name"])
        expected.append(np.abs(truth[truth > 0] - known.mean()) / truth[truth > 0])
    errors = score_mean_depth(train_name, test_name)
    mean = np.mean([error.mean() for error in expected])
    assert errors["mean"]["AbsErrorRel"] == pytest.approx(mean, rel=1e-5)
    assert errors["mean of each pixel"]["AbsErrorRel"] < errors["mean"]["AbsErrorRel"]


def test_a_model_of_images_is_scored_with_a_tracker(video_dataset, tmp_path):
    image_model = ["MODEL.META_ARCHITECTURE", "DeepLab2PanopticDeepLab"]
    cfg = config("vip", tmp_path, *image_model, "TEST.DEEPLAB2.TRACKER", "overlap")
    torch.manual_seed(1)
    model = DeepLab2Trainer.build_model(cfg)
    model.head.center_head.final_conv.bias.data.fill_(0.11)
    results = DeepLab2Trainer.test(cfg, model)
    name = cfg.DATASETS.TEST[0]
    scores = score_numberings(predict_frames(cfg, model, name), name, lambda s: s)
    assert ("model", "") not in scores
    for task in ("stq", "vpq"):
        assert results[task] == pytest.approx(scores["overlap", ""][task], nan_ok=True)
    with pytest.raises(ConfigError, match="TRACKER must be 'none' for a model that .*track"):
        DeepLab2Trainer.test(config("vip", tmp_path, "TEST.DEEPLAB2.TRACKER", "flow"), model)
