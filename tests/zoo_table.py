"""
Write the tables of docs/zoo.md: the published models, their scores and their costs.

    python tests/zoo_table.py [--check] [--count] [--time NAME ...]

Scores are the release's. Costs are kept in tests/zoo_costs.json. Parameters and multiply-adds of
models that it lacks are counted, of all with ``--count``: on the meta device, without weights or a
download, in a minute. ``--time`` measures named models, with random weights, which compute as long.
With ``--check`` nothing is written, and the exit status is 1 if the page would change.
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
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from deeplab2_d2.checkpoint import build_meta_model
from deeplab2_d2.checkpoint.zoo import get_config
from deeplab2_d2.checkpoint.zoo_table import (
    PRETRAINED,
    ZooRow,
    find_row,
    short_names,
    zoo_rows,
)

_ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = _ROOT / "docs" / "zoo.md"
COSTS = Path(__file__).with_name("zoo_costs.json")
# Behind what DeepLab2's own evaluation gave, where nothing else is published.
_OWN = "\\*"


class Costs(NamedTuple):
    """
    Attributes:
        size: (height, width) of the network's input.
        parameters, multiply_adds: as docs/backbones.md counts them.
        seconds: of a thread, for an image; None where they were not measured.
    """

    size: Tuple[int, int]
    parameters: int
    multiply_adds: int
    seconds: Optional[float] = None


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
    Table("semantic", ("mIoU",), lambda row: row.task == "semantic segmentation"),
    Table("imagenet", ("top-1 accuracy",), lambda row: row.model == PRETRAINED),
)


def published_score(row: ZooRow, score: str) -> str:
    """A score of the release: by the official script where it says so, else as it is published."""
    for origin in ("official", "published", "deeplab2"):
        scores = row.scores.get(origin, {})
        for key in (score, f"val {score}"):
            if key in scores:
                return _digits(scores[key]) + (_OWN if origin == "deeplab2" else "")
        if score == "top-1 accuracy" and "top-1 error" in scores:
            return _digits(100 - scores["top-1 error"])
    return ""


def _digits(score: float) -> str:
    """As published, with one digit at least."""
    return f"{score:.1f}" if abs(score - round(score, 1)) < 1e-9 else f"{score:g}"


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
        _network(model)(images)
    parameters = sum(p.numel() for p in model.parameters())
    return Costs(size, parameters, counter.get_total_flops() // 2)


def _network(model: Any) -> nn.Module:
    """Backbone and head; of Detectron2's ``SemanticSegmentor`` as of our models."""
    if hasattr(model, "network"):
        return model.network
    return nn.Sequential(model.backbone, model.sem_seg_head)


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


class CostFile:
    """What is kept of all models: the machine that the times are of, and costs by name."""

    def __init__(self, path: Path = COSTS):
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._path = path
        self.machine: str = kept.get("machine", "no machine")
        models = kept.get("models", {})
        self.models = {
            name: Costs(tuple(entry["size"]), *(entry[key] for key in Costs._fields[1:]))
            for name, entry in models.items()
        }

    def count(self, rows: Sequence[ZooRow]) -> None:
        """Count models anew; their times stay."""
        for row in rows:
            seconds = self.models[row.name].seconds if row.name in self.models else None
            self.models[row.name] = count_costs(row)._replace(seconds=seconds)
            print(f"{row.name}: {self.models[row.name]}", flush=True)

    def measure(self, row: ZooRow) -> None:
        """Measure a model that was counted; other weights of its network take as long."""
        self.machine = _machine()
        self.keep_seconds(row.name, round(measure_seconds(row), 2))

    def keep_seconds(self, name: str, seconds: float) -> None:
        """Of a model, and of those of the same size of input, parameters and multiply-adds."""
        network = self.models[name]._replace(seconds=None)
        for other, costs in self.models.items():
            if costs._replace(seconds=None) == network:
                self.models[other] = costs._replace(seconds=seconds)
                print(f"{other}: {seconds} s", flush=True)

    def write(self) -> None:
        # A line a model.
        models = [
            f'  "{name}": {json.dumps(costs._asdict())}'
            for name, costs in sorted(self.models.items())
        ]
        head = f'{{\n "machine": {json.dumps(self.machine)},\n "models": {{\n'
        text = head + ",\n".join(models) + "\n }\n}\n"
        self._path.write_text(text, encoding="utf-8")


def _machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    name = cpu[1].strip() if cpu else platform.processor()
    return f"{name}, PyTorch {torch.__version__.partition('+')[0]}"


def table_row(row: ZooRow, table: Table, costs: Optional[Costs]) -> List[str]:
    """Cells of a row: what it is, its scores, its costs."""
    scores = [published_score(row, score) for score in table.scores]
    if row.config is None or costs is None:
        return [_names(row), row.backbone, row.dataset, *scores]
    note = f" ({row.note.rstrip('.')})" if row.note else ""
    return [
        _names(row),
        f"{row.model}, {row.backbone}{note}",
        f"[config](../configs/{row.config})",
        *scores,
        "{} x {}".format(*costs.size),
        f"{costs.parameters / 1e6:.1f} M",
        f"{costs.multiply_adds / 1e9:.0f} B",
        "" if costs.seconds is None else f"{costs.seconds:.1f} s",
    ]


def _names(row: ZooRow) -> str:
    """The short name, if there is one, and the row's own."""
    short = [name for name, full in short_names().items() if full == row.name]
    return "<br>".join(f"`{name}`" for name in (*short, row.name))


def table_header(table: Table) -> List[str]:
    if table.name == "imagenet":
        return ["`NAME`", "backbone", "images", *table.scores]
    costs = ("input", "parameters", "M-Adds", "CPU time")
    return ["`NAME`", "model", "config", *table.scores, *costs]


def render(text: str, costs: CostFile) -> str:
    """The document with new tables between their marks."""
    for table in TABLES:
        rows = [
            table_row(row, table, costs.models.get(row.name))
            for row in zoo_rows()
            if table.has(row)
        ]
        block = tabulate(rows, table_header(table), tablefmt="github", disable_numparse=True)
        text = _replace(text, table.name, block)
    return _replace(text, "machine", f"{costs.machine}.")


def _replace(text: str, name: str, content: str) -> str:
    mark = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
    text, count = re.subn(mark, lambda m: m[1] + content + m[2], text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{DOCUMENT} must have one table called {name!r}, got {count}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables of docs/zoo.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it would change")
    parser.add_argument("--count", action="store_true", help="count all models anew")
    parser.add_argument(
        "--time", nargs="+", default=[], metavar="NAME", help="measure these models"
    )
    args = parser.parse_args()
    costs = CostFile()
    models = [row for row in zoo_rows() if row.config]
    costs.count([row for row in models if args.count or row.name not in costs.models])
    before = DOCUMENT.read_text(encoding="utf-8")
    if args.check:
        return int(before != render(before, costs))
    for name in args.time:
        costs.measure(find_row(name))
    costs.write()
    DOCUMENT.write_text(render(before, costs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
