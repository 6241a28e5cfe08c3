"""`scripts/setup_env.sh` ends with one clear sentence for everything that a machine may lack."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def set_up(venv, **variables):
    without = {"PYTHON", "SYSTEM_SITE", "DETECTRON2_SPEC", "PYTHONPATH", "PIP_FIND_LINKS"}
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment.update(VENV=str(venv), PYTHON=sys.executable, CXX="bash")
    # Nothing here may reach the network, or what this machine's pip is told.
    environment.update(PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    environment.update(variables)
    result = subprocess.run(
        ["bash", str(REPOSITORY / "scripts" / "setup_env.sh")],
        capture_output=True,
        text=True,
        env=environment,
    )
    return result.returncode, result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "variables, sentence",
    [
        ({"PYTHON": "no-such-python"}, "PYTHON=no-such-python is not a Python 3.11 or 3.12."),
        ({"CXX": "no-such-compiler"}, "A C++ compiler (no-such-compiler) is needed and not on"),
    ],
)
def test_missing_tool_is_named_before_anything_is_made(tmp_path, variables, sentence):
    status, last_line = set_up(tmp_path / "venv", **variables)
    assert status == 1
    assert last_line.startswith(f"setup: {sentence}")
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 12)), reason="the environment is for 3.11 and 3.12"
)
def test_unreachable_download_is_named_and_leaves_no_stamp(tmp_path):
    venv = tmp_path / "venv"
    for _ in range(2):  # the second run must not believe in what the first one left
        status, last_line = set_up(venv)
        assert status == 1
        assert last_line.startswith("setup: pip==24.0 could not be downloaded: check the network")
        assert list(venv.glob(".*stamp")) == []
