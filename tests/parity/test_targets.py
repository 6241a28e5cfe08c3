"""Targets, resizing and augmentation equal Google's DeepLab2."""

from pathlib import Path
from typing import List

import pytest
from parity.cases import Case, read_cases
from parity.check import check_case

# All but seven cases of the golden set.
_COPY = Path(__file__).parent / "data" / "targets"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "targets"


def _failures(cases: List[Case]) -> List[str]:
    results = [result for case in cases for result in check_case(case)]
    assert len(results) >= len(cases)
    return [f"{r.case} {r.output}: {r.error} {r.note}" for r in results if r.status != "ok"]


@pytest.mark.parametrize("case", read_cases(str(_COPY)), ids=lambda case: case.name)
def test_a_stored_case_equals_the_reference(case: Case) -> None:
    assert _failures([case]) == []


@pytest.mark.skipif(not _SHARED.is_dir(), reason="no ../shared/parity/targets beside the clone")
def test_every_case_of_the_golden_set_equals_the_reference() -> None:
    assert _failures(read_cases(str(_SHARED))) == []
