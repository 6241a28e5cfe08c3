#!/usr/bin/env python
"""
Fuzz every reader for some minutes, each in a process of its own, and print how it ended.

    python tests/fuzz/run.py [TARGET ...] [--minutes N] [--seed N]

A finding leaves its folder under build/fuzz/TARGET, with the changed file in it.
"""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (Path(__file__).parent, ROOT / "tests", ROOT / "tests/checkpoint"):
    sys.path.insert(0, str(folder))

EXAMPLES_A_ROUND = 200


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the readers of files from elsewhere.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all of them together")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--alone", action="store_true", help="one target, in this process")
    return parser.parse_args()


def fuzz(name: str, seconds: float, seed: int) -> None:
    """Rounds of examples until the time is over; counts go to the standard output."""
    import hypothesis
    from fuzzing import prepare, try_example
    from targets import TARGETS

    target, end = TARGETS[name], time.monotonic() + seconds
    folder = ROOT / "build" / "fuzz" / name
    shutil.rmtree(folder, ignore_errors=True)
    prepare(name, folder)
    settings = hypothesis.settings(
        max_examples=EXAMPLES_A_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        while time.monotonic() < end:

            @hypothesis.seed(seed)
            @settings
            @hypothesis.given(example=target.examples(folder))
            def round_of_examples(example):
                if time.monotonic() < end:
                    prepare(name, folder)
                    try_example(target, folder, *example)

            round_of_examples()
            seed += 1
    finally:
        print(json.dumps(target.counts), flush=True)


def main() -> int:
    args = parse_arguments()
    # It makes Detectron2 importable, which the targets import.
    importlib.import_module("deeplab2_d2")
    from targets import TARGETS

    names = args.targets or list(TARGETS)
    unknown = set(names) - set(TARGETS)
    if unknown:
        print(f"targets must be of {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
        return 2
    seed = int(time.time()) if args.seed is None else args.seed
    seconds = 60 * args.minutes / len(names)
    if args.alone:
        fuzz(names[0], seconds, seed)
        return 0
    failed = []
    print(f"{'reader':16}{'examples':>10}{'read':>10}{'refused':>10}  finding", flush=True)
    for name in names:
        options = ["--minutes", str(seconds / 60), "--seed", str(seed), "--alone"]
        command = [sys.executable, __file__, name, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = done.stdout.splitlines()
        counts = json.loads(lines[-1]) if lines else {"read": 0, "refused": 0}
        finding = ""
        if done.returncode != 0:
            failed.append(name)
            finding = f"exit status {done.returncode}, build/fuzz/{name}"
        total = sum(counts.values())
        print(f"{name:16}{total:10}{counts['read']:10}{counts['refused']:10}  {finding}", flush=True)
        print(done.stderr[-6000:] if finding else "", end="", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
