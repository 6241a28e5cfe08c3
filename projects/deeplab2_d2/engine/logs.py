"""What goes to the screen, and what to the log of a run."""

import argparse
import contextlib
import logging
import os
import sys
from typing import Iterator, List

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..command import shows_tracebacks

logger = logging.getLogger(__name__)

_LOGGERS = ("detectron2", "fvcore", "deeplab2_d2")


def start_logs(cfg: CfgNode, args: argparse.Namespace) -> None:
    """
    Detectron2's setup of a run (logs, config.yaml, seeds), its dumps in ``log.txt`` alone.

    Args:
        cfg: the config.
        args: of Detectron2's parser.
    """
    for name in _LOGGERS:
        # Called by keyword and place as Detectron2 does, whose own calls then find them made.
        if name == "detectron2":
            setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank())
        else:
            setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name)
    # Of whoever listens at the root.
    logging.getLogger("deeplab2_d2").propagate = True
    for handler in _screens():
        handler.addFilter(_hide_traceback)
    with _quiet_screen():
        try:
            default_setup(cfg, args)
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            # As of a full disk: Detectron2 knows a handle.
            path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
            raise OSError(error.errno, error.strerror, path) from error
    _tell(cfg, args)


def _tell(cfg: CfgNode, args: argparse.Namespace) -> None:
    """The run in a few lines."""
    count = comm.get_world_size()
    device = cfg.MODEL.DEVICE if count == 1 else f"{count} processes on {cfg.MODEL.DEVICE}"
    logger.info("config: %s", args.config_file or "the defaults")
    logger.info("model: %s on %s", cfg.MODEL.META_ARCHITECTURE, device)
    tested = ", ".join(cfg.DATASETS.TEST) or "nothing"
    if getattr(args, "eval_only", False):
        logger.info("evaluates on %s", tested)
    else:
        solver, trained = cfg.SOLVER, ", ".join(cfg.DATASETS.TRAIN)
        steps = f"{solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} images"
        logger.info("trains on %s, %s; evaluates on %s", trained, steps, tested)
    if cfg.OUTPUT_DIR:
        files = [os.path.join(cfg.OUTPUT_DIR, name) for name in ("log.txt", "config.yaml")]
        logger.info("all settings and the environment: %s and %s", *files)


def _screens() -> List[logging.Handler]:
    handlers: List[logging.Handler] = []
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handlers.append(handler)
    return handlers


def _hide_traceback(record: logging.LogRecord) -> bool:
    """Whether the screen shows a record: the log keeps tracebacks, the last line says the error."""
    return record.exc_info is None or shows_tracebacks()


@contextlib.contextmanager
def _quiet_screen() -> Iterator[None]:
    levels = [(handler, handler.level) for handler in _screens()]
    for handler, _ in levels:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in levels:
            handler.setLevel(level)
