"""
Write the table of docs/memory.md: the memory that training MaX-DeepLab takes, by crop and batch.

    python tests/memory_table.py [--device cuda]

It is counted, without a GPU, which takes half an hour; with ``--device cuda`` it is measured there
and only printed.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from tabulate import tabulate

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
from detectron2.config import CfgNode
from training_memory import TrainingStep, count_training_memory, make_samples

from deeplab2_d2.checkpoint.convert import load_config

_ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = _ROOT / "docs" / "memory.md"
_CONFIGS = _ROOT / "configs" / "COCO-PanopticSegmentation"
_NETWORKS: Tuple[Tuple[str, str], ...] = (
    ("MaX-DeepLab-S", "max_deeplab_S_os16_poly_100k_bs64_crop_641_641"),
    ("MaX-DeepLab-S", "max_deeplab_S_os16_poly_100k_bs64_crop_1025_1025"),
    ("MaX-DeepLab-L", "max_deeplab_L_os16_poly_100k_bs64_crop_1025_1025"),
)
_ALL_KINDS = ["basic", "bottleneck", "axial", "transformer"]
MODES: Dict[str, Dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"SOLVER.AMP.ENABLED": True},
    "bfloat16, checkpointed": {
        "SOLVER.AMP.ENABLED": True,
        "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.CHECKPOINTED_KINDS": _ALL_KINDS,
    },
}
_BATCHES = (1, 2)
HEADERS = (
    *("network", "crop", "mode", "weights, gradients, Adam", "1 image", "2 images"),
    "each further image",
)


def table_config(leaf: str, mode: str, device: str = "cpu") -> CfgNode:
    """A leaf's config in a mode of the table."""
    cfg = load_config(str(_CONFIGS / f"{leaf}.yaml"))
    cfg.merge_from_list([item for pair in MODES[mode].items() for item in pair])
    cfg.MODEL.DEVICE = device
    return cfg


def memory_row(name: str, leaf: str, mode: str) -> List[str]:
    """One line of the table."""
    cfg = table_config(leaf, mode)
    height, width = cfg.INPUT.CROP.SIZE
    one, two = (count_training_memory(cfg, (height, width), batch) for batch in _BATCHES)
    cells = [one.state, one.peak, two.peak, two.peak - one.peak]
    return [name, f"{height} x {width}", mode] + [f"{cell / 2**30:.1f} GiB" for cell in cells]


def measured_row(name: str, leaf: str, mode: str) -> List[str]:
    """The same, measured on a GPU."""
    cfg = table_config(leaf, mode, "cuda")
    height, width = cfg.INPUT.CROP.SIZE
    peaks = []
    for batch in _BATCHES:
        step = TrainingStep(cfg, make_samples(cfg, (height, width), batch))
        state = torch.cuda.memory_allocated()
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        peaks.append(torch.cuda.max_memory_allocated())
        del step
    cells = [state, *peaks, peaks[1] - peaks[0]]
    return [name, f"{height} x {width}", mode] + [f"{cell / 2**30:.1f} GiB" for cell in cells]


def format_table(rows: List[List[str]]) -> str:
    return tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of docs/memory.md.")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    row = memory_row if args.device == "cpu" else measured_row
    rows = []
    for name, leaf in _NETWORKS:
        for mode in MODES:
            rows.append(row(name, leaf, mode))
            print(" | ".join(rows[-1]), flush=True)
    if args.device == "cpu":
        text = DOCUMENT.read_text(encoding="utf-8")
        mark = r"(<!-- table: memory -->\n).*?(\n<!-- end -->)"
        table = format_table(rows)
        text = re.sub(mark, lambda match: match[1] + table + match[2], text, flags=re.DOTALL)
        DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
