#!/usr/bin/env python
"""
Panoptic segmentation and tracking of a video, frame by frame.

    python demo/video_demo.py --model NAME --input SOURCE --output FOLDER
        [--layout side|stack|overlay] [--save-panoptic] [--flow] [--frames-per-second N]
        [KEY VALUE ...]
    python demo/video_demo.py --config-file CONFIG --input SOURCE --output FOLDER [...]
        MODEL.WEIGHTS WEIGHTS [KEY VALUE ...]

NAME is what load_model takes in Python: a published model (python -m deeplab2_d2.checkpoint.zoo
lists them), or a checkpoint of a training, or its folder.

SOURCE is a video file, the number of a camera, a folder of images, or - for a stream of
concatenated JPEGs or PNGs. Models of single images get a tracker by overlap. Writes video.mp4,
tracks.json and, if asked for, panoptic/NNNNNN.png, whose colors hold the tracks' ids of the JSON.
Ctrl-C finishes the files of what has been seen; a second one ends at once.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import time
from types import FrameType
from typing import Any, Dict, Optional

import numpy as np
from tqdm import tqdm

from deeplab2_d2 import keep_freed_memory
from deeplab2_d2.command import run_command
from deeplab2_d2.data.user_code import add_register_argument, register_user_modules
from deeplab2_d2.engine import add_overrides, add_random_weights_flag
from deeplab2_d2.engine.model_source import config_of_model
from deeplab2_d2.engine.video_input import VideoInput, open_video
from deeplab2_d2.engine.video_output import TrackLog, VideoFile
from deeplab2_d2.engine.video_predictor import VideoPredictor
from deeplab2_d2.structures import check_not_inputs, write_panoptic_png
from deeplab2_d2.visualization import (
    draw_depth,
    draw_tracks,
    draw_tracks_overlay,
    make_class_colors,
)

# Where neither the source nor the user tells.
FRAMES_PER_SECOND = 10.0


class FramePictures:
    """Draws frames: the image, its tracks, and its depth if there is one."""

    def __init__(self, metadata: Any, label_divisor: int, layout: str):
        """
        Args:
            metadata: classes and colors of the dataset that the model was trained on.
            label_divisor: of the tracks.
            layout: see ``--layout``.
        """
        names = metadata.stuff_classes
        self._colors = np.array(metadata.get("stuff_colors", make_class_colors(len(names))))
        self._divisor = label_divisor
        self._layout = layout
        self._nearest: Optional[float] = None

    def draw(self, image: np.ndarray, output: Dict[str, Any]) -> np.ndarray:
        """
        Args:
            image: (H, W, 3) uint8 RGB.
            output: the model's, of the image's size.

        Returns:
            (height, width, 3) uint8 RGB, the same size for each frame.
        """
        options = {"label_divisor": self._divisor}
        if self._layout == "overlay":
            pictures = [draw_tracks_overlay(image, output["track"], self._colors, **options)]
        else:
            pictures = [image, draw_tracks(output["track"], self._colors, **options)]
        if "depth" in output:
            pictures.append(self._draw_depth(output["depth"].cpu().numpy()))
        return np.concatenate(pictures, axis=1 if self._layout == "side" else 0)

    def _draw_depth(self, depth: np.ndarray) -> np.ndarray:
        if self._nearest is None:
            # The first frame sets the scale of all; its nearest pixels may be errors.
            known = depth[depth > 0]
            self._nearest = float(np.percentile(known, 1)) if len(known) else 1.0
        return draw_depth(depth, nearest=self._nearest)


class Interrupt:
    """Ctrl-C within the block is remembered; a second one does what it did before."""

    def __init__(self) -> None:
        self.is_set = False

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _remember(self, number: int, frame: Optional[FrameType]) -> None:
        self.is_set = True
        signal.signal(signal.SIGINT, self._before)


def write_video(args: argparse.Namespace, predictor: VideoPredictor, video: VideoInput) -> None:
    """Write the files of all frames, or of those before Ctrl-C or an unreadable frame."""
    rate = args.frames_per_second or video.frames_per_second or FRAMES_PER_SECOND
    pictures = FramePictures(predictor.metadata, predictor.label_divisor, args.layout)
    file = VideoFile(os.path.join(args.output, "video.mp4"), rate)
    with contextlib.ExitStack() as stack:
        log = TrackLog(
            os.path.join(args.output, "tracks.json"),
            predictor.metadata,
            label_divisor=predictor.label_divisor,
        )
        stack.callback(print_result, file, log, time.perf_counter())
        # Whatever happens, what is done stays usable.
        stack.callback(log.close)
        stack.callback(file.close)
        interrupt = stack.enter_context(Interrupt())
        frames = tqdm(predictor(video.frames), total=video.num_frames, unit="frame")
        for frame, output in frames:
            image = np.ascontiguousarray(frame[:, :, ::-1])
            if args.save_panoptic:
                name = f"{file.num_frames:06d}.png"
                path = os.path.join(args.output, "panoptic", name)
                write_panoptic_png(path, output["track"].cpu().numpy() + 1)
            log.add(output["track"])
            file.add(pictures.draw(image, output))
            if interrupt.is_set:
                break


def check_outputs(args: argparse.Namespace) -> None:
    """
    Refuse to write over the source; remove the panoptic PNGs of a video before, a longer one too.
    """
    panoptic = os.path.join(args.output, "panoptic")
    log = os.path.join(args.output, "tracks.json")
    check_not_inputs([os.path.join(args.output, "video.mp4"), log, panoptic], [args.input])
    if not args.save_panoptic or not os.path.isdir(panoptic):
        return
    earlier = [name for name in os.listdir(panoptic) if re.fullmatch(r"\d{6,}\.png", name)]
    if earlier and not os.path.isfile(log):
        raise ValueError(
            f"--output must have no PNGs but those of a video before, got {panoptic} without {log}"
        )
    for name in earlier:
        os.remove(os.path.join(panoptic, name))


def print_result(file: VideoFile, log: TrackLog, start: float) -> None:
    """What there is, and how fast it was."""
    if file.num_frames == 0:
        return
    seconds = time.perf_counter() - start
    print(f"{file.num_frames} frames, {file.num_frames / seconds:.2f} frames per second")
    print(f"video: {file.path}   tracks: {log.path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="NAME", help="a published model, or a checkpoint")
    model.add_argument("--config-file", metavar="FILE", help="config of the model")
    parser.add_argument(
        "--input", required=True, metavar="SOURCE", help="file, camera, folder or - (see above)"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where results go")
    parser.add_argument(
        "--layout",
        choices=("side", "stack", "overlay"),
        default="side",
        help="image, tracks and depth side by side (the default) or one below the other; or the "
        "tracks over the image, with the depth below",
    )
    parser.add_argument("--save-panoptic", action="store_true", help="a panoptic PNG a frame, too")
    parser.add_argument(
        "--flow", action="store_true", help="let the tracker by overlap use optical flow"
    )
    parser.add_argument(
        "--frames-per-second",
        type=float,
        metavar="N",
        help=f"of video.mp4; default: the source's, else {FRAMES_PER_SECOND:g}",
    )
    add_random_weights_flag(parser)
    add_register_argument(parser)
    add_overrides(parser)
    args = parser.parse_args()
    args.opts = [*args.opts, *args.further_opts]
    if args.frames_per_second is not None and args.frames_per_second <= 0:
        parser.error(f"--frames-per-second must be above 0, got {args.frames_per_second:g}")
    return args


def main() -> None:
    keep_freed_memory()
    args = parse_arguments()
    register_user_modules(args.register)
    check_outputs(args)
    cfg = config_of_model(
        args.model or args.config_file, opts=args.opts, random_weights=args.allow_random_weights
    )
    video = open_video(args.input, stream=sys.stdin.buffer)
    predictor = VideoPredictor(
        cfg, use_flow=args.flow, allow_random_weights=args.allow_random_weights
    )
    write_video(args, predictor, video)


if __name__ == "__main__":
    sys.exit(run_command("video_demo.py", main))
