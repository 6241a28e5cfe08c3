#!/usr/bin/env python
"""
Run the benchmarks of this folder and print one table.

Every file ``bench_*.py`` has a function ``rows(args)`` that yields dicts, one for each line:
    name           what was measured, with the size of its input
    measurement    a `measuring.Measurement`
    peer           what it is compared with (optional)
    peer_seconds   the peer's median, measured in the same run (optional)
It gets the arguments below, and measures on ``args.device`` with ``args.repeats`` repeats. On a
machine that does other work, ``--threads 1 --clock process`` counts the processor's time alone.
"""

import argparse
import importlib
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List

import torch
from measuring import CLOCKS, choose_clock

COLUMNS = ("name", "median", "fastest", "peak memory", "peer", "peer's median", "ratio")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the operators and the networks.")
    parser.add_argument("only", nargs="*", help="names of benchmarks (bench_NAME.py); default: all")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=5, help="timed calls; their median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", default="wall", choices=tuple(CLOCKS), help="on the CPU")
    parser.add_argument("--quick", action="store_true", help="small inputs, to try the programs")
    return parser.parse_args()


def machine(args: argparse.Namespace) -> str:
    """One line: the processor (or GPU), threads, and versions."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    if args.device == "cuda":
        name = f"{torch.cuda.get_device_name()} (CUDA {torch.version.cuda}), {name}"
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    clock = "" if args.clock == "wall" else f", {args.clock} time"
    return f"{name}, {args.threads} threads{clock}, {versions}"


def format_seconds(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def format_row(row: Dict[str, Any]) -> List[str]:
    """Texts of one line, by COLUMNS. A ratio above 1 means that the peer is slower than we are."""
    ours, peer = row["measurement"], row.get("peer_seconds")
    return [
        row["name"],
        format_seconds(ours.seconds),
        format_seconds(ours.fastest),
        "-" if ours.peak_bytes is None else f"{ours.peak_bytes / 2**20:.0f} MiB",
        row.get("peer", "-"),
        "-" if peer is None else format_seconds(peer),
        "-" if peer is None else f"{peer / ours.seconds:.2f}x",
    ]


def main() -> None:
    args = parse_arguments()
    # Modules that tests and benchmarks share.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # It makes Detectron2 importable, which some benchmarks import first.
    ours = importlib.import_module("deeplab2_d2")
    # As our programs do; what peers run is in the same process.
    is_kept = args.device == "cpu" and ours.keep_freed_memory()
    torch.set_num_threads(args.threads)
    choose_clock(args.clock)
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("bench_*.py"))
    wanted = [name for name in names if not args.only or name[len("bench_") :] in args.only]
    unknown = set(args.only) - {name[len("bench_") :] for name in names}
    if unknown:
        sys.exit(f"no benchmark is called {sorted(unknown)}; there are {names}")
    print(machine(args) + (", freed memory is kept" if is_kept else ""))
    print(" | ".join(COLUMNS))
    for name in wanted:
        for row in importlib.import_module(name).rows(args):
            print(" | ".join(format_row(row)), flush=True)


if __name__ == "__main__":
    main()
