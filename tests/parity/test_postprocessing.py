"""Panoptic labels equal Google's DeepLab2."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

_COPY = Path(__file__).parent / "data" / "postprocessing"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "postprocessing"
_FOLDER = _SHARED if _SHARED.is_dir() else _COPY


@pytest.mark.parametrize("case", read_cases(str(_FOLDER)), ids=lambda case: case.name)
def test_panoptic_labels_equal_the_reference(case):
    if case.is_informational:
        pytest.skip(case.row["note"])
    results = check_case(case)
    assert results
    if {result.status for result in results} == {"not ported"}:
        pytest.skip(f"{case.name} is not ported")
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
