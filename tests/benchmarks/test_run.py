"""The benchmarks run as a user runs them; each compares its results with the peer's itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.slow
def test_every_benchmark_that_needs_no_gpu_runs_on_small_inputs():
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--repeats", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(FOLDER.parents[1] / "projects")
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    _, _, *rows = result.stdout.splitlines()
    measured = [row.split(" | ") for row in rows if " | " in row]
    others = [row for row in rows if " | " not in row]
    remarks = ("skipped, --device is cpu", "transformers is not installed", "fastest first at")
    assert all(any(remark in row for remark in remarks) for row in others), others
    assert all(len(cells) == 7 and float(cells[1].split()[0]) > 0 for cells in measured)
    # Each has a row, which begins with what it measures.
    words = (
        "axial attention",
        "resnet_tiny",
        "mapper to",
        "loss and gradient",
        "Hungarian matching",
    )
    words += ("narrow MaX-DeepLab", "... of which semantic_head", "post-processing from stride 4")
    words += ("post-processing of a pair of frames",)
    words += ("PQ statistics", "maskwise map", "targets of")
    words += ("STQ of a frame", "VPQ-1 to 4")
    words += ("continue_tracks of", "track_by_overlap of", "stitch of", "continue_stitching of")
    words += ("merge of 100 instances", "dense CRF of")
    words += ("kMaX-DeepLab ResNet-50, image to map", "... of which the head: its pixel_decoder")
    words += ("Panoptic-DeepLab, MobileNetV3-L, 65x129: mkldnn::_convolution_pointwise",)
    for word in words:
        assert any(cells[0].startswith(word) for cells in measured), word
