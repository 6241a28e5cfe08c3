#!/usr/bin/env python
"""
Fuzz every reader for some minutes, each in a process of its own, and print how it ended.

    python tests/fuzz/run.py [TARGET ...] [--minutes N] [--seed N]

A finding leaves its folder under build/fuzz/TARGET, with the changed file in it.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Dict

ROOT = Path(__file__).resolve().parents[2]
for folder in (Path(__file__).parent, ROOT / "tests", ROOT / "tests/checkpoint"):
    sys.path.insert(0, str(folder))

EXAMPLES_A_ROUND = 50


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the readers of files from elsewhere.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all of them together")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    return parser.parse_args()


def fuzz(name: str, seconds: float, seed: int, log: Path) -> None:
    """Rounds of examples until the time is over; counts and the finding go to the log."""
    import hypothesis
    from fuzzing import prepare, try_example
    from targets import TARGETS

    target, end = TARGETS[name], time.monotonic() + seconds
    folder = ROOT / "build" / "fuzz" / name
    settings = hypothesis.settings(
        max_examples=EXAMPLES_A_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    finding = ""
    while time.monotonic() < end and not finding:

        @hypothesis.seed(seed)
        @settings
        @hypothesis.given(example=target.examples(name))
        def round_of_examples(example):
            # What the example before has left there is put back.
            prepare(name, folder)
            try_example(target, folder, *example)

        try:
            round_of_examples()
        except Exception:
            finding = traceback.format_exc()
        seed += 1
        # Written each time: a process that dies has said how far it came.
        log.write_text(json.dumps({**target.counts, "finding": finding}))


def fuzz_in_process(name: str, seconds: float, seed: int) -> Dict[str, Any]:
    """Counts of a target; its finding is empty if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        child = os.fork()
        if child == 0:
            fuzz(name, seconds, seed, log)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = json.loads(log.read_text()) if log.exists() else {"read": 0, "refused": 0}
        if status != 0:
            found["finding"] = f"the process ended with {os.waitstatus_to_exitcode(status)}"
        return found


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
    print(f"seed {seed}")
    print(f"{'reader':16}{'examples':>10}{'read':>10}{'refused':>10}", flush=True)
    findings = 0
    for name in names:
        found = fuzz_in_process(name, 60 * args.minutes / len(names), seed)
        counts = found["read"], found["refused"]
        print(f"{name:16}{sum(counts):10}{counts[0]:10}{counts[1]:10}", flush=True)
        if found.get("finding"):
            findings += 1
            print(f"FINDING, in build/fuzz/{name}:\n{found['finding']}", flush=True)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
