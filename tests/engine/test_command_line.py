"""train_net.py and demo.py as a user runs them, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
SHAPES = "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
COCO = (
    "configs/COCO-PanopticSegmentation/" "panoptic_deeplab_tiny_os16_overfit_bs2_crop_433_641.yaml"
)
CITYSCAPES = (
    "configs/Cityscapes-PanopticSegmentation/"
    "panoptic_deeplab_R_50_os32_poly_60k_bs8_crop_1025_2049.yaml"
)
QUICK = [
    "SOLVER.DEEPLAB2.LOG_PERIOD",
    "1",
    "DATALOADER.NUM_WORKERS",
    "0",
    "SOLVER.WARMUP_ITERS",
    "0",
]

pytestmark = pytest.mark.slow


def run(script, *arguments, datasets):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def scores(result):
    """Column name to value of every table that Detectron2 prints in csv form."""
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    lines = re.findall(r"copypaste: (.*)", result.stdout)
    found = {}
    for task, names, values in zip(lines[::3], lines[1::3], lines[2::3]):
        kind = task.replace("Task: ", "")
        found[kind] = dict(zip(names.split(","), map(float, values.split(","))))
    return found


def losses(output):
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return {row["iteration"]: row["total_loss"] for row in rows if "total_loss" in row}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    prepare_shapes(str(folder / "shapes"), ShapesOptions(num_train=8, num_val=3))
    return folder


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """Folder of a short training on the generated shapes."""
    output = tmp_path_factory.mktemp("trained")
    options = ["OUTPUT_DIR", output, "SOLVER.MAX_ITER", 20, "SOLVER.IMS_PER_BATCH", 4, *QUICK]
    result = run("train_net.py", "--config-file", SHAPES, *options, datasets=shapes)
    assert result.returncode == 0, result.stderr[-3000:]
    return output


def test_training_writes_a_checkpoint_and_a_falling_loss(trained):
    assert (trained / "model_final.pth").stat().st_size > 1_000_000
    total = losses(trained)
    assert sum(total[k] for k in range(15, 20)) < sum(total[k] for k in range(5))


def test_eval_only_reports_pq_miou_and_ap_in_one_run(trained, shapes, tmp_path):
    options = ["MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR", tmp_path, *QUICK]
    result = run("train_net.py", "--eval-only", "--config-file", SHAPES, *options, datasets=shapes)
    found = scores(result)
    assert set(found) == {"sem_seg", "panoptic_seg", "segm"}
    assert 0 < found["sem_seg"]["pACC"] <= 100
    assert found["panoptic_seg"]["PQ"] <= found["panoptic_seg"]["SQ"]


def test_resume_continues_after_the_last_iteration(trained, shapes):
    options = ["OUTPUT_DIR", trained, "SOLVER.MAX_ITER", 40, "SOLVER.IMS_PER_BATCH", 4, *QUICK]
    arguments = ["--resume", "--config-file", SHAPES, *options]
    result = run("train_net.py", *arguments, datasets=shapes)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Starting training from iteration 20" in result.stdout
    assert set(losses(trained)) == set(range(40))


def test_demo_writes_overlays_panoptic_pngs_and_json_for_images_of_any_size(
    trained, shapes, tmp_path
):
    folder = tmp_path / "images"
    folder.mkdir()
    source = Image.open(shapes / "shapes" / "val" / "000000.jpg")
    sizes = {"a": (97, 61), "b": (200, 133), "c": (30, 30)}
    for name, size in sizes.items():
        source.resize(size).save(folder / f"{name}.png")
    output = tmp_path / "out"
    arguments = ["--config-file", SHAPES, "--input", folder, "--output", output]
    options = ["--opts", "MODEL.WEIGHTS", trained / "model_final.pth"]
    result = run("demo/demo.py", *arguments, *options, datasets=shapes)
    assert result.returncode == 0, result.stderr[-3000:]
    content = json.loads((output / "panoptic.json").read_text())
    assert [annotation["file_name"] for annotation in content["annotations"]] == [
        f"{name}_panoptic.png" for name in sizes
    ]
    for (name, size), annotation in zip(sizes.items(), content["annotations"]):
        colors = np.array(Image.open(output / annotation["file_name"])).astype(int)
        assert Image.open(output / f"{name}_overlay.png").size == size
        ids = colors @ [1, 256, 65536]
        areas = {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
        assert areas == {i: int((ids == i).sum()) for i in np.unique(ids) if i > 0}


def test_demo_names_an_input_that_is_not_there(shapes, tmp_path):
    arguments = ["--config-file", SHAPES, "--input", tmp_path / "nothing.jpg"]
    result = run("demo/demo.py", *arguments, "--output", tmp_path / "out", datasets=shapes)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("nothing.jpg: no such file or folder")


def test_a_broken_config_ends_with_one_sentence(shapes):
    arguments = ["--config-file", SHAPES, "INPUT.CROP.SIZE", "[128, 160]"]
    result = run("train_net.py", *arguments, datasets=shapes)
    assert result.returncode == 1
    assert "INPUT.CROP.SIZE must be 1 + a multiple of the output stride 16" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_dataset_is_named(tmp_path):
    options = ["OUTPUT_DIR", tmp_path / "out", *QUICK]
    result = run("train_net.py", "--config-file", SHAPES, *options, datasets=tmp_path)
    assert result.returncode != 0
    assert str(tmp_path / "shapes") in result.stderr.splitlines()[-1]


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real images at {SHARED}")
def test_one_step_and_one_evaluation_on_two_coco_images(tmp_path):
    options = ["OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 1, "TEST.EVAL_PERIOD", 0, *QUICK]
    datasets = SHARED / "coco_mini"
    result = run("train_net.py", "--config-file", COCO, *options, datasets=datasets)
    assert set(scores(result)) == {"sem_seg", "panoptic_seg", "segm"}


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real images at {SHARED}")
def test_one_step_and_the_three_evaluators_of_cityscapes_on_a_street_image(tmp_path):
    options = ["OUTPUT_DIR", tmp_path, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *QUICK]
    options += ["SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2, "INPUT.CROP.SIZE", "[257, 257]"]
    options += ["MODEL.DEEPLAB2.BACKBONE.NAME", "resnet_tiny", "TEST.EVAL_PERIOD", 0]
    datasets = SHARED / "cityscapes_mini"
    result = run("train_net.py", "--config-file", CITYSCAPES, *options, datasets=datasets)
    found = scores(result)
    assert set(found) == {"sem_seg", "panoptic_seg", "segm"}
    assert set(found["sem_seg"]) >= {"IoU", "iIoU"}
    assert set(found["segm"]) == {"AP", "AP50"}
