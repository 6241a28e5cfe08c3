#!/usr/bin/env python
"""
Panoptic segmentation of images, of any size: overlays, panoptic PNGs and one JSON.

Overlays have the names and scores of segments, and below them the classes that there are. Of a
semantic model, each class is one segment. An image that cannot be read is skipped, and told at the
end. The classes are those of the config's dataset, or of the weights where it is not there.

    python demo/demo.py --model NAME --input IMAGE_OR_FOLDER ... --output FOLDER [KEY VALUE ...]
    python demo/demo.py --config-file CONFIG --input IMAGE_OR_FOLDER ... --output FOLDER
        MODEL.WEIGHTS WEIGHTS [KEY VALUE ...]

NAME is what load_model takes in Python: a published model (python -m deeplab2_d2.checkpoint.zoo
lists them), or a checkpoint of a training, or its folder.
"""

import argparse
import os
import sys
from typing import List, Tuple

from detectron2.config import get_cfg
from tqdm import tqdm

from deeplab2_d2 import keep_freed_memory
from deeplab2_d2.command import run_command
from deeplab2_d2.data.reading import read_image
from deeplab2_d2.data.user_code import add_register_argument, register_user_modules
from deeplab2_d2.engine import ConfigError, add_overrides, add_random_weights_flag
from deeplab2_d2.engine.evaluators import model_outputs
from deeplab2_d2.engine.model_source import config_of_model
from deeplab2_d2.engine.prediction_files import (
    PredictionWriter,
    hide_uncertain,
    panoptic_of_output,
)
from deeplab2_d2.engine.predictor import DeepLab2Predictor
from deeplab2_d2.structures import IMAGE_ENDINGS, check_distinct_stems, list_image_names


def list_images(inputs: List[str]) -> List[str]:
    """Files as they are, and the images of folders in the order of their names."""
    files = []
    for name in inputs:
        if os.path.isdir(name):
            files += [os.path.join(name, n) for n in list_image_names(name)]
        elif os.path.isfile(name):
            files.append(name)
        else:
            raise ConfigError(f"--input {name}: no such file or folder")
    try:
        check_distinct_stems(files)
    except ValueError as error:
        raise ConfigError(f"--input: {error}") from error
    if not files:
        raise ConfigError(
            f"--input {' '.join(inputs)}: no image ({', '.join(IMAGE_ENDINGS)}) in it"
        )
    return files


def split_overrides(words: List[str]) -> Tuple[List[str], List[str]]:
    """
    What follows --input: images, and the KEY VALUE pairs behind them.

    The first word that is a key of the config, and no file, ends the images.
    """
    nodes = get_cfg()
    for index, word in enumerate(words):
        if word.partition(".")[0] in nodes and not os.path.exists(word):
            return words[:index], words[index:]
    return words, []


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="NAME", help="a published model, or a checkpoint")
    model.add_argument("--config-file", metavar="FILE", help="config of the model")
    parser.add_argument("--input", nargs="+", required=True, help="images or folders of images")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where results go")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="leave out segments of a lower score, from 0 to 1; their pixels become void",
    )
    add_random_weights_flag(parser)
    add_register_argument(parser)
    add_overrides(parser)
    args = parser.parse_args()
    args.input, behind = split_overrides(args.input)
    args.opts = [*behind, *args.opts, *args.further_opts]
    if not args.input:
        parser.error("--input needs an image or a folder")
    if not 0 <= args.confidence <= 1:
        parser.error(f"--confidence must be from 0 to 1, got {args.confidence:g}")
    return args


def main() -> None:
    keep_freed_memory()
    args = parse_arguments()
    register_user_modules(args.register)
    cfg = config_of_model(
        args.model or args.config_file, opts=args.opts, random_weights=args.allow_random_weights
    )
    outputs = model_outputs(cfg)
    if not {"panoptic_seg", "sem_seg"} & set(outputs):
        raise ConfigError(f"the model must return panoptic_seg or sem_seg, got {outputs}")
    files = list_images(args.input)
    predictor = DeepLab2Predictor(cfg, allow_random_weights=args.allow_random_weights)
    writer = PredictionWriter(args.output, predictor.metadata, file_names=files)
    skipped: List[str] = []
    try:
        for name in tqdm(files, unit="image"):
            try:
                image = read_image(name, "BGR")
            except (FileNotFoundError, ValueError) as error:
                skipped.append(str(error))
                continue
            (output,) = predictor.predict_batch([image], needs_scores=False)
            panoptic = panoptic_of_output(output)
            writer.add(name, image[:, :, ::-1], hide_uncertain(panoptic, args.confidence))
    finally:
        # What is done stays usable, whatever happens.
        print(f"predictions: {writer.close()}")
    for reason in skipped:
        print(f"demo.py: skipped: {reason}", file=sys.stderr)
    if len(skipped) == len(files):
        raise ConfigError(f"--input: no image can be read, the last: {skipped[-1]}")


if __name__ == "__main__":
    sys.exit(run_command("demo.py", main))
