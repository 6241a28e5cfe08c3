"""Single layers equal Google's DeepLab2, weights made by the golden set's rule."""

from pathlib import Path
from typing import List

import pytest
from parity.cases import Case, read_cases
from parity.check import check_case

_COPY = Path(__file__).parent / "data" / "layers"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "layers"

# Of the kMaX networks' backbones, which are not here.
_NOT_PORTED = ("MOATBlock", "MBConvBlock", "ConvNeXtBlock")


def _cases() -> List[Case]:
    folder = _SHARED if _SHARED.is_dir() else _COPY
    cases = read_cases(str(folder))
    return [case for case in cases if case.row["target"].rpartition(".")[2] not in _NOT_PORTED]


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.name)
def test_layer_equals_the_reference(case: Case) -> None:
    results = check_case(case)
    assert results
    failures = [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"]
    assert failures == []
