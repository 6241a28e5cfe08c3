"""
Write the tables of docs/zoo.md: the published models, their scores and their costs.

    python tests/zoo_table.py [--check] [--time NAME ...]

Scores are the release's. Parameters and multiply-adds are counted on the meta device, without
weights or a download, in two minutes. Times are those of tests/zoo_times.json; ``--time`` measures
named models anew and puts them there (with random weights, which compute as long). With ``--check``
nothing is written, and the exit status is 1 if a file would change.
"""

import argparse
import json
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from deeplab2_d2.checkpoint import build_meta_model
from deeplab2_d2.checkpoint.zoo import get_config
from deeplab2_d2.checkpoint.zoo_table import PRETRAINED, ZooRow, find_row, zoo_rows

_ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = _ROOT / "docs" / "zoo.md"
TIMES = Path(__file__).with_name("zoo_times.json")
# Behind what DeepLab2's own evaluation gave, where nothing else is published.
_OWN = "\\*"


class Costs(NamedTuple):
    """
    Attributes:
        size: (height, width) of the network's input.
        parameters, multiply_adds: as docs/backbones.md counts them.
    """

    size: Tuple[int, int]
    parameters: int
    multiply_adds: int


class Table(NamedTuple):
    """
    Attributes:
        name: of its mark in the document.
        scores: its columns.
        has: whether a row belongs to it.
    """

    name: str
    scores: Tuple[str, ...]
    has: Callable[[ZooRow], bool]


def _panoptic(dataset: str) -> Callable[[ZooRow], bool]:
    models = ("Panoptic-DeepLab", "Axial-DeepLab", "MaX-DeepLab", "kMaX-DeepLab")

    def has(row: ZooRow) -> bool:
        is_start = "crowd_trainfine" in row.name
        return row.dataset == dataset and row.model in models and not is_start

    return has


def _is_of_videos(row: ZooRow) -> bool:
    return any(word in row.dataset for word in ("STEP", "DVPS")) or "crowd_train" in row.name


_STQ_COLUMNS = ("PQ", "mIoU", "AP", "STQ", "VPQ", "AbsRel")
TABLES = (
    Table("cityscapes", ("PQ", "mIoU", "AP"), _panoptic("Cityscapes")),
    Table("coco", ("PQ", "PQ things", "PQ stuff"), _panoptic("COCO")),
    Table("ade20k", ("PQ", "PQ things", "PQ stuff", "mIoU"), _panoptic("ADE20K")),
    Table("videos", _STQ_COLUMNS, _is_of_videos),
    Table("semantic", ("mIoU",), lambda row: row.model == "DeepLab v3+"),
    Table("imagenet", ("top-1 accuracy",), lambda row: row.model == PRETRAINED),
)


def published_score(row: ZooRow, score: str) -> str:
    """A score of the release: by the official script where it says so, else as it is published."""
    for origin in ("official", "published", "deeplab2"):
        scores = row.scores.get(origin, {})
        for key in (score, f"val {score}"):
            if key in scores:
                return f"{scores[key]:g}" + (_OWN if origin == "deeplab2" else "")
    return ""


def trained_config(name: str) -> CfgNode:
    """The config of a published model, without what only training computes."""
    cfg = get_config(name, trained=True)
    cfg.MODEL.DEEPLAB2.MAX_DEEPLAB.AUXILIARY_SEMANTIC = False
    return cfg


def input_size(row: ZooRow, cfg: CfgNode) -> Tuple[int, int]:
    """(height, width) as the release says it; where it does not, those of the training crops."""
    if row.input is None:
        height, width = cfg.INPUT.CROP.SIZE
    else:
        height, width = map(int, row.input.split(" x "))
    return height, width


def count_costs(row: ZooRow) -> Costs:
    """Size, parameters and multiply-adds of a published model, nothing computed."""
    cfg = trained_config(row.name)
    model = build_meta_model(cfg).eval().requires_grad_(False)
    size = input_size(row, cfg)
    images = torch.zeros(1, len(model.pixel_mean), *size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.network(images)
    parameters = sum(p.numel() for p in model.parameters())
    return Costs(size, parameters, counter.get_total_flops() // 2)


def measure_seconds(row: ZooRow) -> float:
    """Processor seconds of one thread for an image: from its pixels to Detectron2's outputs."""
    torch.set_num_threads(1)
    cfg = trained_config(row.name)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    small = _sample(model, (65, 129))
    sample = _sample(model, input_size(row, cfg))
    with torch.inference_mode():
        model([small])
        start = time.process_time()
        model([sample])
        return time.process_time() - start


def _sample(model: Any, size: Tuple[int, int]) -> Dict[str, Any]:
    image = torch.rand(3, *size) * 255
    # Models of videos look for the neighbors that they need.
    return {"image": image, "previous_image": image, "next_image": image}


def times(path: Path = TIMES) -> Dict[str, Any]:
    """Machine, and seconds of each model that was measured."""
    return json.loads(path.read_text(encoding="utf-8"))


def update_times(names: Sequence[str]) -> None:
    """Measure models and keep their times."""
    seconds = times()["seconds"] if TIMES.is_file() else {}
    for name in names:
        seconds[name] = round(measure_seconds(find_row(name)), 2)
        print(f"{name}: {seconds[name]} s", flush=True)
        kept = {"machine": _machine(), "threads": 1, "seconds": dict(sorted(seconds.items()))}
        TIMES.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    name = cpu[1].strip() if cpu else platform.processor()
    return f"{name}, PyTorch {torch.__version__.partition('+')[0]}"


def table_row(row: ZooRow, table: Table, costs: Optional[Costs]) -> List[str]:
    """Cells of a row: what it is, its scores, its costs."""
    scores = [published_score(row, score) for score in table.scores]
    if row.config is None or costs is None:
        return [f"`{row.name}`", row.backbone, row.dataset, *scores]
    seconds = times()["seconds"].get(row.name)
    return [
        f"`{row.name}`",
        f"{row.model}, {row.backbone}",
        f"[config](../configs/{row.config})",
        *scores,
        "{} x {}".format(*costs.size),
        f"{costs.parameters / 1e6:.1f} M",
        f"{costs.multiply_adds / 1e9:.0f} B",
        "" if seconds is None else f"{seconds:.1f} s",
    ]


def table_header(table: Table) -> List[str]:
    if table.name == "imagenet":
        return ["`NAME`", "backbone", "images", *table.scores]
    costs = ("input", "parameters", "M-Adds", "CPU time")
    return ["`NAME`", "model", "config", *table.scores, *costs]


def render(text: str, costs: Callable[[ZooRow], Costs] = count_costs) -> str:
    """The document with new tables between their marks."""
    for table in TABLES:
        rows = [
            table_row(row, table, costs(row) if row.config else None)
            for row in zoo_rows()
            if table.has(row)
        ]
        block = tabulate(rows, table_header(table), tablefmt="github", disable_numparse=True)
        text = _replace(text, table.name, block)
    return _replace(text, "machine", f"{times()['machine']}, one thread")


def _replace(text: str, name: str, content: str) -> str:
    mark = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
    text, count = re.subn(mark, lambda m: m[1] + content + m[2], text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{DOCUMENT} must have one table called {name!r}, got {count}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables of docs/zoo.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it would change")
    parser.add_argument("--time", nargs="+", default=[], metavar="NAME", help="measure these models")
    args = parser.parse_args()
    update_times(args.time)
    before = DOCUMENT.read_text(encoding="utf-8")
    after = render(before)
    if args.check:
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
