"""A training that is killed and resumed ends as the one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
STEPS = 14
OPTIONS = (
    f"SOLVER.MAX_ITER {STEPS} SOLVER.CHECKPOINT_PERIOD 4 SOLVER.IMS_PER_BATCH 2 "
    "SOLVER.DEEPLAB2.LOG_PERIOD 1 SOLVER.DEEPLAB2.EMA_DECAY 0.9 DATALOADER.NUM_WORKERS 1 "
    "SOLVER.DEEPLAB2.ACCUMULATION_STEPS 2 "
    "MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER 1.0 "
    "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.DROP_PATH [0.8,'constant'] "
    "MODEL.DEEPLAB2.POSTPROCESSING.INSTANCE_OUTPUT False SEED 5"
).split()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    prepare_shapes(str(folder / "shapes"), ShapesOptions(num_train=7, num_val=1))
    return folder


@pytest.fixture(scope="module")
def whole(datasets, tmp_path_factory):
    """Folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder, datasets))
    return folder


def start(output, datasets, *arguments, **options):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train_net.py", "--config-file", CONFIG, *arguments, *OPTIONS]
    command += ["OUTPUT_DIR", str(output)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **streams, **options)


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()[-3000:]


def losses(folder):
    """Iteration to its losses; of an iteration that ran twice, the later. Half a line waits."""
    text = (folder / "metrics.json").read_text()
    rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    names = ("total_loss", "loss_semantic", "loss_center", "loss_offset", "lr")
    return {r["iteration"]: [r[name] for name in names] for r in rows if "total_loss" in r}


def state(folder):
    return torch.load(folder / "model_final.pth", weights_only=False)


def test_losses_weights_and_average_of_a_killed_and_resumed_run_are_those_of_an_uninterrupted_one(
    datasets, whole, tmp_path
):
    killed = tmp_path / "killed"
    process = start(killed, datasets)
    deadline = time.monotonic() + 200
    # The losses of a step are written after its checkpoint.
    while not (killed / "model_0000007.pth").exists() or 7 not in losses(killed):
        assert process.poll() is None, process.communicate()[0].decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model_final.pth").exists()

    finish(start(killed, datasets, "--resume"))
    assert_ends_as(whole, killed)


def assert_ends_as(whole, resumed):
    expected, actual = losses(whole), losses(resumed)
    assert sorted(expected) == list(range(STEPS))
    assert actual == expected
    expected, actual = state(whole), state(resumed)
    for part in ("model", "average"):
        assert expected[part].keys() == actual[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(actual[part][name], value), (part, name)
    assert any(
        not torch.equal(value, expected["average"][name])
        for name, value in expected["model"].items()
    )


def test_a_signal_to_all_processes_leaves_a_checkpoint_and_a_line_and_the_resumed_run_is_the_same(
    datasets, whole, tmp_path
):
    folder = tmp_path / "stopped"
    process = start(folder, datasets, start_new_session=True)
    deadline = time.monotonic() + 200
    while not (folder / "metrics.json").exists() or 5 not in losses(folder):
        assert process.poll() is None, process.communicate()[0].decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=100)[0].decode()
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in output
    name = (folder / "last_checkpoint").read_text()
    done = torch.load(folder / name, weights_only=False)["iteration"]
    assert name == f"model_{done:07d}.pth"
    assert output.splitlines()[-1] == (
        f"train_net.py: stopped by SIGTERM after {done + 1} of {STEPS} iterations; the same "
        f"command with --resume goes on from {folder / name}"
    )
    # As if the process had been killed while it wrote a file.
    left = folder / ".model_0000005.abc_1234.part.pth"
    left.write_bytes(b"half")
    finish(start(folder, datasets, "--resume"))
    assert_ends_as(whole, folder)
    assert not left.exists()


def test_a_checkpoint_that_is_cut_short_is_refused_and_the_newest_whole_one_offered(
    datasets, whole, tmp_path
):
    folder = shutil.copytree(whole, tmp_path / "cut")
    final = folder / "model_final.pth"
    final.write_bytes(final.read_bytes()[:-1000])
    process = start(folder, datasets, "--resume")
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode != 0
    last = output.splitlines()[-1]
    assert "model_final.pth" in last and "model_0000011.pth" in last
