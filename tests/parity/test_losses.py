"""Losses and their gradients equal Google's DeepLab2."""

from pathlib import Path

import pytest
from parity.adapters import losses as adapter
from parity.cases import read_cases
from parity.check import check_case

from deeplab2_d2.ops import linear_assignment

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
@pytest.mark.parametrize(
    "form, solver", [("plain", None), ("plain", linear_assignment), ("lean", linear_assignment)]
)
def test_every_form_and_solver_equals_the_reference(case, form, solver, monkeypatch):
    monkeypatch.setattr(adapter, "FORM", form)
    monkeypatch.setattr(adapter, "SOLVER", solver)
    results = check_case(case)
    assert results
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
