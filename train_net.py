#!/usr/bin/env python
"""
Train or evaluate a model of this project.

    python train_net.py --config-file configs/.../*.yaml [--eval-only] [--resume] [KEY VALUE ...]
    torchrun --nproc-per-node 2 train_net.py --config-file ...
"""

import sys

from deeplab2_d2.command import run_command
from deeplab2_d2.engine import argument_parser, launch, run


def main() -> None:
    launch(run, argument_parser().parse_args())


if __name__ == "__main__":
    sys.exit(run_command("train_net.py", main))
