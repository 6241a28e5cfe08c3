"""demo/video_demo.py as a user runs it, in a process of its own."""

import contextlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from deeplab2_d2.engine import DeepLab2Trainer, load_config
from deeplab2_d2.structures import DatasetClasses, read_panoptic_png

cv2 = pytest.importorskip("cv2")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
SIZE = (64, 96)

pytestmark = pytest.mark.slow

NARROW = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "MODEL.DEVICE", "cpu"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a network that knows nothing but sees things everywhere."""
    torch.manual_seed(0)
    cfg = load_config(str(ROOT / CONFIG), NARROW)
    state = DeepLab2Trainer.build_model(cfg).state_dict()
    thing_id = DatasetClasses.from_metadata(MetadataCatalog.get(cfg.DATASETS.TEST[0])).thing_ids[0]
    state["head.semantic_head.final_conv.bias"][thing_id] += 10
    state["head.center_head.final_conv.bias"] += 1
    path = tmp_path_factory.mktemp("weights") / "things.pth"
    torch.save({"model": state}, path)
    # As a training leaves it, for --model.
    (path.parent / "config.yaml").write_text(cfg.dump())
    return path


@pytest.fixture
def command(weights):
    """Command line of the demo with a source, a folder of outputs and options."""

    def build(source, output, *options):
        words = [sys.executable, "demo/video_demo.py", "--config-file", CONFIG, "--input", source]
        overrides = [*NARROW, "MODEL.WEIGHTS", weights, "INPUT.MIN_SIZE_TEST", SIZE[0]]
        return [*map(str, (*words, "--output", output, *options, "--opts", *overrides))]

    return build


def _process(command, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "projects")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, **options)


def _frames(count):
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 256, (SIZE[0] // 8, 2 * SIZE[1] // 8, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(scene).resize((2 * SIZE[1], SIZE[0])))
    return [wide[:, k : k + SIZE[1]] for k in range(count)]


def _read(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return frames
        frames.append(frame[:, :, ::-1])


def test_a_folder_becomes_a_video_pngs_and_tracks_that_agree(command, tmp_path):
    frames, folder, output = _frames(5), tmp_path / "frames", tmp_path / "out"
    folder.mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{k}.png")
    process = _process(command(folder, output, "--save-panoptic", "--layout", "stack"))
    printed, errors = (text.decode() for text in process.communicate(timeout=120))
    assert process.returncode == 0, errors[-3000:]
    assert "5 frames, " in printed and "frames per second" in printed
    assert "5/5" in errors
    pictures = _read(output / "video.mp4")
    assert len(pictures) == 5
    for picture, frame in zip(pictures, frames):
        # The image above, its tracks below.
        assert picture.shape == (2 * SIZE[0], SIZE[1], 3)
        assert np.abs(picture[: SIZE[0]].astype(int) - frame).mean() < 8
    content = json.loads((output / "tracks.json").read_text())
    divisor, listed = content["label_divisor"], set()
    for track in content["tracks"]:
        for seen in track["frames"]:
            ids = read_panoptic_png(str(output / "panoptic" / f"{seen['frame']:06d}.png"))
            assert (ids == track["id"]).sum() == seen["area"]
            listed.add((seen["frame"], track["id"]))
    found = set()
    for k in range(5):
        ids = np.unique(read_panoptic_png(str(output / "panoptic" / f"{k:06d}.png")))
        found |= {(k, i) for i in ids.tolist() if i > 0 and (i - 1) % divisor}
    assert found == listed and found


def test_a_checkpoint_is_a_model_as_its_config_and_weights_are(command, weights, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, frame in enumerate(_frames(2)):
        Image.fromarray(frame).save(folder / f"{k}.png")
    by_config = command(folder, tmp_path / "config")
    start = [sys.executable, "demo/video_demo.py", "--model", str(weights)]
    by_name = [*start, "--input", str(folder), "--output", str(tmp_path / "model")]
    for words in (by_config, [*by_name, "INPUT.MIN_SIZE_TEST", str(SIZE[0])]):
        process = _process(words)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()[-3000:]
    texts = [(tmp_path / name / "tracks.json").read_text() for name in ("config", "model")]
    assert texts[0] == texts[1] and len(json.loads(texts[0])["tracks"]) > 1
    process = _process([*by_name, "--config-file", CONFIG])
    assert process.wait() == 2 and b"not allowed with argument --model" in process.stderr.read()


def test_ctrl_c_leaves_a_video_that_plays_and_a_finished_json(command, tmp_path):
    process = _process(command("-", tmp_path), stdin=subprocess.PIPE)
    file = io.BytesIO()
    Image.fromarray(_frames(1)[0]).save(file, format="JPEG")
    picture = file.getvalue()

    def send():
        # As a camera does, until nobody listens.
        with contextlib.suppress(BrokenPipeError):
            while True:
                process.stdin.write(picture)
                process.stdin.flush()
                time.sleep(0.1)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    limit = threading.Timer(60, process.kill)
    limit.start()
    shown = b""
    while not re.search(rb"([1-9]\d|[3-9])frame \[", shown):
        shown += process.stderr.read1(1000) or pytest.fail(shown.decode())
    process.send_signal(signal.SIGINT)
    printed, errors = process.stdout.read().decode(), process.stderr.read().decode()
    assert process.wait() == 0, errors[-3000:]
    limit.cancel()
    sender.join()
    count = len(_read(tmp_path / "video.mp4"))
    assert count >= 3 and printed.startswith(f"{count} frames")
    assert json.loads((tmp_path / "tracks.json").read_text())["num_frames"] == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tracks.json", "video.mp4"]


def test_a_stream_that_breaks_off_leaves_what_was_seen_and_ends_with_one_sentence(
    command, tmp_path
):
    file = io.BytesIO()
    Image.fromarray(_frames(1)[0]).save(file, format="PNG")
    process = _process(command("-", tmp_path), stdin=subprocess.PIPE)
    _, errors = process.communicate(3 * file.getvalue() + file.getvalue()[:99], timeout=60)
    assert process.returncode == 1
    last = errors.decode().splitlines()[-1]
    assert last == "video_demo.py: image 3 of the stream must be whole, the stream ends within it"
    # The third waited for the one behind it.
    assert len(_read(tmp_path / "video.mp4")) == 2


def test_the_source_is_not_written_over_and_earlier_frames_do_not_stay(tmp_path):
    demo = runpy.run_path(str(ROOT / "demo" / "video_demo.py"))
    out = tmp_path / "out"
    (out / "panoptic").mkdir(parents=True)
    for name in ("000007.png", "mine.png"):
        (out / "panoptic" / name).touch()

    def check(source):
        args = SimpleNamespace(input=str(source), output=str(out), save_panoptic=True)
        demo["check_outputs"](args)

    for source in (out / "panoptic", out / "video.mp4"):
        with pytest.raises(ValueError, match="must not be written over inputs"):
            check(source)
    with pytest.raises(ValueError, match="no PNGs but those of a video before"):
        check(tmp_path / "video.mp4")
    (out / "tracks.json").touch()
    check(tmp_path / "video.mp4")
    assert [path.name for path in (out / "panoptic").iterdir()] == ["mine.png"]
