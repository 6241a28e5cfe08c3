import json
import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]


def _run(folder, *arguments):
    command = [sys.executable, str(_ROOT / "datasets" / "prepare_shapes.py"), *arguments]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(folder)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_script_writes_under_detectron2_datasets_and_prints_the_hidden_part(tmp_path):
    size = ["--num-train", "2", "--num-val", "1", "--height", "64", "--width", "96", "--seed", "4"]
    result = _run(tmp_path, *size)
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["train"]["num_images"] == 2 and "hidden_fraction" in printed["train"]
    assert sorted(p.name for p in (tmp_path / "shapes" / "train").iterdir()) == [
        "000000.jpg",
        "000001.jpg",
    ]
    # Nothing temporary is left beside it.
    assert [p.name for p in tmp_path.iterdir()] == ["shapes"]

    other = _run(tmp_path, "--num-train", "3")
    assert other.returncode != 0 and "wanted" in other.stderr
