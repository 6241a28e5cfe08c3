"""Evaluation split over two processes gives one process's scores, to the last digit."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from deeplab2_d2 import evaluation

# Both processes write the dataset's files, with the same content, to folders of their own.
SCRIPT = """
import json, sys
from pathlib import Path

sys.path[:0] = sys.argv[1:2]
import conftest
import torch.distributed as dist
from detectron2.utils import comm
from test_split_evaluation import score

folder, rank, port = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
folder.mkdir()
conftest.register(folder)
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
scores = score(conftest.NAME, rank, 2)
comm.synchronize()
if rank == 0:
    print("SCORES", json.dumps(scores))
dist.destroy_process_group()
"""


def score(name, rank, num_processes):
    """Scores of a predictor that is wrong in places, which sees every n-th image."""
    records = DatasetCatalog.get(name)[rank::num_processes]
    predictor = evaluation.GroundTruthPredictor(num_classes=3, thing_ids={0, 2})
    results = []
    for evaluator in (
        evaluation.PanopticQualityEvaluator(name),
        evaluation.SemanticEvaluator(name),
        evaluation.PanopticInstanceEvaluator(name),
    ):
        evaluator.reset()
        for record in records:
            (output,) = predictor([record])
            output["panoptic_seg"][0][:, :2] = 0
            output["sem_seg"][:, :, 3] = 0.0
            output["instances"].pred_masks[:, :, 0] = False
            output["instances"].pred_masks[:, 0] = False
            evaluator.process([record], [output])
        results.append(evaluator.evaluate())
    return results


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(tiny_dataset, tmp_path):
    pytest.importorskip("panopticapi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, here, tmp_path / f"of{rank}", str(rank), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = outputs[0][0].splitlines()
    split = json.loads([line for line in lines if line.startswith("SCORES")][-1][7:])
    whole = json.loads(json.dumps(score(tiny_dataset, 0, 1)))
    assert str(split) == str(whole)
    assert 0 < whole[0]["panoptic_seg"]["PQ"] < 100
    assert 0 < whole[1]["sem_seg"]["mIoU"] < 100
    assert 0 < whole[2]["segm"]["AP"] < 100
