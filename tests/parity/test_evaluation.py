"""Metrics equal those of Google's DeepLab2."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

_COPY = Path(__file__).parent / "data" / "evaluation"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "evaluation"
_FOLDER = _SHARED if _SHARED.is_dir() else _COPY


@pytest.mark.parametrize("case", read_cases(str(_FOLDER)), ids=lambda case: case.name)
def test_metric_equals_the_reference(case):
    results = check_case(case)
    assert results
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
