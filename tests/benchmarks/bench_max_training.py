"""
A training step of MaX-DeepLab: time and peak memory, beside the bytes of its tensors.

On a CPU of the narrow network that overfits two images; on a GPU of MaX-DeepLab-S at 641x641 in the
modes of docs/memory.md. A call's memory is what it adds to weights, gradients and Adam's state. The
tensors are counted as in that document; what is beyond them, the kernels take.
"""

import argparse
from typing import Any, Dict, Iterator, Tuple

import torch
from detectron2.config import CfgNode
from measuring import measure
from memory_table import MODES, table_config
from training_memory import TrainingStep, count_training_memory, make_samples

_NARROW = "max_deeplab_tiny_os16_overfit_bs2_crop_433_641"
_SMALL = "max_deeplab_S_os16_poly_100k_bs64_crop_641_641"


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """``--quick`` takes small crops."""
    if args.device == "cpu":
        size = (161, 161) if args.quick else (433, 641)
        yield _row("narrow MaX-DeepLab", table_config(_NARROW, "float32"), size, 2, args)
        return
    size = (161, 161) if args.quick else (641, 641)
    for mode in MODES:
        cfg = table_config(_SMALL, mode, args.device)
        yield _row(f"MaX-DeepLab-S, {mode}", cfg, size, 2, args)


def _row(
    name: str, cfg: CfgNode, size: Tuple[int, int], batch: int, args: argparse.Namespace
) -> Dict[str, Any]:
    on_cpu = cfg.clone()
    on_cpu.MODEL.DEVICE = "cpu"
    count = count_training_memory(on_cpu, size, batch)
    torch.manual_seed(0)
    step = TrainingStep(cfg, make_samples(cfg, size, batch))
    counted = f"{(count.peak - count.state) / 2**20:.0f} MiB of tensors"
    return {
        "name": f"{name}, training step, {batch} x {size[0]}x{size[1]}: {counted}",
        "measurement": measure(step, repeats=args.repeats, device=args.device),
    }
