#!/usr/bin/env python
"""
Make the annotations of PASCAL VOC 2012, with SBD's, in panoptic format.

Reads and writes ``$DETECTRON2_DATASETS/VOC2012``; see datasets/README.md.
"""

import argparse
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.catalog import datasets_root
from deeplab2_d2.data.pascal_voc import FOLDER, SPLITS, prepare_pascal_voc


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    root = datasets_root()
    parser.add_argument("--folder", default=os.path.join(root, FOLDER), help="of the release")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=list(SPLITS))
    args = parser.parse_args()
    for split in args.splits:
        print(prepare_pascal_voc(args.folder, split))


if __name__ == "__main__":
    sys.exit(run_command("prepare_pascal_voc.py", main))
