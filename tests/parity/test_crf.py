"""Mean field equals brute force, and on a lattice is as near to it as DeepLab's library."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

_COPY = Path(__file__).parent / "data" / "crf"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "crf"
_FOLDER = _SHARED if _SHARED.is_dir() else _COPY


@pytest.mark.parametrize("case", read_cases(str(_FOLDER)), ids=lambda case: case.name)
def test_marginals_are_those_of_the_reference(case):
    results = check_case(case)
    assert {result.output for result in results} >= {
        "out/exact_after",
        "out/exact_symmetric",
        "permutohedral/pydensecrf_after",
        "permutohedral/pydensecrf_symmetric",
    }
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
