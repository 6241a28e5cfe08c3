import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.ade20k import ade20k_categories, prepare_ade20k
from deeplab2_d2.structures import read_panoptic_png

_ROOT = pathlib.Path(__file__).parents[2]


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(path)


@pytest.fixture
def release(tmp_path):
    """One image of 2 x 4 pixels in the layout of the release."""
    root = tmp_path / "ADEChallengeData2016"
    for folder in ("training", "validation"):
        _write(root / "images" / folder / "ADE_1.jpg", np.zeros((2, 4, 3)))
        # 1 = wall, 8 = bed (a thing), 0 = other.
        _write(root / "annotations" / folder / "ADE_1.png", [[1, 1, 8, 8], [1, 1, 8, 0]])
        # Red 1 = the first thing (bed); the second bed reaches over the wall.
        classes, numbers = [[0, 1, 1, 1], [0, 0, 1, 0]], [[0, 2, 1, 1], [0, 0, 1, 0]]
        maps = np.stack([classes, numbers, np.zeros((2, 4))], axis=-1)
        _write(root / "annotations_instance" / folder / "ADE_1.png", maps)
    return root


def test_a_hundred_of_the_categories_are_things():
    categories = ade20k_categories()
    assert len(categories) == 150 and sum(c["isthing"] for c in categories) == 100
    assert [c["name"] for c in categories if c["isthing"]][:3] == ["bed", "window", "cabinet"]


def test_instances_win_over_stuff_and_stuff_pixels_of_things_are_void(release):
    prepare_ade20k(str(release), "train")
    content = json.loads((release / "ade20k_panoptic_train.json").read_text())
    (annotation,) = content["annotations"]
    assert annotation["image_id"] == "ADE_1" and annotation["file_name"] == "ADE_1.png"
    wall, bed, other_bed = annotation["segments_info"]
    assert [s["category_id"] for s in annotation["segments_info"]] == [0, 7, 7]
    ids = read_panoptic_png(str(release / "ade20k_panoptic_train" / "ADE_1.png"))
    assert ids.tolist() == [
        [wall["id"], other_bed["id"], bed["id"], bed["id"]],
        [wall["id"], wall["id"], bed["id"], 0],
    ]


@pytest.mark.slow
def test_the_script_makes_both_splits_that_then_load(release):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(release.parent)}
    environment["PYTHONPATH"] = str(_ROOT / "projects")
    script = str(_ROOT / "datasets" / "prepare_ade20k_panoptic.py")
    code = (
        "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0])['main'](); "
        "import deeplab2_d2.data; from detectron2.data import DatasetCatalog; "
        "print([s['category_id'] for s in "
        "DatasetCatalog.get('ade20k_panoptic_val')[0]['segments_info']])"
    )
    command = [sys.executable, "-c", code, script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[0, 7, 7]"


def test_an_incomplete_release_is_named(release):
    (release / "annotations_instance" / "training" / "ADE_1.png").unlink()
    with pytest.raises(FileNotFoundError, match="annotations_instance.*ADE_1.png does not exist"):
        prepare_ade20k(str(release), "train")


def test_an_instance_of_two_classes_is_named(release):
    maps = np.zeros((2, 4, 3))
    maps[0, 0], maps[0, 1] = (1, 1, 0), (2, 1, 0)
    _write(release / "annotations_instance" / "training" / "ADE_1.png", maps)
    with pytest.raises(ValueError, match="ADE_1: instance 1 must have one class"):
        prepare_ade20k(str(release), "train")
