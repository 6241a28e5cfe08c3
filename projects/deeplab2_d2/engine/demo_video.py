"""
Train a model of videos, track held-out sequences, and show them: `make demo-video`.

Configs of the generated videos train on a dataset that is generated first. With another config the
dataset must be there:

    DETECTRON2_DATASETS=... python -m deeplab2_d2.engine.demo_video --config-file CONFIG [KEY VALUE]
"""

import argparse
import os
import re
import sys
import time
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from tabulate import tabulate

from ..allocation import keep_freed_memory
from ..command import run_command
from ..data.catalog import datasets_root
from ..data.reading import read_image_bytes
from ..data.shapes_video import FOLDERS, prepare_shapes_video
from ..evaluation import DEPTH_ERRORS
from ..structures import atomic_path
from ..visualization import draw_depth, draw_tracks_overlay, sheet
from .demo_arguments import parse_demo_arguments
from .evaluators import model_outputs
from .setup import ConfigError, setup
from .track_baselines import Frame, Results, predict_frames, score_mean_depth, score_numberings
from .trainer import DeepLab2Trainer
from .video_output import VideoFile

CONFIG = "configs/ShapesVideo-PanopticSegmentation/vip_deeplab_tiny_os16_poly_bs8_crop_129_257.yaml"
_NAMES = {
    "model": "this model",
    "overlap": "IoU tracker",
    "raster": "raster order",
    "fresh": "new in each frame",
}
_FRAMES_PER_SECOND = 8.0
# Rows of the sheet, and how far they are from each other.
_SHEET_FRAMES, _SHEET_STEP = 4, 2


def main(args: argparse.Namespace) -> Dict[str, Any]:
    """
    Train, track, print the tables, write a video and a sheet.

    Returns:
        "tracks": (numbering, group) to its results, see :func:`score_numberings`; "depth": errors
        of the model and of mean depths, if the model predicts depth.
    """
    start = time.perf_counter()
    cfg = setup(args, _prepare)
    train_name, dataset_name = cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0]
    outputs = model_outputs(cfg)
    if "panoptic_seg" not in outputs:
        raise ConfigError(
            "the demo must have a model that returns panoptic_seg (config key "
            f"MODEL.DEEPLAB2.POSTPROCESSING.PANOPTIC_OUTPUT), got one with {outputs}"
        )
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    model = trainer.checkpointer.model.eval()
    pictures = _Pictures(cfg.OUTPUT_DIR, dataset_name)
    frames = pictures.watch(predict_frames(cfg, model, dataset_name))
    scores: Dict[str, Any] = {"tracks": score_numberings(frames, dataset_name, group_of)}
    pictures.close()
    print(f"\n{dataset_name}, one network, instances numbered in several ways, in percent:")
    print(_track_table(scores["tracks"]))
    if "depth" in outputs:
        own = next(iter(scores["tracks"].values()))["depth"]
        scores["depth"] = {"this model": own, **score_mean_depth(train_name, dataset_name)}
        print(f"\nErrors of depth:\n{_depth_table(scores['depth'])}")
    minutes = (time.perf_counter() - start) / 60
    print(f"\nVideo: {pictures.video}   Sheet: {pictures.sheet}   Time: {minutes:.1f} minutes")
    return scores


def _prepare(cfg: CfgNode) -> None:
    if any(name.startswith("shapes_video_") for name in cfg.DATASETS.TEST):
        prepare_shapes_video(os.path.join(datasets_root(), FOLDERS["step"]))


def group_of(sequence: str) -> str:
    """The word with which the name of a sequence begins; "" if it begins with none."""
    word = re.match("[a-z]*", sequence)
    return word.group() if word else ""


def _track_table(scores: Dict[Tuple[str, str], Results]) -> str:
    groups = [group for name, group in scores if name == "fresh" and group]
    windows = [f"VPQ-{k}" for k in (1, 2, 3, 4)]
    lambdas = [f"DVPQ@{limit}" for limit in DEPTH_ERRORS]
    rows = []
    for name, title in _NAMES.items():
        if (name, "") not in scores:
            continue
        all_sequences = scores[name, ""]
        row = [title, *(all_sequences["stq"][key] for key in ("STQ", "AQ", "SQ"))]
        row += [scores[name, group]["stq"]["STQ"] for group in groups]
        row += [all_sequences["vpq"][key] for key in windows]
        row += [all_sequences["dvpq"][key] for key in lambdas if "dvpq" in all_sequences]
        rows.append(row)
    headers = ["numbers", "STQ", "AQ", "SQ", *(f"STQ {group}" for group in groups), *windows]
    return tabulate(rows, headers=[*headers, *lambdas], floatfmt=".1f")


def _depth_table(scores: Dict[str, Dict[str, float]]) -> str:
    names = {"AbsErrorRel": "absRel", "SqErrorRel": "sqRel", "SILog": "SILog"}
    rows = [
        [title, *(errors[key] for key in names), 100 * errors["DepthInlier"]]
        for title, errors in scores.items()
    ]
    return tabulate(rows, headers=["depth", *names.values(), "inliers (%)"], floatfmt=".3f")


class _Pictures:
    """Draws frames as they come: image, tracks and, if there is one, depth."""

    def __init__(self, folder: str, dataset_name: str):
        metadata = MetadataCatalog.get(dataset_name)
        self._colors = np.array(metadata.stuff_colors)
        self._divisor = metadata.label_divisor
        self.video = os.path.join(folder, "tracks.mp4")
        self.sheet = os.path.join(folder, "tracks.png")
        self._file = VideoFile(self.video, _FRAMES_PER_SECOND)
        self._rows: Dict[str, List[List[np.ndarray]]] = {}

    def watch(self, frames: Any) -> Iterator[Frame]:
        for frame in frames:
            row = self._draw(frame)
            self._file.add(np.concatenate(row, axis=1))
            self._rows.setdefault(frame.record["sequence"], []).append(row)
            yield frame

    def _draw(self, frame: Frame) -> List[np.ndarray]:
        image = read_image_bytes(frame.record["file_name"], "RGB")
        track = next(iter(frame.tracks.values()))
        row = [image, draw_tracks_overlay(image, track, self._colors, label_divisor=self._divisor)]
        if "depth" in frame.output:
            row.append(draw_depth(frame.output["depth"]))
        return row

    def close(self) -> None:
        """Finish the video, and write a sheet of frames of the first and the last sequence."""
        self._file.close()
        sequences = list(self._rows.values())
        chosen = [rows[: _SHEET_FRAMES * _SHEET_STEP : _SHEET_STEP] for rows in sequences]
        rows = [row for rows in (chosen[:1] + chosen[1:][-1:]) for row in rows]
        titles = ("image", "tracks", "depth")[: len(rows[0])]
        with atomic_path(self.sheet) as temporary:
            picture = sheet(rows, titles=titles, cell_size=(192, 384))
            Image.fromarray(picture).save(temporary, format="PNG")


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(
        run_command(
            "demo_video", lambda: main(parse_demo_arguments(__doc__, CONFIG, "demo-video", None))
        )
    )
