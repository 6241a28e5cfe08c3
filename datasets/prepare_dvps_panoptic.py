#!/usr/bin/env python
"""
Make the panoptic annotations of Cityscapes-DVPS and SemKITTI-DVPS from their maps.

Reads and writes ``$DETECTRON2_DATASETS/{cityscapes_dvps,semkitti_dvps}``; see datasets/README.md.
"""

import argparse
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.catalog import datasets_root
from deeplab2_d2.data.dvps import DVPS_RELEASES, LABELED_SPLITS, prepare_dvps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("release", choices=list(DVPS_RELEASES))
    parser.add_argument("--splits", nargs="+", choices=LABELED_SPLITS, default=LABELED_SPLITS)
    root = datasets_root()
    parser.add_argument("--root", default=root, help="folder that has the release's folder")
    args = parser.parse_args()
    for split in args.splits:
        print(prepare_dvps(os.path.join(args.root, args.release), args.release, split))


if __name__ == "__main__":
    sys.exit(run_command("prepare_dvps_panoptic.py", main))
