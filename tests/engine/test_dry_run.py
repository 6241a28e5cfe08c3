"""A dry run finds in seconds what would end a training, and leaves no trace."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import scripted_training
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage

from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, argument_parser, load_config, run
from deeplab2_d2.engine.live_memory import LiveMemory
from deeplab2_d2.engine.step_memory import watch_step

VIDEO = str(
    Path(__file__).resolve().parents[2]
    / "configs/ShapesVideo-PanopticSegmentation/vip_deeplab_tiny_os16_poly_bs8_crop_129_257.yaml"
)
FAST = ["MODEL.DEEPLAB2.POSTPROCESSING.INSTANCE_OUTPUT", "False"]


def dry_run(folder, *options, config=scripted_training.CONFIG, arguments=()):
    given = [*scripted_training.OPTIONS, *FAST, "OUTPUT_DIR", str(folder), *map(str, options)]
    args = ["--dry-run", "--config-file", config, *arguments, *given]
    return run(argument_parser().parse_args(args))


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_it_takes_a_step_evaluates_an_image_and_leaves_no_trace(dataset, tmp_path, capsys):
    out, catalog = tmp_path / "new", set(DatasetCatalog)
    scores = dry_run(out)
    assert not out.exists() and set(DatasetCatalog) == catalog
    assert {"panoptic_seg/PQ", "sem_seg/mIoU"} <= set(scores)
    printed = capsys.readouterr().out
    assert "shapes_panoptic_val: 2 images, all files there, 2 annotations read" in printed
    assert "total loss" in printed and "activations about" in printed
    # MAX_ITER 8, a checkpoint every 3, the last, the best.
    assert "checkpoints  4 of" in printed


def test_a_resumed_one_reads_the_checkpoint_and_leaves_the_folder_as_it_was(
    dataset, tmp_path, capsys
):
    scripted_training.train(tmp_path, [1.0, 2.0, 3.0], "SOLVER.MAX_ITER", 3)
    before = files_of(tmp_path)
    dry_run(tmp_path, arguments=["--resume"])
    assert files_of(tmp_path) == before
    # The table has lines of a length.
    printed = "".join(capsys.readouterr().out.split())
    assert "model_final.pth,goesonatiteration3" in printed
    with pytest.raises(ConfigError, match="MAX_ITER must be above 3, the iterations of .*, got 3"):
        dry_run(tmp_path, "SOLVER.MAX_ITER", 3, arguments=["--resume"])
    # Of a whole checkpoint whose content does not fit.
    state = torch.load(tmp_path / "model_final.pth", weights_only=False)
    state["trainer"]["_trainer"]["optimizer"]["param_groups"].pop()
    torch.save(state, tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match="param"):
        dry_run(tmp_path, arguments=["--resume"])


def test_of_videos_it_takes_two_frames_and_all_evaluators(video_dataset, tmp_path):
    options = ("SOLVER.DEEPLAB2.BEST_METRIC", "-depth/AbsErrorRel", "INPUT.CROP.SIZE", [33, 65])
    scores = dry_run(tmp_path / "new", *options, config=VIDEO)
    assert {"stq/STQ", "vpq/VPQ", "dvpq/DVPQ", "depth/AbsErrorRel"} <= set(scores)


def test_the_part_of_one_process_is_taken(dataset, tmp_path, capsys):
    dry_run(tmp_path, "SOLVER.IMS_PER_BATCH", 4, arguments=["--num-gpus", "4"])
    assert "1 images, total loss" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="IMS_PER_BATCH must be a multiple of the 3 processes"):
        dry_run(tmp_path, arguments=["--num-gpus", "3"])


def test_an_evaluation_is_tried_on_an_image(dataset, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new"
    evaluation = ["--eval-only", "--allow-random-weights"]
    scores = dry_run(out, arguments=evaluation)
    assert {"panoptic_seg/PQ", "sem_seg/mIoU"} <= set(scores) and not out.exists()
    printed = capsys.readouterr().out
    assert "M parameters" in printed and "shapes_panoptic_train" not in printed
    assert "found nothing that ends an evaluation" in printed
    # Two views, and a second member: what makes the model is what --eval-only makes.
    (tmp_path / "run").mkdir()
    scripted_training.train(tmp_path / "run", [1.0], "SOLVER.MAX_ITER", 1)
    weights = str(tmp_path / "run/model_final.pth")
    given = ("MODEL.WEIGHTS", weights, "TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", [64])
    dry_run(out, *given, arguments=["--eval-only", "--ensemble", weights])
    parameters = [text.split(" M param")[0] for text in capsys.readouterr().out.split("loaded, ")]
    assert float(parameters[-1]) == pytest.approx(
        2 * float(printed.split("loaded, ")[1].split(" M param")[0]), abs=0.011
    )
    with pytest.raises(ConfigError, match="WEIGHTS must be a trained model's"):
        dry_run(out, arguments=["--eval-only"])
    with pytest.raises(ConfigError, match="EXPECTED_RESULTS.*'IoU'"):
        dry_run(out, "TEST.EXPECTED_RESULTS", [["sem_seg", "IoU", 1, 1]], arguments=evaluation)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    for arguments in ([], ["--eval-only"]):
        with pytest.raises(ConfigError, match="--dry-run must be in one process"):
            dry_run(out, arguments=arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19), "must fit the 7 classes"),
        (("SOLVER.DEEPLAB2.BEST_METRIC", "panoptic_seg/pq"), "'panoptic_seg/pq'; it has .*PQ_th"),
        (("TEST.EXPECTED_RESULTS", [["sem_seg", "IoU", 70, 1]]), "EXPECTED_RESULTS.*'IoU'"),
        (("OUTPUT_DIR", __file__), "OUTPUT_DIR must be a folder"),
        (("MODEL.WEIGHTS", "nothing.pth"), "no such checkpoint"),
        (("DATALOADER.SAMPLER_TRAIN", "Sampler"), "Sampler"),
    ],
)
def test_mistakes_of_a_config_are_found(dataset, tmp_path, options, message):
    with pytest.raises((ValueError, OSError), match=message):
        dry_run(tmp_path / "new", *options)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def moved():
    """A function that lets a file be another way for one test."""
    changed = []

    def change(path, content=None):
        kept = f"{path}.kept"
        shutil.move(path, kept)
        changed.append((path, kept))
        if content is not None:
            Path(path).write_bytes(content)

    yield change
    for path, kept in reversed(changed):
        if os.path.isfile(path):
            os.remove(path)
        shutil.move(kept, path)


def test_mistakes_of_the_data_are_found(dataset, tmp_path, moved):
    train, val = (DatasetCatalog.get(name) for name in dataset)
    metadata = MetadataCatalog.get(dataset[1])
    # The last annotation of the evaluation, which would be read after the first checkpoints.
    png = val[-1]["pan_seg_file_name"]
    whole = Path(png).read_bytes()
    moved(png, whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="shapes_panoptic_val: panoptic PNG unreadable.*check"):
        dry_run(tmp_path)
    os.remove(png)
    with pytest.raises(FileNotFoundError, match="val: pan_seg_file_name .* does not exist"):
        dry_run(tmp_path)
    Path(png).write_bytes(Path(val[0]["pan_seg_file_name"]).read_bytes())
    with pytest.raises(ValueError, match="shapes_panoptic_val"):
        dry_run(tmp_path)  # the segments of another image
    Path(png).write_bytes(whole)
    moved(train[-1]["file_name"])
    with pytest.raises(FileNotFoundError, match="train: file_name .* does not exist"):
        dry_run(tmp_path)
    moved(metadata.panoptic_root)
    with pytest.raises(FileNotFoundError, match="panoptic_root .* does not exist"):
        dry_run(tmp_path)


def test_an_evaluator_that_cannot_be_built_and_a_full_disk_are_found(
    dataset, tmp_path, monkeypatch
):
    kind = MetadataCatalog.get(dataset[1]).__dict__
    with monkeypatch.context() as patch:
        patch.setitem(kind, "evaluator_type", "unheard_of")
        with pytest.raises(ValueError, match="evaluator_type.*got 'unheard_of'"):
            dry_run(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "panopticapi.evaluation", None)
        with pytest.raises(ImportError, match="panopticapi"):
            dry_run(tmp_path)
    usage = namedtuple("usage", "free")(free=50 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match="CHECKPOINT_PERIOD must leave room.*50 MB free, got 3"):
        dry_run(tmp_path)


@pytest.mark.parametrize("amp", [False, True])
def test_the_memory_of_later_steps_is_told_from_the_first(dataset, tmp_path, amp):
    options = ["OUTPUT_DIR", str(tmp_path), "SOLVER.AMP.ENABLED", str(amp)]
    trainer = DeepLab2Trainer(
        load_config(scripted_training.CONFIG, [*scripted_training.OPTIONS, *options])
    )
    trainer.iter, step = 0, trainer._trainer
    with EventStorage():
        told = watch_step(step.model, step.optimizer, trainer.run_step)
        with LiveMemory() as memory:
            state = [v for s in step.optimizer.state.values() for v in s.values()]
            tensors = [*step.model.parameters(), *step.model.buffers(), *state]
            memory.hold(tensor for tensor in tensors if isinstance(tensor, torch.Tensor))
            trainer.run_step()
    assert told.peak == pytest.approx(memory.peak, rel=0.03)
    # Adam has two numbers for each weight, of which a few are buffers.
    assert told.optimizer == pytest.approx(2 * told.gradients, rel=0.01)
    assert told.peak > told.weights + told.gradients + told.optimizer
