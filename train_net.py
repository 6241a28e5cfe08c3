#!/usr/bin/env python
"""
Train or evaluate a model of this project.

    python train_net.py --config-file configs/.../*.yaml [--eval-only] [--resume] [KEY VALUE ...]
    python train_net.py --config-file configs/lazy/*.py [--eval-only] [--resume] [key=value ...]
    torchrun --nproc-per-node 2 train_net.py --config-file ...
"""

import sys

from deeplab2_d2 import keep_freed_memory
from deeplab2_d2.command import run_command
from deeplab2_d2.engine import argument_parser, launch, run, run_lazy


def main() -> None:
    keep_freed_memory()
    args = argument_parser().parse_args()
    launch(run_lazy if args.config_file.endswith(".py") else run, args)


if __name__ == "__main__":
    sys.exit(run_command("train_net.py", main))
