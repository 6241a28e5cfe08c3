"""From the command line to a frozen, checked config."""

import argparse
import logging
from typing import Any, Callable

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_argument_parser

from ..config import add_deeplab2_config, merge_config_file, validate_config
from ..data.user_code import add_register_argument, register_user_modules
from ..records import find_record
from .config_error import ConfigError, explain
from .logs import start_logs
from .preflight import check_run

logger = logging.getLogger(__name__)

# Keys of Detectron2 that our solver does not read, and what decides instead.
IGNORED_SOLVER_KEYS = {
    "SOLVER.LR_SCHEDULER_NAME": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.STEPS": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.GAMMA": "SOLVER.DEEPLAB2.SCHEDULE",
    "SOLVER.BIAS_LR_FACTOR": "nothing: biases learn as all weights do",
    "SOLVER.NESTEROV": "nothing: momentum is never Nesterov's",
}
# Those of them that the schedule "step" reads.
STEP_KEYS = ("SOLVER.STEPS", "SOLVER.GAMMA")
# Those that our backbones do not read.
IGNORED_BACKBONE_KEYS = {
    "MODEL.BACKBONE.FREEZE_AT": "nothing: every layer learns, MODEL.DEEPLAB2.NORM.NAME may be "
    "FrozenBN",
    "MODEL.RESNETS.DEPTH": "MODEL.DEEPLAB2.BACKBONE.NAME",
}
# Those that our mappers do not read.
IGNORED_INPUT_KEYS = {
    "INPUT.MIN_SIZE_TRAIN": "INPUT.DEEPLAB2.RESIZE_RANGE",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.DEEPLAB2.RESIZE_RANGE",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "INPUT.DEEPLAB2.SCALES",
    "INPUT.CROP.TYPE": "INPUT.CROP.SIZE, which is in pixels",
}
# What a key without effect may say beside its default, because it is what is done.
_TRUE_VALUES = {"INPUT.CROP.TYPE": "absolute"}


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


def load_config(config_file: str = "", overrides: "list[str] | None" = None) -> CfgNode:
    """
    Detectron2's defaults and ours, then a file, then overrides; checked, not frozen.

    Args:
        config_file: a YAML file, or "" for the defaults.
        overrides: ``[KEY, VALUE, KEY, VALUE, ...]``.

    Raises:
        ConfigError: naming the file, the key and the rule that is broken.
    """
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    try:
        if config_file:
            merge_config_file(cfg, config_file)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        message = explain(error, cfg)
        prefix = "" if message.startswith(config_file) else f"{config_file}: "
        raise ConfigError(f"config file {prefix}{message}") from error
    overrides = list(overrides or [])
    try:
        cfg.merge_from_list(overrides)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        words = " ".join(map(str, overrides))
        raise ConfigError(f"config override {words}: {explain(error, cfg)}") from error
    try:
        validate_config(cfg)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{config_file or 'the defaults'}: {explain(error, cfg)}") from error
    return cfg


def setup(args: argparse.Namespace, prepare: "Callable[[CfgNode], None] | None" = None) -> CfgNode:
    """
    Load the config that the arguments name, freeze it, check the run and start the logs.

    What can be known beforehand is refused before anything is written; see :func:`check_run`. The
    config as a whole, its file and the environment go to ``OUTPUT_DIR/log.txt``, and a few lines to
    the screen.

    Args:
        args: from :func:`argument_parser`.
        prepare: called with the config before the run is checked, as to generate its dataset.

    Raises:
        ConfigError: see :func:`load_config` and :func:`check_run`.
    """
    register_user_modules(args.register)
    cfg = load_config(args.config_file, args.opts)
    cfg.freeze()
    if prepare is not None:
        prepare(cfg)
    check_run(cfg, trains=not args.eval_only, resume=args.resume)
    start_logs(cfg, args)
    warn_of_ignored_keys(cfg)
    return cfg


def warn_of_ignored_keys(cfg: CfgNode) -> None:
    """Name the keys without effect that are not at Detectron2's default."""
    defaults, ignored = get_cfg(), dict(IGNORED_SOLVER_KEYS)
    if cfg.SOLVER.DEEPLAB2.SCHEDULE == "step":
        ignored = {key: instead for key, instead in ignored.items() if key not in STEP_KEYS}
    record = find_record(cfg)
    has_mapper = record is not None and record.build_mapper is not None
    if record is not None and has_mapper and not record.has_detectron2_input:
        ignored.update(IGNORED_INPUT_KEYS)
    if cfg.MODEL.BACKBONE.NAME == "build_deeplab2_backbone":
        ignored.update(IGNORED_BACKBONE_KEYS)
    for key, instead in ignored.items():
        value = _look_up(cfg, key)
        if value not in (_look_up(defaults, key), _TRUE_VALUES.get(key)):
            logger.warning(
                "config key %s has no effect on %s (got %r); see %s",
                key,
                cfg.MODEL.META_ARCHITECTURE,
                value,
                instead,
            )


def _look_up(cfg: CfgNode, key: str) -> Any:
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node
