"""What holds for every test: seeds are set, a GPU test is skipped (with a reason) where none is."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# Figures are written to files, never shown.
os.environ.setdefault("MPLBACKEND", "Agg")
# Processes that tests start (check.py, train_net.py) find the package as this process does.
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[1] / "projects")
if _PACKAGE_ROOT not in sys.path:
    sys.path.insert(0, _PACKAGE_ROOT)

# The same examples in every run, and no limit that a busy machine would break.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items):
    # Files with slow tests first, so that no process waits for the last of them.
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeds():
    """Every test starts from the same random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
