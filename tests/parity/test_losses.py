"""Losses and their gradients equal Google's DeepLab2."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

from deeplab2_d2.ops import use_reference

_COPY = Path(__file__).parent / "data" / "losses"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "losses"
_FOLDER = _SHARED if _SHARED.is_dir() else _COPY


@pytest.mark.parametrize("case", read_cases(str(_FOLDER)), ids=lambda case: case.name)
def test_loss_and_gradient_equal_the_reference(case):
    results = check_case(case)
    assert results
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []


@pytest.mark.parametrize(
    "case",
    [case for case in read_cases(str(_FOLDER)) if case.name.startswith(("max_", "hungarian_"))],
    ids=lambda case: case.name,
)
def test_the_operators_references_equal_the_reference(case):
    with use_reference():
        results = check_case(case)
    assert results
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
