#!/usr/bin/env python
"""
Write the generated dataset ``shapes_layers`` to ``$DETECTRON2_DATASETS/shapes_layers``.

A complete set with the same options is used as it is.
"""

import argparse
import json
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.catalog import datasets_root
from deeplab2_d2.data.shapes_layers import ShapesLayersOptions, prepare_shapes_layers
from deeplab2_d2.data.shapes_layers_scene import LayersOptions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    root = datasets_root()
    default, scene = ShapesLayersOptions(), LayersOptions()
    folder = os.path.join(root, "shapes_layers")
    parser.add_argument("--folder", default=folder, help="where it goes")
    parser.add_argument("--num-train", type=int, default=default.num_train, help="images")
    parser.add_argument("--num-val", type=int, default=default.num_val, help="images")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--exceptions",
        type=float,
        default=scene.exception_probability,
        help="part of the groups whose order is against the classes",
    )
    args = parser.parse_args()

    options = ShapesLayersOptions(
        num_train=args.num_train,
        num_val=args.num_val,
        seed=args.seed,
        scene=LayersOptions(exception_probability=args.exceptions),
    )
    info = prepare_shapes_layers(args.folder, options)
    print(json.dumps({key: info[key] for key in ("train", "val")}, indent=1))


if __name__ == "__main__":
    sys.exit(run_command("prepare_shapes_layers.py", main))
