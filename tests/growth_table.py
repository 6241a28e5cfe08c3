"""
Measure how the cost of post-processing, attention and a network grows; write docs/growth.md.

    OMP_NUM_THREADS=1 python tests/growth_table.py [--repeats N] [--quick] [--output FOLDER]

Each table varies one thing and holds the others. ``growth.png`` beside the page draws each cost
over what it grows with, both relative to the first line, beside proportion.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from tabulate import tabulate

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).with_name("benchmarks")))

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # isort: skip
from bench_forms import CONFIGS, NETWORKS
from bench_postprocessing import OPTIONS
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from measuring import measure
from operator_inputs import make_prediction, make_slots
from run import format_seconds, machine

from deeplab2_d2.layers import AttentionSpec, AxialAttention, Norm
from deeplab2_d2.postprocessing import (
    Frames,
    SlotOptions,
    panoptic_from_centers,
    panoptic_from_mask_slots,
)

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_NETWORK = "Panoptic-DeepLab, MobileNetV3-L"
Size = Tuple[int, int]


class Case(NamedTuple):
    """
    Attributes:
        words: of the line.
        amount: what the cost is divided by.
        call: what is measured.
    """

    words: str
    amount: float
    call: Callable[[], Any]


class Growth(NamedTuple):
    """
    Attributes:
        title: of the table.
        unit: of a case's amount.
        cases: each made when it is measured.
    """

    title: str
    unit: str
    cases: Iterator[Case]


def growths(is_quick: bool) -> List[Growth]:
    """All tables; quick ones leave out what takes long."""
    street = (257, 513) if is_quick else (1025, 2049)
    sides = (129, 257) if is_quick else (513, 1025, 2049, 4097)
    networks = [(65, 129), (129, 257)]
    if not is_quick:
        networks = [(257, 513), (513, 1025), (1025, 2049), (2049, 4097)]
    title = "Post-processing with scores, 19 classes"
    words = f"{street[0]} x {street[1]}"
    return [
        Growth(f"{title}, 40 instances: image", "megapixel", _images(sides)),
        Growth(f"{title}, {words}: instances", "instance", _instances(street)),
        Growth(f"{title}, 40 instances, 513 x 1025: batch", "image", _batches(is_quick)),
        Growth("Mask slots to a panoptic map, 641 x 641: slots", "slot", _slots(is_quick)),
        Growth(
            "Axial attention, 65 sequences, 256 channels, 8 heads, forward: length",
            "pixel",
            _lengths(is_quick),
        ),
        Growth(f"The network of {_NETWORK}: image", "megapixel", _networks(networks)),
    ]


def _centers(size: Size, num_instances: int, num_images: int = 1) -> Callable[[], Any]:
    low = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    maps = make_prediction(num_images, 19, low, num_instances, noise=0.3)
    options = {**OPTIONS, "nms_kernel": 13, "top_k_centers": 400}
    return lambda: panoptic_from_centers(**maps, frames=Frames.unpadded(size), **options)


def _images(sides: Sequence[int]) -> Iterator[Case]:
    for side in sides:
        yield Case(f"{side} x {side}", side**2 / 1e6, _centers((side, side), 40))


def _instances(size: Size) -> Iterator[Case]:
    for count in (1, 10, 40, 100, 200, 400):
        yield Case(str(count), count, _centers(size, count))


def _batches(is_quick: bool) -> Iterator[Case]:
    size = (129, 257) if is_quick else (513, 1025)
    for count in (1, 2, 4, 8):
        yield Case(str(count), count, _centers(size, 40, count))


def _slots(is_quick: bool) -> Iterator[Case]:
    side = 129 if is_quick else 641
    low, frames = ((side - 1) // 4 + 1,) * 2, Frames.unpadded((side, side))
    for count in (16, 32, 64, 128, 256):
        masks, class_logits = (2 * values for values in make_slots(1, count, 133, low))

        def call(masks: Any = masks, class_logits: Any = class_logits) -> Any:
            return panoptic_from_mask_slots(
                *(masks, class_logits, frames),
                thing_ids=range(80),
                label_divisor=1000,
                options=SlotOptions(),
            )

        yield Case(str(count), count, call)


def _lengths(is_quick: bool) -> Iterator[Case]:
    for length in (17, 33) if is_quick else (17, 33, 65, 129, 257):
        torch.manual_seed(0)
        layer = AxialAttention(
            *(256,), key_depth=128, value_depth=256, spec=AttentionSpec(), norm=Norm("BN")
        ).eval()
        features = torch.randn(1, 256, length, 65)

        def call(layer: Any = layer, features: Any = features) -> Any:
            with torch.inference_mode():
                return layer(features)

        yield Case(str(length), length, call)


def _networks(sizes: Sequence[Size]) -> Iterator[Case]:
    cfg = get_cfg()
    deeplab2_d2.add_deeplab2_config(cfg)
    cfg.merge_from_file(str(CONFIGS / NETWORKS[_NETWORK][0]))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    for size in sizes:
        images = torch.randn(1, 3, *size)

        def call(images: Any = images) -> Any:
            with torch.inference_mode():
                return model.predict(images)

        yield Case(f"{size[0]} x {size[1]}", size[0] * size[1] / 1e6, call)


def _measure(growth: Growth, repeats: int) -> Tuple[List[float], List[float], str]:
    """Amounts, seconds, and the table."""
    amounts, seconds, lines = [], [], []
    for case in growth.cases:
        found = measure(case.call, repeats=repeats)
        amounts.append(case.amount)
        seconds.append(found.seconds)
        memory = "-" if found.peak_bytes is None else f"{found.peak_bytes / 2**20:.0f} MiB"
        per_unit = format_seconds(found.seconds / case.amount)
        lines.append([case.words, format_seconds(found.seconds), per_unit, memory])
        print(growth.title, *lines[-1], sep=" | ", flush=True)
    what = growth.title.rpartition(": ")[2]
    headers = [what, "time", f"time a {growth.unit}", "memory beside the inputs"]
    return amounts, seconds, tabulate(lines, headers=headers, tablefmt="github")


def _draw(curves: Sequence[Tuple[str, List[float], List[float]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 5), layout="constrained")
    for title, amounts, seconds in curves:
        times = [value / amounts[0] for value in amounts]
        axes.plot(times, [value / seconds[0] for value in seconds], marker="o", label=title)
    most = max(amounts[-1] / amounts[0] for _, amounts, _ in curves)
    axes.plot([1, most], [1, most], color="grey", linestyle=":", label="in proportion")
    axes.set(xscale="log", yscale="log", xlabel="times the first line's", ylabel="times its time")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small inputs, to try the program")
    parser.add_argument("--output", type=Path, default=_DOCS, help="folder to write in")
    args = parser.parse_args()
    deeplab2_d2.keep_freed_memory()
    args.device, args.threads, args.clock = "cpu", torch.get_num_threads(), "wall"
    text = (
        "# How the cost grows\n\n"
        f"Written by `OMP_NUM_THREADS={args.threads} python tests/growth_table.py` on "
        f"{machine(args)}; medians.\n"
        "A cost that grows in proportion has a constant third column.\n\n"
        "![costs over what they grow with, relative to the first line of each table](growth.png)\n"
    )
    curves = []
    for growth in growths(args.quick):
        amounts, seconds, table = _measure(growth, args.repeats)
        curves.append((growth.title.replace(", 19 classes", ""), amounts, seconds))
        text += f"\n## {growth.title.rpartition(': ')[0]}\n{table}\n"
    _draw(curves, args.output / "growth.png")
    (args.output / "growth.md").write_text(text)


if __name__ == "__main__":
    main()
