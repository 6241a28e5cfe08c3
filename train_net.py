#!/usr/bin/env python
"""
Train or evaluate a model of this project.

    python train_net.py --config-file configs/.../*.yaml [--eval-only] [--resume] [KEY VALUE ...]
    torchrun --nproc-per-node 2 train_net.py --config-file ...
"""

import sys

from deeplab2_d2.engine import ConfigError, argument_parser, launch, run


def main() -> None:
    args = argument_parser().parse_args()
    try:
        launch(run, args)
    except ConfigError as error:
        sys.exit(f"train_net.py: {error}")


if __name__ == "__main__":
    main()
