"""train_net.py and demo.py as a user runs them, each in a process of its own."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
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

# (width, height)
SIZES = {"a": (97, 61), "b": (200, 133), "c": (30, 30)}
# A narrow network; one of few steps has small segments.
NARROW = [
    *("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0"),
    *("MODEL.DEEPLAB2.POSTPROCESSING.STUFF_AREA_LIMIT", "0"),
]

pytestmark = pytest.mark.slow


def run(script, *arguments, datasets):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
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


def metrics(output, name):
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return {row["iteration"]: row[name] for row in rows if name in row}


def complaint(monkeypatch, capsys, script, *arguments):
    """The one sentence that a script ends with."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert error.value.code == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    prepare_shapes(str(folder / "shapes"), ShapesOptions(num_train=8, num_val=3))
    return folder


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """Folder of a short training on the generated shapes."""
    output = tmp_path_factory.mktemp("trained")
    options = ["OUTPUT_DIR", output, "SOLVER.MAX_ITER", 20, "SOLVER.IMS_PER_BATCH", 4]
    arguments = ["--config-file", SHAPES, *options, *NARROW, *QUICK]
    result = run("train_net.py", *arguments, datasets=shapes)
    # It ends with an evaluation.
    assert set(scores(result)) == {"sem_seg", "panoptic_seg", "segm"}
    return output


@pytest.fixture(scope="module")
def weights(trained):
    """The trained weights, leaning towards one class so that some of its segments are found."""
    state = torch.load(trained / "model_final.pth", weights_only=False)["model"]
    state["head.semantic_head.final_conv.bias"][5] += 0.6
    torch.save({"model": state}, trained / "leaning.pth")
    return trained / "leaning.pth"


@pytest.fixture(scope="module")
def printed(weights, shapes, tmp_path_factory):
    """The scores that ``--eval-only`` prints."""
    output = tmp_path_factory.mktemp("evaluated")
    options = ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", output, *NARROW, *QUICK]
    arguments = ["--eval-only", "--config-file", SHAPES, *options]
    return scores(run("train_net.py", *arguments, datasets=shapes))


def test_training_logs_the_poly_schedule_and_a_falling_loss(trained):
    rates = metrics(trained, "lr")
    assert rates == {k: pytest.approx(0.004 * (1 - k / 20) ** 0.9) for k in range(20)}
    total = metrics(trained, "total_loss")
    # Five losses vary by a tenth from batch to batch.
    assert sum(total[k] for k in range(15, 20)) < 0.8 * sum(total[k] for k in range(5))


@pytest.fixture(scope="module")
def drawn(weights, shapes, tmp_path_factory):
    """Folder of the demo's predictions of the held-out images, and of three of other sizes."""
    images, output = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("drawn")
    source = Image.open(shapes / "shapes" / "val" / "000000.jpg")
    for name, size in SIZES.items():
        source.resize(size).save(images / f"{name}.png")
    # By the config that the training has left beside them.
    arguments = ["--model", weights, "--output", output]
    arguments += ["--input", images, shapes / "shapes" / "val", "MODEL.DEVICE", "cpu"]
    result = run("demo/demo.py", *arguments, datasets=shapes)
    assert result.returncode == 0, result.stderr[-3000:]
    return output


def test_demo_writes_overlays_panoptic_pngs_and_json_for_images_of_any_size(drawn):
    content = json.loads((drawn / "panoptic.json").read_text())
    names = [*SIZES, "000000", "000001", "000002"]
    assert [annotation["file_name"] for annotation in content["annotations"]] == [
        f"{name}_panoptic.png" for name in names
    ]
    for (name, size), annotation in zip(SIZES.items(), content["annotations"]):
        colors = np.array(Image.open(drawn / annotation["file_name"])).astype(int)
        width, height = Image.open(drawn / f"{name}_overlay.png").size
        # Below the image stands the legend.
        assert width == size[0] and height > size[1]
        ids = colors @ [1, 256, 65536]
        areas = {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
        assert areas == {i: int((ids == i).sum()) for i in np.unique(ids) if i > 0}


def test_panopticapi_gives_the_demos_files_the_scores_of_the_evaluation(
    printed, drawn, shapes, tmp_path
):
    evaluation = pytest.importorskip("panopticapi.evaluation")
    truth = shapes / "shapes" / "annotations" / "panoptic_val.json"
    content = json.loads(truth.read_text())
    ids = {Path(image["file_name"]).stem: image["id"] for image in content["images"]}
    written = json.loads((drawn / "panoptic.json").read_text())["annotations"]
    content["annotations"] = [
        {**annotation, "image_id": ids[annotation["file_name"][: -len("_panoptic.png")]]}
        for annotation in written
        if annotation["file_name"][: -len("_panoptic.png")] in ids
    ]
    assert len(content["annotations"]) == 3
    (tmp_path / "predictions.json").write_text(json.dumps(content))
    expected = evaluation.pq_compute(
        str(truth),
        str(tmp_path / "predictions.json"),
        gt_folder=str(shapes / "shapes" / "panoptic_val"),
        pred_folder=str(drawn),
    )
    found = printed["panoptic_seg"]
    assert found["PQ"] > 0
    for part, suffix in (("All", ""), ("Things", "_th"), ("Stuff", "_st")):
        for key in ("pq", "sq", "rq"):
            # Four decimals are printed.
            value = pytest.approx(100 * expected[part][key], abs=1e-4)
            assert found[key.upper() + suffix] == value, (part, key)


@pytest.mark.parametrize(
    "words, images, overrides",
    [
        (["--input", "a.jpg", "b", "MODEL.DEVICE", "cpu"], ["a.jpg", "b"], ["MODEL.DEVICE", "cpu"]),
        (["--input", "a.jpg", "--output", "o", "SEED", "1"], ["a.jpg"], ["SEED", "1"]),
        (["--input", "MODEL.PNG", "--opts", "SEED", "1"], ["MODEL.PNG"], ["SEED", "1"]),
        (["--input", "a.jpg", "SEED", "1", "--opts", "VERSION", "2"], ["a.jpg"], None),
    ],
)
def test_demo_takes_overrides_wherever_they_stand(words, images, overrides, tmp_path, monkeypatch):
    (tmp_path / "MODEL.PNG").write_bytes(b"")  # A file, whatever keys there are.
    monkeypatch.chdir(tmp_path)
    parse = runpy.run_path(str(ROOT / "demo" / "demo.py"))["parse_arguments"]
    monkeypatch.setattr(sys, "argv", ["demo.py", "--model", "m", "--output", "o", *words])
    args = parse()
    assert args.input == images
    assert args.opts == (overrides or ["SEED", "1", "VERSION", "2"])


def test_demo_names_an_input_that_is_not_there(tmp_path, monkeypatch, capsys):
    arguments = ["--config-file", SHAPES, "--input", tmp_path / "nothing.jpg"]
    message = complaint(
        monkeypatch, capsys, "demo/demo.py", *arguments, "--output", tmp_path / "out"
    )
    assert message.endswith("nothing.jpg: no such file or folder")


def test_a_broken_config_ends_with_one_sentence(monkeypatch, capsys):
    arguments = ["--config-file", SHAPES, "INPUT.CROP.SIZE", "[128, 160]"]
    message = complaint(monkeypatch, capsys, "train_net.py", *arguments)
    assert "INPUT.CROP.SIZE must be 1 + a multiple of the output stride 16" in message


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
