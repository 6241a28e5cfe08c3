#!/usr/bin/env python
"""
Write the generated dataset ``shapes_panoptic`` to ``$DETECTRON2_DATASETS/shapes``.

A complete set with the same options is used as it is.
"""

import argparse
import json
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.catalog import datasets_root
from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes
from deeplab2_d2.data.shapes_scene import SceneOptions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    root = datasets_root()
    default, scene = ShapesOptions(), SceneOptions()
    parser.add_argument("--folder", default=os.path.join(root, "shapes"), help="where it goes")
    parser.add_argument("--num-train", type=int, default=default.num_train, help="images")
    parser.add_argument("--num-val", type=int, default=default.num_val, help="images")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--height", type=int, default=scene.height, help="pixels of an image")
    parser.add_argument("--width", type=int, default=scene.width, help="pixels of an image")
    parser.add_argument(
        "--num-things", type=int, nargs=2, default=scene.num_things, help="fewest and most, tried"
    )
    args = parser.parse_args()

    options = ShapesOptions(
        num_train=args.num_train,
        num_val=args.num_val,
        seed=args.seed,
        scene=SceneOptions(height=args.height, width=args.width, num_things=tuple(args.num_things)),
    )
    info = prepare_shapes(args.folder, options)
    print(json.dumps({key: info[key] for key in ("train", "val")}, indent=1))


if __name__ == "__main__":
    sys.exit(run_command("prepare_shapes.py", main))
