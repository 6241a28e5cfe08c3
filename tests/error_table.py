"""
Write the table of docs/errors.md: mistakes, and the line that each of them ends in.

    python tests/error_table.py [--check]

Every mistake is made with the program as it stands, in one process and without a GPU. With
``--check`` nothing is written, and the exit status is 1 if the file would change.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple
from unittest import mock

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from deeplab2_d2.data.builtin import register_all
from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes, register_shapes

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "errors.md"
CONFIG = "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
_SHAPES = ("shapes_panoptic_train", "shapes_panoptic_val")
# A run that comes to its logs sets them up.
_LOGGERS = ("detectron2", "fvcore", "deeplab2_d2")
_MARK = "<!-- table: tests/error_table.py -->\n"


class Mistake(NamedTuple):
    """
    Attributes:
        title: what a user did.
        command: words of the command line; "CONFIG" is ``--config-file`` with a good file.
    """

    title: str
    command: str


MISTAKES = [
    Mistake("a config that is not there", "train_net.py --config-file nowhere.yaml"),
    Mistake("a config indented with a tab", "train_net.py --config-file tab.yaml"),
    Mistake("an empty config", "train_net.py --config-file empty.yaml"),
    Mistake("a config in Latin-1", "train_net.py --config-file latin.yaml"),
    Mistake("a Python file that is no LazyConfig", "train_net.py --config-file lazy.py"),
    Mistake("a `_BASE_` that is not there", "train_net.py --config-file nobase.yaml"),
    Mistake("a config based on itself", "train_net.py --config-file loop.yaml"),
    Mistake("a misspelt key", "train_net.py CONFIG SOLVER.MAX_ITR 5"),
    Mistake("a word for a number", "train_net.py CONFIG SOLVER.BASE_LR fast"),
    Mistake("a crop off the grid", "train_net.py CONFIG INPUT.CROP.SIZE [128,160]"),
    Mistake("a misspelt dataset", "train_net.py CONFIG DATASETS.TEST ('shapes_panoptic_vla',)"),
    Mistake(
        "a dataset that is not on disk",
        "train_net.py CONFIG DATASETS.TRAIN ('coco_2017_train_panoptic',)",
    ),
    Mistake("classes of another dataset", "train_net.py CONFIG MODEL.SEM_SEG_HEAD.NUM_CLASSES 19"),
    Mistake("a GPU where there is none", "train_net.py CONFIG MODEL.DEVICE cuda"),
    Mistake("several GPUs where there is none", "train_net.py CONFIG --num-gpus 2"),
    Mistake("weights that are not there", "train_net.py CONFIG MODEL.WEIGHTS nothing.pth"),
    Mistake("weights that are cut short", "train_net.py CONFIG MODEL.WEIGHTS cut.pth"),
    Mistake("weights of another model", "train_net.py CONFIG MODEL.WEIGHTS other.pth"),
    Mistake("an evaluation without weights", "train_net.py --eval-only CONFIG"),
    Mistake("an output folder that is a file", "train_net.py CONFIG OUTPUT_DIR empty.yaml"),
    Mistake("no images in a batch", "train_net.py CONFIG SOLVER.IMS_PER_BATCH 0"),
    Mistake(
        "a `last_checkpoint` that leads elsewhere", "train_net.py --resume CONFIG OUTPUT_DIR moved"
    ),
    Mistake("a picture that is not there", "demo/demo.py CONFIG --input no.jpg --output out"),
    Mistake("a dataset to check that is not there", "-m deeplab2_d2.data.check shapes_panoptic"),
    Mistake(
        "categories that are no JSON",
        "-m deeplab2_d2.data.convert --name shop --split train --images . --categories broken.json "
        "--output shop",
    ),
    Mistake("a checkpoint that is a text", "-m deeplab2_d2.checkpoint inspect text.pth"),
]


def _write_files(folder: Path) -> None:
    """What the mistakes need."""
    for name in ("Base-PanopticDeepLab.yaml", f"Shapes-PanopticSegmentation/{CONFIG}"):
        (folder / "configs" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "configs" / name, folder / "configs" / name)
    (folder / "tab.yaml").write_text("SOLVER:\n\tMAX_ITER: 5\n")
    (folder / "empty.yaml").write_text("")
    (folder / "latin.yaml").write_bytes("# Größe\nSEED: 1\n".encode("latin-1"))
    (folder / "lazy.py").write_text("model = 1\n")
    (folder / "nobase.yaml").write_text("_BASE_: nowhere.yaml\n")
    (folder / "loop.yaml").write_text("_BASE_: loop.yaml\n")
    (folder / "broken.json").write_text("[{]")
    (folder / "text.pth").write_text("weights")
    torch.save({"model": {"backbone.conv.weight": torch.zeros(3)}}, folder / "other.pth")
    (folder / "cut.pth").write_bytes((folder / "other.pth").read_bytes()[:-200])
    (folder / "moved").mkdir()
    (folder / "moved" / "last_checkpoint").write_text("../other/model_0000099.pth")
    options = ShapesOptions(num_train=1, num_val=1)
    prepare_shapes(str(folder / "datasets" / "shapes"), options)


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """A folder to make mistakes in, without a GPU, with the shapes in its datasets."""
    before, logs = os.getcwd(), [logging.getLogger(name) for name in _LOGGERS]
    states = [(log.level, list(log.handlers), log.propagate) for log in logs]
    with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ):
        folder = Path(name).resolve()
        os.environ["DETECTRON2_DATASETS"] = str(folder / "datasets")
        _write_files(folder)
        _forget()
        register_shapes(str(folder / "datasets"))
        os.chdir(folder)
        try:
            with mock.patch("torch.cuda.is_available", lambda: False):
                with mock.patch("torch.cuda.device_count", lambda: 0):
                    yield folder
        finally:
            os.chdir(before)
            for log, (level, handlers, propagate) in zip(logs, states):
                log.setLevel(level)
                log.handlers, log.propagate = handlers, propagate
            _forget()
            del os.environ["DETECTRON2_DATASETS"]
    register_all()


def _forget() -> None:
    for name in (*_SHAPES, *(f"{name}_instances" for name in _SHAPES)):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def run(command: str) -> Tuple[int, str]:
    """Exit status of a command of the table, run here, and what it wrote to stderr."""
    config = f"--config-file configs/Shapes-PanopticSegmentation/{CONFIG}"
    words = command.replace("CONFIG", config).split()
    errors = io.StringIO()
    is_module = words[0] == "-m"
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        with mock.patch.object(sys, "argv", words[1:] if is_module else words):
            try:
                if is_module:
                    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            except SystemExit as error:
                return int(error.code or 0), errors.getvalue()
    return 0, errors.getvalue()


def error_lines() -> Dict[Mistake, Tuple[int, List[str]]]:
    """Each mistake's exit status and the lines that it wrote to stderr, of whatever machine."""
    lines = {}
    with _workspace() as folder:
        for mistake in MISTAKES:
            status, said = run(mistake.command)
            said = said.replace(str(folder), "/data")
            said = re.sub(r"PyTorch \([^)]*\)", "PyTorch", said)
            lines[mistake] = status, said.splitlines()
    return lines


def table() -> str:
    """In Markdown."""
    rows = ["| mistake | command | last line |", "| --- | --- | --- |"]
    for mistake, (_, lines) in error_lines().items():
        command = mistake.command if mistake.command[0] != "-" else f"python {mistake.command}"
        cells = [mistake.title, f"`{command}`", f"`{lines[-1]}`"]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(_MARK)
    _, _, tail = rest.partition(_MARK)
    written = head + _MARK + table() + _MARK + tail
    if args.check:
        return int(written != text)
    DOCUMENT.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
