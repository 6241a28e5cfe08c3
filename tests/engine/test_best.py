"""The best checkpoint, and the end of a training that has become no better."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import scripted_training
import torch
from scripted_training import train

from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, load_config
from deeplab2_d2.engine.preflight import check_run
from deeplab2_d2.engine.testing import load_model

ROOT = Path(__file__).resolve().parents[2]


def read(folder, name="model_best.pth"):
    return torch.load(folder / name, weights_only=False)


def is_equal(weights, expected):
    return all(torch.equal(weights[name], value) for name, value in expected.items())


def test_the_file_holds_the_weights_of_the_best_evaluation_and_no_run_resumes_from_it(
    dataset, tmp_path
):
    # The first of equal ones is the best; what is no number is none.
    trained = train(tmp_path, [1.0, 3.0, 3.0, float("nan"), 2.0], "SOLVER.MAX_ITER", 5)
    best = read(tmp_path)
    assert best["iteration"] == 1
    assert is_equal(best["model"], trained.seen[2])
    assert not is_equal(best["model"], trained.seen[3])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    # The evaluation after the last step counts, too.
    train(tmp_path, [1.0, 3.0, 4.0], "SOLVER.MAX_ITER", 3)
    assert read(tmp_path)["iteration"] == 2


def test_less_is_better_with_a_minus(dataset, tmp_path):
    options = ("SOLVER.DEEPLAB2.BEST_METRIC", "-panoptic_seg/PQ", "SOLVER.MAX_ITER", 3)
    train(tmp_path, [2.0, 1.0, 3.0], *options)
    assert read(tmp_path)["iteration"] == 1


def test_a_training_ends_after_its_patience_with_a_final_checkpoint_and_its_results(
    dataset, tmp_path, caplog
):
    with caplog.at_level(logging.INFO, logger="deeplab2_d2.engine.best"):
        trained = train(tmp_path, [1.0, 2.0, 1.5, 1.9, 9.0], "SOLVER.DEEPLAB2.PATIENCE", 2)
    # Of eight steps four: two evaluations after the best one.
    assert sorted(trained.seen) == [1, 2, 3, 4]
    final = read(tmp_path, "model_final.pth")
    assert final["iteration"] == 3 and is_equal(final["model"], trained.seen[4])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert "ends after 4 iterations" in caplog.text and "was best after 2" in caplog.text
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [row["panoptic_seg/PQ"] for row in rows if "panoptic_seg/PQ" in row][-1] == 1.9
    # Resumed, it has ended; with more patience it goes on where it was.
    assert train(tmp_path, [], "SOLVER.DEEPLAB2.PATIENCE", 2, resume=True).seen == {}
    script = [0.0] * 4 + [1.7]
    trained = train(tmp_path, script, "SOLVER.DEEPLAB2.PATIENCE", 3, resume=True)
    assert sorted(trained.seen) == [5]
    assert read(tmp_path)["iteration"] == 1


def test_a_resumed_run_knows_what_was_best_though_its_checkpoint_is_older(dataset, tmp_path):
    options = ("SOLVER.DEEPLAB2.PATIENCE", 3)
    with pytest.raises(KeyError):  # killed in the fifth evaluation; the last checkpoint is of 3
        train(tmp_path, [1.0, 2.0, 1.0, 5.0], *options)
    assert read(tmp_path)["iteration"] == 3
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    best = (tmp_path / "model_best.pth").read_bytes()
    # The fourth comes again, and is no evaluation more.
    script = [0.0] * 3 + [5.0, 4.0, 4.9, 4.0]
    trained = train(tmp_path, script, *options, resume=True)
    assert sorted(trained.seen) == [4, 5, 6, 7]
    assert (tmp_path / "model_best.pth").read_bytes() == best


def test_another_run_in_the_folder_and_another_metric_begin_anew(dataset, tmp_path, caplog):
    options = ("SOLVER.MAX_ITER", 2)
    train(tmp_path, [5.0, 6.0], *options)
    train(tmp_path, [1.0, 0.5], *options)
    assert read(tmp_path)["iteration"] == 0
    options = ("SOLVER.MAX_ITER", 3, "SOLVER.DEEPLAB2.BEST_METRIC", "panoptic_seg/SQ")
    with caplog.at_level(logging.WARNING, logger="deeplab2_d2.engine.best"):
        train(tmp_path, [0.0, 0.0, 0.0], *options, resume=True)
    assert "begins anew" in caplog.text and read(tmp_path)["iteration"] == 2


def test_the_average_is_what_was_evaluated_and_what_the_file_gives(dataset, tmp_path):
    average = ("SOLVER.DEEPLAB2.EMA_DECAY", 0.5)
    trained = train(tmp_path, [1.0, 2.0, 0.0], "SOLVER.MAX_ITER", 3, *average)
    best = read(tmp_path)
    assert is_equal(best["average"], trained.seen[2])
    assert not is_equal(best["model"], trained.seen[2])
    options = [*scripted_training.OPTIONS, *map(str, average), "OUTPUT_DIR", str(tmp_path)]
    options += ["MODEL.WEIGHTS", str(tmp_path / "model_best.pth")]
    model = load_model(load_config(scripted_training.CONFIG, options))
    assert is_equal(model.state_dict(), trained.seen[2])


def test_an_unknown_metric_is_answered_at_the_first_evaluation_with_those_there_are(
    dataset, tmp_path
):
    options = [*scripted_training.OPTIONS, "OUTPUT_DIR", str(tmp_path)]
    options += ["MODEL.DEEPLAB2.POSTPROCESSING.INSTANCE_OUTPUT", "False"]
    trainer = DeepLab2Trainer(
        load_config(
            scripted_training.CONFIG, [*options, "SOLVER.DEEPLAB2.BEST_METRIC", "panoptic/PQ"]
        )
    )
    with pytest.raises(ConfigError, match="'panoptic/PQ'; it has .*panoptic_seg/PQ.*sem_seg/mIoU"):
        trainer.train()
    assert trainer.iter == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (("SOLVER.DEEPLAB2.BEST_METRIC", "PQ"), "BEST_METRIC must be '' or a task and a metric"),
        (("SOLVER.DEEPLAB2.BEST_METRIC", "''", "SOLVER.DEEPLAB2.PATIENCE", 2), "PATIENCE must be"),
        (("SOLVER.DEEPLAB2.PATIENCE", -1), "PATIENCE must be at least 0"),
        (("TEST.EVAL_PERIOD", 0), "BEST_METRIC must be '' without DATASETS.TEST and a TEST.EVAL"),
        (("DATASETS.TEST", ()), "BEST_METRIC must be '' without DATASETS.TEST"),
    ],
)
def test_a_metric_without_evaluations_and_patience_without_a_metric_are_refused(
    dataset, tmp_path, options, message
):
    given = [*scripted_training.OPTIONS, "OUTPUT_DIR", str(tmp_path), *map(str, options)]
    with pytest.raises(ConfigError, match=message):
        check_run(load_config(scripted_training.CONFIG, given), trains=True)


@pytest.mark.slow
def test_all_processes_of_a_job_end_after_the_same_step(dataset, tmp_path):
    from detectron2.data import MetadataCatalog

    root = Path(MetadataCatalog.get(dataset[0]).panoptic_json).parents[1]
    arguments = {
        "folder": str(tmp_path),
        "script": [1.0, 2.0, 1.0, 1.0],
        "options": ["SOLVER.DEEPLAB2.PATIENCE", 2],
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", scripted_training.__file__, json.dumps(arguments)]
    environment = {
        **os.environ,
        "DETECTRON2_DATASETS": str(root.parent),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "projects"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == [1, 2, 3, 4]
    assert read(tmp_path, "model_final.pth")["iteration"] == 3
