"""From the command line to a frozen, checked config."""

import argparse
import contextlib
from typing import Any, Callable, Iterator, Sequence

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_argument_parser

from ..config import (
    add_deeplab2_config,
    merge_config_file,
    merge_config_text,
    validate_config,
)
from ..data.user_code import add_register_argument, register_user_modules
from .config_error import ConfigError, explain
from .ignored_keys import warn_of_ignored_keys
from .logs import start_logs
from .preflight import check_run
from .run_lock import lock_output_dir


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's usual arguments (``--config-file``, ``--eval-only``, ``--resume``, ...)."""
    parser = default_argument_parser()
    parser.add_argument(
        "--ensemble",
        action="append",
        default=[],
        metavar="[CONFIG=]WEIGHTS",
        help="with --eval-only: a further model, averaged with the first one's predictions",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train one step and evaluate an image, to see that a training would not fail later; "
        "writes nothing to OUTPUT_DIR",
    )
    add_random_weights_flag(parser)
    add_register_argument(parser)
    return parser


def add_random_weights_flag(parser: argparse.ArgumentParser) -> None:
    """The flag of all programs that use a trained model."""
    parser.add_argument(
        "--allow-random-weights",
        action="store_true",
        help="use a model although MODEL.WEIGHTS leave some of its weights random",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """KEY VALUE ... at the end (``opts``), and behind ``--opts`` (``further_opts``)."""
    parser.add_argument(
        "--opts",
        dest="further_opts",
        nargs=argparse.REMAINDER,
        default=[],
        help="config overrides, too: KEY VALUE ...",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides: KEY VALUE ...")


def load_config(config_file: str = "", overrides: "Sequence[Any] | None" = None) -> CfgNode:
    """
    Detectron2's defaults and ours, then a file, then overrides; checked, not frozen.

    Args:
        config_file: a YAML file, or "" for the defaults.
        overrides: ``[KEY, VALUE, KEY, VALUE, ...]``.

    Raises:
        ConfigError: naming the file, the key and the rule that is broken.
    """
    cfg = _defaults()
    if config_file:
        with _explained(cfg, config_file):
            merge_config_file(cfg, config_file)
    return override_config(cfg, overrides, config_file or "the defaults")


def config_of_text(text: str, source: str) -> CfgNode:
    """
    Detectron2's defaults and ours, then the text of a config; not frozen.

    Args:
        text: YAML.
        source: where it comes from.

    Raises:
        ConfigError: see :func:`load_config`.
    """
    cfg = _defaults()
    with _explained(cfg, source):
        merge_config_text(cfg, text, source)
    return cfg


def override_config(
    cfg: CfgNode, overrides: "Sequence[Any] | None", source: str = "the config"
) -> CfgNode:
    """
    Merge overrides into a config, in place, and check all of it.

    Args:
        cfg: not frozen.
        overrides: see :func:`load_config`.
        source: where the config comes from, for errors.

    Raises:
        ConfigError: see :func:`load_config`.
    """
    overrides = list(overrides or [])
    try:
        cfg.merge_from_list(overrides)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        words = " ".join(map(str, overrides))
        raise ConfigError(f"config override {words}: {explain(error, cfg)}") from error
    try:
        validate_config(cfg)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        # Within lists, Detectron2 lets values of every type pass.
        raise ConfigError(f"{source}: {explain(error, cfg)}") from error
    return cfg


def _defaults() -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    return cfg


@contextlib.contextmanager
def _explained(cfg: CfgNode, source: str) -> Iterator[None]:
    """Errors of merging a file into a config as those that name it."""
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        message = explain(error, cfg)
        prefix = "" if message.startswith(source) else f"{source}: "
        raise ConfigError(f"config file {prefix}{message}") from error


def setup(args: argparse.Namespace, prepare: "Callable[[CfgNode], None] | None" = None) -> CfgNode:
    """
    Load the config that the arguments name, freeze it, check the run and start the logs.

    What can be known beforehand is refused before anything is written; see :func:`check_run`. The
    config as a whole, its file and the environment go to ``OUTPUT_DIR/log.txt``, and a few lines to
    the screen; of a dry run, nowhere.

    Args:
        args: from :func:`argument_parser`.
        prepare: called with the config before the run is checked, as to generate its dataset.

    Raises:
        ConfigError: see :func:`load_config`, :func:`check_run` and :func:`lock_output_dir`.
    """
    register_user_modules(args.register)
    cfg = load_config(args.config_file, args.opts)
    cfg.freeze()
    if prepare is not None:
        prepare(cfg)
    check_run(cfg, trains=not args.eval_only, resume=args.resume)
    if not getattr(args, "dry_run", False):
        lock_output_dir(cfg.OUTPUT_DIR)
        start_logs(cfg, args)
    warn_of_ignored_keys(cfg)
    return cfg
