"""Several processes that score on the fly give what Detectron2's own evaluator gives in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator

from deeplab2_d2.evaluation import PanopticQualityEvaluator

pytest.importorskip("panopticapi")
pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("on_the_fly_worker.py")
ROOT = Path(__file__).resolve().parents[2]


def evaluate(evaluator, samples):
    evaluator.reset()
    for sample, (panoptic_map, segments) in samples:
        # Detectron2's evaluator takes keys out of the segments.
        copies = [dict(segment) for segment in segments]
        evaluator.process([sample], [{"panoptic_seg": (panoptic_map.clone(), copies)}])
    return evaluator.evaluate()["panoptic_seg"]


NUM_PROCESSES = 3
# Images of each of three processes, by number: uneven, out of order, and some without an image.
SPLITS = [
    [[0, 1, 2, 3, 4], [5, 6], []],
    [[6, 0, 3], [1, 5, 4, 2], []],
    [[], [4, 3, 2, 1, 0], [5, 6]],
    [[0, 6], [5, 1], [2, 3, 4]],
]


def test_processes_give_the_scores_of_detectron2_to_the_last_digit(random_dataset, tmp_path):
    name, samples = random_dataset
    metadata = MetadataCatalog.get(name).as_dict()
    metadata.pop("name")
    job = (metadata, [[[samples[i] for i in part] for part in split] for split in SPLITS])
    torch.save(job, tmp_path / "job.pth")
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT / "projects"),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path), str(rank), str(NUM_PROCESSES)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(NUM_PROCESSES)
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * NUM_PROCESSES, errors
    first, *others = (
        json.loads((tmp_path / f"scores{rank}.json").read_text()) for rank in range(NUM_PROCESSES)
    )
    assert others == [[None] * len(SPLITS)] * (NUM_PROCESSES - 1)

    expected = evaluate(COCOPanopticEvaluator(name, str(tmp_path)), samples)
    assert 0 < expected["PQ"] < 100
    # Detectron2's has no scores of single classes.
    by_class = evaluate(PanopticQualityEvaluator(name, per_class=True), samples)
    for scores in first:
        assert {key: scores["panoptic_seg"][key] for key in expected} == dict(expected)
        assert scores["panoptic_seg"] == dict(by_class)
