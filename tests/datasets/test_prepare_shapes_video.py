import json
import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]


def _run(folder, *arguments):
    command = [sys.executable, str(_ROOT / "datasets" / "prepare_shapes_video.py"), *arguments]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(folder)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_script_writes_the_layout_asked_for_under_detectron2_datasets(tmp_path):
    size = ["--num-train", "1", "--num-val", "1", "--seed", "4"]
    result = _run(tmp_path, *size, "--format", "dvps")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["val"]["num_frames"] == 24
    # Nothing temporary is left beside it.
    assert [p.name for p in tmp_path.iterdir()] == ["shapes_video_dvps"]
    frames = tmp_path / "shapes_video_dvps" / "video_sequence" / "train"
    assert sorted(p.name for p in frames.iterdir())[:4] == [
        "000000_000000_depth_160.0.png",
        "000000_000000_gtFine_class.png",
        "000000_000000_gtFine_instance.png",
        "000000_000000_leftImg8bit.png",
    ]
