"""Whole networks equal Google's DeepLab2, weights and inputs made by the golden set's rule."""

from pathlib import Path
from typing import List

import pytest
from parity.cases import read_cases
from parity.check import check_case

_COPY = Path(__file__).parent / "data" / "networks"
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "networks"

# One of each kind of network; the command runs them all.
_SHARED_CASES = (
    "panoptic_resnet50_se_standard_conv",
    "panoptic_resnet50_os8",
    "panoptic_resnet50_semseg_only",
)


def _failures(folder: Path) -> List[str]:
    results = [result for case in read_cases(str(folder)) for result in check_case(case)]
    assert results
    return [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"]


def test_mobilenet_panoptic_deeplab_equals_the_reference() -> None:
    assert _failures(_COPY / "panoptic_mobilenet_v3_small_narrow") == []


@pytest.mark.skipif(not _SHARED.is_dir(), reason="no ../shared/parity/networks beside the clone")
@pytest.mark.parametrize("name", _SHARED_CASES)
def test_network_equals_the_reference(name: str) -> None:
    assert _failures(_SHARED / name) == []
