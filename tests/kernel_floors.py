"""
What each operator must at least move, and how long that takes a GPU.

    python tests/kernel_floors.py

Counts the bytes of the tensors that an operator is given and of those that it returns, each once,
in the calls that the benchmarks time. A kernel that reads a map twice, or writes something between,
moves more: what is measured on a GPU (``make gpu-bench``) is to be held against this.
"""

import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).with_name("benchmarks")))

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
import bench_axial_gpu
import bench_postprocessing
import bench_slots

from deeplab2_d2.losses import average_top_k
from deeplab2_d2.ops import axial_attention, upsampled_cross_entropy
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers

# Bytes a second: what an H100 and an H200 reach of their memory's 3.35 and 4.8 TB/s.
_RATES = {"3.0 TB/s (H100)": 3.0e12, "4.3 TB/s (H200)": 4.3e12}
_PREFIX = "deeplab2_d2::"


class OperatorTraffic(TorchDispatchMode):
    """Attributes: bytes: operator to the bytes of its inputs and outputs, of all its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name()
        if name.startswith(_PREFIX):
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            name = name[len(_PREFIX) :]
            self.bytes[name] = self.bytes.get(name, 0) + moved
        return result


def calls() -> List[Tuple[str, Callable[[], Any]]]:
    """Words and call of each line's computation, on the CPU."""
    size = (1025, 2049)
    maps = make_maps(size)
    options = {**bench_postprocessing.OPTIONS, "nms_kernel": 13, "top_k_centers": 400}

    def post_process(with_probability: bool) -> Any:
        return panoptic_from_centers(
            **maps,
            frames=Frames.unpadded(size),
            with_probability=with_probability,
            **options,
        )

    logits = torch.randn(1, 19, 257, 513).requires_grad_()
    labels, weights = torch.randint(19, (1, *size)), torch.ones(1, *size)

    def lose() -> Any:
        losses = upsampled_cross_entropy(logits, labels, weights, ignore_label=255)
        return torch.autograd.grad(average_top_k(losses, 0.2).sum(), logits)

    slot_size = (641, 641)
    slots = bench_slots.make_inputs(slot_size, "cpu")
    found: List[Tuple[str, Callable[[], Any]]] = [
        ("post-processing, 1025x2049x19", lambda: post_process(False)),
        ("post-processing with scores, 1025x2049x19", lambda: post_process(True)),
        ("top-k cross-entropy and gradient, 1025x2049x19", lose),
    ]
    for mode in ("pixelwise", "maskwise"):
        found.append(
            (
                f"{mode} map of 128 slots, 641x641",
                lambda mode=mode: bench_slots.post_process(  # type: ignore[misc]
                    slots, slot_size, mode, output_size=slot_size
                ),
            )
        )
    sequences = bench_axial_gpu.make_inputs(
        1, 65, 129, 8, (16, 32), dtype=torch.float32, device="cpu"
    )
    table = torch.randn(257, 32)

    def attend() -> Any:
        raw, *parameters = sequences
        leaves = [tensor.requires_grad_() for tensor in (raw, *parameters, table)]
        retrieved = axial_attention(*leaves, value_depth=256, retrieve_content=True, span=None)
        return torch.autograd.grad(retrieved.sum(), leaves)

    found.append(("axial attention of stage 3 and gradient, 129 x 65", attend))
    return found


def make_maps(size: Tuple[int, int]) -> Dict[str, Tensor]:
    """A network's maps at stride 4, of 40 instances."""
    low = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    return bench_postprocessing.make_prediction(1, 19, low, 40, noise=0.3)


def table() -> str:
    lines = []
    for words, call in calls():
        with OperatorTraffic() as traffic:
            call()
        for operator, moved in traffic.bytes.items():
            floors = [f"{moved / rate * 1e6:.1f} us" for rate in _RATES.values()]
            lines.append([words, f"`{operator}`", f"{moved / 1e6:.2f} MB", *floors])
            words = ""
    headers = ["call", "operator", "least traffic", *_RATES]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    print(table())
