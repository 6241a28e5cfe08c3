import json
import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_the_script_writes_under_detectron2_datasets_and_prints_the_share_in_order(tmp_path):
    script = str(_ROOT / "datasets" / "prepare_shapes_layers.py")
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    command = [sys.executable, script, "--num-train", "3", "--num-val", "1", "--exceptions", "1"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    # All of it is an exception, so nothing is in the order of the classes.
    assert printed["train"]["num_pairs"] > 0
    assert printed["train"]["in_class_order_fraction"] == 0.0
    assert len(list((tmp_path / "shapes_layers" / "train").iterdir())) == 3
