"""The command as a user runs it, in a process of its own."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/Shapes-PanopticSegmentation/max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
KMAX = CONFIG.replace("max_deeplab_tiny_os16", "kmax_deeplab_tiny_os32")
NODE = "MODEL.DEEPLAB2.POSTPROCESSING"
# Every slot of an untrained network is confident enough.
UNTRAINED = [
    f"{NODE}.CONFIDENCE_THRESHOLDS",
    "[0.0, 0.0]",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    prepare_shapes(str(folder / "shapes"), ShapesOptions(num_train=2, num_val=2))
    return folder


def draw(datasets, output, *options, config=CONFIG):
    """The page that the command writes."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deeplab2_d2.visualization.slots", "--config-file", config]
    arguments = [
        "--output",
        output,
        "--allow-random-weights",
        *options,
        "DATALOADER.NUM_WORKERS",
        0,
    ]
    environment["PYTHONPATH"] = str(ROOT / "projects")
    result = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == f"Wrote {output / 'index.html'}"
    return (output / "index.html").read_text()


@pytest.mark.parametrize("config, num_layers", [(CONFIG, 2), (KMAX, 4)], ids=["MaX", "kMaX"])
def test_the_command_writes_a_page_with_all_its_pictures(datasets, tmp_path, config, num_layers):
    options = ["--dataset", "shapes_panoptic_train", "--images", "000001", "--masks", "5,3"]
    text = draw(datasets, tmp_path / "slots", *options, "--heads", *UNTRAINED, config=config)
    shown = re.findall(r'<img src="([^"]+)"', text)
    maps = ["image", "panoptic_map", "slots", "pixel_features"]
    expected = ["joint_distribution", "average_masks", *(f"image1_{name}" for name in maps)]
    expected += ["image1_attention", *(f"image1_heads{k + 1}" for k in range(num_layers))]
    assert shown == [f"{name}.png" for name in expected]
    # Each is there, is a picture with something in it, and no temporary file is left.
    files = {path.name for path in (tmp_path / "slots").iterdir()}
    assert files == {*shown, "index.html"}
    assert all(np.asarray(Image.open(tmp_path / "slots" / name)).std() > 1 for name in shown)
    text = unescape(text)
    assert "the first 2 of shapes_panoptic_train" in text
    assert "000001.jpg: attention of the slots 5 (" in text
    # A row of the list for each slot that fired; one of 2 images has it once or twice.
    totals = re.findall(r'<td>slot \d+</td>\s*<td class="number">(\d+)</td>', text)
    assert totals and set(totals) <= {"1", "2"} and totals == sorted(totals, reverse=True)


def test_of_a_network_that_is_sure_of_nothing_the_page_says_so(datasets, tmp_path):
    text = unescape(draw(datasets, tmp_path, f"{NODE}.CONFIDENCE_THRESHOLDS", "[1.0, 0.4]"))
    assert "the network is untrained" in text and "No slot was confident enough" in text
    assert text.count("No slot is left in the map of this image") == 2
    assert not (tmp_path / "joint_distribution.png").exists()
