"""docs/errors.md tells what programs say: each mistake of its table, made again."""

import os
import subprocess
import sys
from pathlib import Path

import error_table
import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lines():
    return error_table.error_lines()


def test_every_mistake_ends_in_one_line_without_a_traceback(lines):
    for mistake, (status, said) in lines.items():
        assert status in (1, 2), mistake
        assert "Traceback" not in "\n".join(said), (mistake, said)
        # Before the line there is at most the table of weights that do not fit.
        assert len(said) == 1 or "weights" in mistake.title, (mistake, said)
        program = mistake.command.replace("-m deeplab2_d2.data.", "").split()[0]
        name = program.rpartition("/")[2] if program != "-m" else "checkpoint"
        assert said[-1].startswith(f"{name}: "), (mistake, said)


def test_the_page_shows_these_lines():
    # By itself: names that are near a misspelt one are those that a process has registered.
    environment = {**os.environ, "PYTHONPATH": str(_ROOT / "projects")}
    command = [sys.executable, error_table.__file__, "--check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
