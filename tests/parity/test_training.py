"""Optimizers and schedules equal those of Google's DeepLab2."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

_COPY = Path(__file__).parent / "data" / "training"


@pytest.mark.parametrize("case", read_cases(str(_COPY)), ids=lambda case: case.name)
def test_learning_rates_and_weights_equal_the_reference(case):
    results = check_case(case)
    assert {result.output for result in results} == {"out/learning_rates", "out/values"}
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
