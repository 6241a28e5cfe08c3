"""The command line that the demos share."""

import argparse
import os
from typing import Any, Optional, Sequence

from .setup import argument_parser

# Of the arguments that a demo shares with other programs: those of other runs, and their defaults.
_OF_OTHER_RUNS = {
    "eval_only": False,
    "ensemble": [],
    "allow_random_weights": False,
    "num_gpus": 1,
    "num_machines": 1,
}


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
    refuse_other_runs(parser, args)
    if "OUTPUT_DIR" not in args.opts:
        stem = os.path.splitext(os.path.basename(args.config_file))[0]
        folder = name if args.config_file == config_file else stem
        args.opts += ["OUTPUT_DIR", os.path.join("output", folder)]
    return args


def refuse_other_runs(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where a flag asks for another run: a demo trains a model in one process."""
    for name, default in _OF_OTHER_RUNS.items():
        if getattr(args, name) != default:
            flag = "--" + name.replace("_", "-")
            parser.error(f"{flag} has no effect here: a demo trains a model in one process")
