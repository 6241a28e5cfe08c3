"""One process of split evaluations: of each it scores its part of the samples with the others."""

import json
import os
import sys
import time
from pathlib import Path

import deeplab2_d2  # noqa: F401  # isort: skip  # makes Detectron2 importable
import torch
import torch.distributed as dist
from detectron2.data import MetadataCatalog

from deeplab2_d2.evaluation import OnTheFlyPanopticEvaluator


def main(folder: Path, rank: int, num_processes: int) -> None:
    metadata, splits = torch.load(folder / "job.pth", weights_only=False)
    MetadataCatalog.get("split").set(**metadata)
    dist.init_process_group(
        "gloo", f"file://{folder / 'rendezvous'}", rank=rank, world_size=num_processes
    )
    evaluator = OnTheFlyPanopticEvaluator("split", per_class=True)
    scores = []
    for parts in splits:
        evaluator.reset()
        for sample, panoptic_seg in parts[rank]:
            evaluator.process([sample], [{"panoptic_seg": panoptic_seg}])
        scores.append(evaluator.evaluate())
    (folder / f"scores{rank}.json").write_text(json.dumps(scores))
    # Not by a barrier of gloo's: who leaves it first may reset a connection that another reads.
    deadline = time.monotonic() + 300
    while len(list(folder.glob("scores*.json"))) < num_processes and time.monotonic() < deadline:
        time.sleep(0.05)
    # Without gloo's own end, in which a process aborts when another has reset its connection.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
