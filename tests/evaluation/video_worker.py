"""One process of an evaluation of videos that others share."""

import json
import os
import sys
import time
from pathlib import Path

import deeplab2_d2  # noqa: F401  # isort: skip  # makes Detectron2 importable
import torch
import torch.distributed as dist

from deeplab2_d2.evaluation import VideoEvaluator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tiny_videos as videos  # noqa: E402


def score(job, rank):
    """Scores of the samples of one process; "error" if it raises."""
    records, metadata, parts = job
    videos.register("videos", records, metadata)
    evaluator = VideoEvaluator("videos", has_depth=True)
    for place, output in parts[rank]:
        evaluator.process([records[place]], [output])
    try:
        return evaluator.evaluate()
    except ValueError as error:
        return {"error": str(error)}


def main(folder: Path, rank: int, num_processes: int) -> None:
    dist.init_process_group(
        "gloo", f"file://{folder / 'rendezvous'}", rank=rank, world_size=num_processes
    )
    results = []
    for name in ("whole", "twice"):
        job = torch.load(folder / f"{name}.pth", weights_only=False)
        results.append(score(job, rank))
        videos.remove("videos")
    (folder / f"scores{rank}.json").write_text(json.dumps(results))
    # Not by a barrier of gloo's: who leaves it first may reset a connection that another reads.
    deadline = time.monotonic() + 300
    while len(list(folder.glob("scores*.json"))) < num_processes and time.monotonic() < deadline:
        time.sleep(0.05)
    # Without gloo's own end, in which a process aborts when another has reset its connection.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
