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
def test_the_script_writes_each_layout_under_detectron2_datasets(tmp_path):
    size = ["--num-train", "1", "--num-val", "1", "--seed", "4"]
    for layout in ("step", "dvps"):
        result = _run(tmp_path, *size, "--format", layout)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["val"]["num_frames"] == 24
    # Nothing temporary is left beside them.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shapes_video", "shapes_video_dvps"]
    assert sorted(p.name for p in (tmp_path / "shapes_video_dvps" / "train").iterdir())[:4] == [
        "slow000_000000_depth_160.0.png",
        "slow000_000000_gtFine_class.png",
        "slow000_000000_gtFine_instance.png",
        "slow000_000000_leftImg8bit.png",
    ]

    other = _run(tmp_path, "--num-train", "3")
    assert other.returncode != 0 and "wanted" in other.stderr
