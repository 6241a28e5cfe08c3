#!/usr/bin/env python
"""
Make the panoptic annotations of KITTI-STEP and MOTChallenge-STEP from their maps.

Reads and writes ``$DETECTRON2_DATASETS/{kitti_step,motchallenge_step}``; see datasets/README.md.
"""

import argparse
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.catalog import datasets_root
from deeplab2_d2.data.step import STEP_RELEASES, prepare_step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("release", choices=list(STEP_RELEASES))
    root = datasets_root()
    parser.add_argument("--root", default=root, help="folder that has the release's folder")
    args = parser.parse_args()
    for path in prepare_step(os.path.join(args.root, args.release), args.release):
        print(path)


if __name__ == "__main__":
    sys.exit(run_command("prepare_step_panoptic.py", main))
