"""Start one or several processes, and run what the command line asks for in each."""

import argparse
import os
from typing import Any, Callable, Dict, Optional

import torch
import torch.distributed as dist
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm

from .setup import ConfigError, setup
from .testing import evaluate
from .trainer import DeepLab2Trainer


def run(args: argparse.Namespace) -> Optional[Dict[str, Any]]:
    """
    Train, or only evaluate, in this process.

    Args:
        args: from :func:`deeplab2_d2.engine.argument_parser`.

    Returns:
        The evaluators' results (of the last evaluation); None if there was none.
    """
    if args.ensemble and not args.eval_only:
        raise ConfigError("--ensemble needs --eval-only: models are trained one by one")
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


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """
    Run ``main(args)`` in every process of the job.

    Under ``torchrun`` the processes exist already and are joined to a process group (nccl with a
    GPU for each, else gloo). Otherwise Detectron2's launcher starts one for each GPU.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _run_under_torchrun(main, args)
    return detectron2_launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


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
