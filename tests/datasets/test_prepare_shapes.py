import json
import os
import pathlib
import runpy
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]


_SCRIPT = str(_ROOT / "datasets" / "prepare_shapes.py")


@pytest.mark.slow
def test_the_script_writes_under_detectron2_datasets_and_prints_the_hidden_part(
    tmp_path, monkeypatch
):
    size = ["--num-train", "2", "--num-val", "1", "--height", "64", "--width", "96", "--seed", "4"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    command = [sys.executable, _SCRIPT, *size]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["train"]["num_images"] == 2 and "hidden_fraction" in printed["train"]
    assert sorted(p.name for p in (tmp_path / "shapes" / "train").iterdir()) == [
        "000000.jpg",
        "000001.jpg",
    ]
    # Nothing temporary is left beside it.
    assert [p.name for p in tmp_path.iterdir()] == ["shapes"]

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [_SCRIPT, "--num-train", "3"])
    with pytest.raises(ValueError, match="wanted"):
        runpy.run_path(_SCRIPT)["main"]()
