"""
Write the table of docs/memory.md: the memory that training a mask transformer takes, by crop and
batch.

    python tests/memory_table.py [--network NAME] [--device cuda]

It is counted, without a GPU, which takes half an hour; with ``--network`` the rows of one network
alone, while the others stay. With ``--device cuda`` it is measured there and only printed.
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
    ("kMaX-DeepLab-R50", "kmax_deeplab_R_50_os32_poly_150k_bs64_crop_1281_1281"),
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


def replace_rows(page: str, rows: List[List[str]]) -> str:
    """The page with the rows of the networks that are given; its other rows stay."""
    mark = r"(<!-- table: memory -->\n)(.*?)(\n<!-- end -->)"
    found = re.search(mark, page, flags=re.DOTALL)
    if found is None:
        raise ValueError(f"{DOCUMENT} must have a table between <!-- table: memory --> and end")
    names = {row[0] for row in rows}
    lines = found[2].splitlines()[2:]
    kept = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    order = [name for name, _ in _NETWORKS]
    # Sorting keeps the order of the rows of a network.
    table = sorted(
        [*(row for row in kept if row[0] not in names), *rows], key=lambda row: order.index(row[0])
    )
    return page[: found.start(2)] + format_table(table) + page[found.end(2) :]


def format_table(rows: List[List[str]]) -> str:
    return tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of docs/memory.md.")
    parser.add_argument("--network", choices=sorted(dict(_NETWORKS)), help="default: all")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    row = memory_row if args.device == "cpu" else measured_row
    rows = []
    for name, leaf in _NETWORKS:
        if args.network not in (None, name):
            continue
        for mode in MODES:
            rows.append(row(name, leaf, mode))
            print(" | ".join(rows[-1]), flush=True)
    if args.device == "cpu":
        text = replace_rows(DOCUMENT.read_text(encoding="utf-8"), rows)
        DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
