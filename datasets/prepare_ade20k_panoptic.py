#!/usr/bin/env python
"""
Make the panoptic annotations of ADE20K from its semantic and instance maps.

Reads and writes ``$DETECTRON2_DATASETS/ADEChallengeData2016``; see datasets/README.md.
"""

import argparse
import os
import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.data.ade20k import FOLDER, SPLITS, prepare_ade20k
from deeplab2_d2.data.catalog import datasets_root


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    root = datasets_root()
    parser.add_argument("--folder", default=os.path.join(root, FOLDER), help="of the release")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=list(SPLITS))
    args = parser.parse_args()
    for split in args.splits:
        print(prepare_ade20k(args.folder, split))


if __name__ == "__main__":
    sys.exit(run_command("prepare_ade20k_panoptic.py", main))
