"""HRNet and Panoptic-DeepLab on it equal the PyTorch repositories that published their weights."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "torch_networks"
# One of each kind; the command runs them all.
_CASES = ("hrnet_w18", "panoptic_hrnet_w48")


@pytest.mark.skipif(not _SHARED.is_dir(), reason="no ../shared/parity/torch_networks")
@pytest.mark.parametrize("name", _CASES)
def test_network_equals_the_reference(name: str) -> None:
    (case,) = read_cases(str(_SHARED / name))
    results = check_case(case)
    assert results and case.group == "torch_networks"
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
