"""Measuring in a process of its own, for what cannot be taken back: how malloc keeps memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

from measuring import Measurement


def measure_apart(program: str, call: Dict[str, Any], *, threads: int) -> Measurement:
    """
    Args:
        program: a file that takes ``call`` as JSON and prints a measurement's values as JSON last.
        call, threads: see :func:`run_apart`.
    """
    return Measurement(**run_apart(program, call, threads=threads))


def run_apart(program: str, call: Dict[str, Any], *, threads: int) -> Any:
    """
    Args:
        program: a file that takes ``call`` as JSON and prints JSON last.
        call: what to measure.
        threads: of the process.

    Returns:
        what it has printed last.
    """
    # The modules that tests and benchmarks share, too.
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, program, json.dumps({**call, "threads": threads})]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def answer(measurement: Measurement) -> None:
    """What such a program ends with."""
    print(json.dumps(vars(measurement)))
