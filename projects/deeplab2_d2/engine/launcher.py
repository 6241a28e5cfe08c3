"""Start one or several processes, and run what the command line asks for in each."""

import argparse
import multiprocessing
import os
import signal
import sys
from types import FrameType
from typing import Any, Callable, Dict, Optional

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from ..allocation import keep_freed_memory
from ..command import run_command
from .dry_evaluation import count_processes, dry_evaluation
from .dry_run import dry_run
from .setup import ConfigError, setup
from .testing import evaluate
from .trainer import DeepLab2Trainer


def run(args: argparse.Namespace) -> Optional[Dict[str, Any]]:
    """
    Train, or only evaluate, in this process, or try once what that would do.

    Args:
        args: from :func:`deeplab2_d2.engine.argument_parser`.

    Returns:
        The evaluators' results (of the last evaluation); None if there was none.
    """
    if args.ensemble and not args.eval_only:
        raise ConfigError("--ensemble needs --eval-only: models are trained one by one")
    if args.dry_run:
        return _run_dry(args)
    cfg = setup(args)
    if args.eval_only:
        return evaluate(
            cfg,
            resume=args.resume,
            ensemble=args.ensemble,
            allow_random_weights=args.allow_random_weights,
        )
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    # Detectron2's train() returns them only where TEST.EXPECTED_RESULTS are given.
    return getattr(trainer, "_last_eval_results", None)


def _run_dry(args: argparse.Namespace) -> Dict[str, Any]:
    count = count_processes(args)
    if args.eval_only:
        return dry_evaluation(
            setup(args),
            resume=args.resume,
            ensemble=args.ensemble,
            allow_random_weights=args.allow_random_weights,
        )
    return dry_run(setup(args), resume=args.resume, num_processes=count)


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """
    Run ``main(args)`` in every process of the job.

    Under ``torchrun`` the processes exist already and are joined to a process group (nccl with a
    GPU for each, else gloo). Otherwise Detectron2's launcher starts one for each GPU.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _run_under_torchrun(main, args)
    if args.num_gpus * args.num_machines <= 1 or getattr(args, "dry_run", False):
        return main(args)
    count = torch.cuda.device_count()
    if args.num_gpus > count:
        raise ConfigError(
            f"--num-gpus must be at most {count}, the GPUs of this machine, got {args.num_gpus}; "
            "torchrun starts several processes without one"
        )
    return _start_processes(main, args)


def _start_processes(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """A process a GPU. Each tells its own error; this one waits for what a signal lets them do."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, _hand_on)
    try:
        detectron2_launch(
            _Process(main),
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        raise SystemExit(error.exit_code if error.exit_code > 0 else 1) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hand_on(number: int, frame: Optional[FrameType]) -> None:
    """SIGTERM to the processes, which a terminal's Ctrl-C reaches anyway; Ctrl-C again ends all."""
    for process in multiprocessing.active_children():
        process.terminate()
    signal.signal(signal.SIGINT, _end_all)


def _end_all(number: int, frame: Optional[FrameType]) -> None:
    for process in multiprocessing.active_children():
        process.kill()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class _Process:
    """What a started process runs: ``main``, to a line and a status where it cannot go on."""

    def __init__(self, main: Callable[[argparse.Namespace], Any]):
        self._main = main

    def __call__(self, args: argparse.Namespace) -> None:
        keep_freed_memory()
        status = run_command(os.path.basename(sys.argv[0]), self._main, args)
        if status != 0:
            sys.exit(status)


def _run_under_torchrun(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    local_rank = int(os.environ["LOCAL_RANK"])
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    has_gpu_each = torch.cuda.is_available() and torch.cuda.device_count() >= local_size
    if has_gpu_each:
        torch.cuda.set_device(local_rank)
    # Both where there are GPUs: MODEL.DEVICE may say cpu all the same.
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpu_each else "gloo")
    _create_local_process_group(local_size)
    try:
        comm.synchronize()
        return main(args)
    finally:
        dist.destroy_process_group()


def _create_local_process_group(local_size: int) -> None:
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    # Release 0.6 has no function for it: its launcher sets the same variable.
    for first in range(0, dist.get_world_size(), local_size):
        ranks = list(range(first, first + local_size))
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
