"""Ground truth as prediction, on the real images that are kept beside the repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

# Detectron2 reads $DETECTRON2_DATASETS when it is imported: hence a process of its own.
SCRIPT = """
import json, sys
import deeplab2_d2
from detectron2.data import DatasetCatalog, MetadataCatalog
from deeplab2_d2 import evaluation as e

name = sys.argv[1]
records, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
things = set(metadata.thing_dataset_id_to_contiguous_id.values())
truth = e.GroundTruthPredictor(num_classes=len(metadata.stuff_classes), thing_ids=things)
evaluators = [
    e.PanopticQualityEvaluator(name), e.SemanticEvaluator(name), e.PanopticInstanceEvaluator(name)
]
if "cityscapes" in name:
    evaluators += [e.CityscapesSemanticEvaluator(name), e.CityscapesMaskEvaluator(name)]
scores = []
for evaluator in evaluators:
    evaluator.reset()
    for record in records:
        evaluator.process([record], truth([record]))
    scores.append(evaluator.evaluate())
print("SCORES", json.dumps(scores))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "root, name",
    [
        ("coco_mini", "coco_2017_val_panoptic"),
        ("cityscapes_mini", "cityscapes_fine_panoptic_val"),
    ],
)
def test_every_evaluator_gives_ground_truth_its_highest_score(root, name, tmp_path):
    if not (DATA / root).is_dir():
        pytest.skip(f"{DATA / root} is not there")
    pytest.importorskip("panopticapi")
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        env={**os.environ, "DETECTRON2_DATASETS": str(DATA / root)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    assert list(tmp_path.iterdir()) == []
    line = [line for line in process.stdout.splitlines() if line.startswith("SCORES")][-1]
    for result in json.loads(line[len("SCORES ") :]):
        for task, scores in result.items():
            present = [score for score in scores.values() if score == score]
            assert present and min(present) == pytest.approx(100.0), (task, scores)
