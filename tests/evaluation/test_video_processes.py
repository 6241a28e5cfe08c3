"""Two processes give the scores of one, to the last digit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_videos as videos
import torch

from deeplab2_d2.evaluation import VideoEvaluator

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("video_worker.py")
ROOT = Path(__file__).resolve().parents[2]
NAME = "deeplab2_d2_videos_of_processes"


def _run(folder):
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT / "projects"),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder), str(rank), "2"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return [json.loads((folder / f"scores{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_give_the_scores_of_one_and_no_sequence_may_be_in_both(tmp_path, run):
    records, outputs, metadata = videos.make_video_dataset(tmp_path / "data")
    numbers = range(len(records))
    # The sequence in the middle of the dataset is the second process's.
    first = [place for place in numbers if records[place]["sequence"] != "short"]
    jobs = {"whole": [first, sorted(set(numbers) - set(first))], "twice": [numbers, [0]]}
    for name, parts in jobs.items():
        job = (records, metadata, [[(place, outputs[place]) for place in part] for part in parts])
        torch.save(job, tmp_path / f"{name}.pth")
    videos.register(NAME, records, metadata)
    try:
        expected = run(VideoEvaluator(NAME, has_depth=True), records, outputs)
    finally:
        videos.remove(NAME)
    main, other = _run(tmp_path)
    assert other[0] is None and main[0] == json.loads(json.dumps(expected))
    assert 5 < main[0]["stq"]["STQ"] < 95
    assert "frame 3 of sequence 'long' must come once, got it in 2" in main[1]["error"]
