import importlib.util
from pathlib import Path

import pytest

import deeplab2_d2  # noqa: F401  (makes Detectron2 importable, before a test imports it)

PARITY = Path(__file__).parents[2] / ".." / "shared" / "parity"


@pytest.fixture(scope="session")
def rule_weight():
    """The reference data's rule for weights: (key, shape) to values."""
    spec = importlib.util.spec_from_file_location("parity_rule", PARITY / "rule.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.weight
