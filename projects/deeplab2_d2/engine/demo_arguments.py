"""The command line that the demos share."""

import argparse
import os
from typing import Any, Optional, Sequence

from .setup import argument_parser


def parse_demo_arguments(
    description: Optional[str], config_file: str, name: str, arguments: Optional[Sequence[str]]
) -> argparse.Namespace:
    """
    Detectron2's arguments; a default config, and a folder in ``output`` named after it.

    Args:
        description: of the program.
        config_file: the default one.
        name: folder in ``output`` with that config; with another one it is the config's name.
        arguments: None: those of the process.
    """
    parser = argument_parser()
    parser.description = description
    parser.set_defaults(config_file=config_file)
    args: Any = parser.parse_args(arguments)
    if "OUTPUT_DIR" not in args.opts:
        stem = os.path.splitext(os.path.basename(args.config_file))[0]
        folder = name if args.config_file == config_file else stem
        args.opts += ["OUTPUT_DIR", os.path.join("output", folder)]
    return args
