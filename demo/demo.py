#!/usr/bin/env python
"""
Panoptic segmentation of images, of any size: overlays, panoptic PNGs and one JSON.

Of a semantic model, each class is one segment. An image that cannot be read is skipped, and told
at the end. The classes are those of the config's dataset, or of the weights where it is not there.

    python demo/demo.py --config-file CONFIG --input IMAGE_OR_FOLDER ... --output FOLDER
        --opts MODEL.WEIGHTS WEIGHTS [MODEL.DEVICE cpu ...]
"""

import argparse
import os
import sys
from typing import List

import torch
from tqdm import tqdm

from deeplab2_d2.command import run_command
from deeplab2_d2.data.reading import read_image
from deeplab2_d2.data.user_code import add_register_argument, register_user_modules
from deeplab2_d2.engine import ConfigError, add_random_weights_flag, load_config
from deeplab2_d2.engine.evaluators import model_outputs
from deeplab2_d2.engine.prediction_files import PredictionWriter, panoptic_of_output
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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of the model")
    parser.add_argument("--input", nargs="+", required=True, help="images or folders of images")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where results go")
    add_random_weights_flag(parser)
    add_register_argument(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ..."
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    register_user_modules(args.register)
    cfg = load_config(args.config_file, args.opts)
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    outputs = model_outputs(cfg)
    if not {"panoptic_seg", "sem_seg"} & set(outputs):
        raise ConfigError(
            f"the model of --config-file must return panoptic_seg or sem_seg, got {outputs}"
        )
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
            writer.add(name, image[:, :, ::-1], panoptic_of_output(predictor(image)))
    finally:
        # What is done stays usable, whatever happens.
        print(f"predictions: {writer.close()}")
    for reason in skipped:
        print(f"demo.py: skipped: {reason}", file=sys.stderr)
    if len(skipped) == len(files):
        raise ConfigError(f"--input: no image can be read, the last: {skipped[-1]}")


if __name__ == "__main__":
    sys.exit(run_command("demo.py", main))
