#!/usr/bin/env python
"""
Write the generated dataset ``shapes_video`` to ``$DETECTRON2_DATASETS/shapes_video``.

With ``--format dvps`` the same frames go to ``$DETECTRON2_DATASETS/shapes_video_dvps``, in the
layout of SemKITTI-DVPS. A complete set with the same options is used as it is.
"""

import argparse
import json
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.catalog import datasets_root
from deeplab2_d2.data.shapes_video import FOLDERS, ShapesVideoOptions, prepare_shapes_video


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    root = datasets_root()
    default = ShapesVideoOptions()
    parser.add_argument("--format", default="step", choices=list(FOLDERS), help="layout of files")
    parser.add_argument("--root", default=root, help="folder in which the set's folder goes")
    parser.add_argument("--num-train", type=int, default=default.num_train, help="sequences")
    parser.add_argument("--num-val", type=int, default=default.num_val, help="sequences")
    parser.add_argument("--seed", type=int, default=default.seed)
    args = parser.parse_args()

    options = ShapesVideoOptions(args.num_train, args.num_val, args.seed)
    folder = os.path.join(args.root, FOLDERS[args.format])
    info = prepare_shapes_video(folder, options, layout=args.format)
    print(json.dumps({key: info[key] for key in ("train", "val")}, indent=1))


if __name__ == "__main__":
    sys.exit(run_command("prepare_shapes_video.py", main))
