"""Networks of DeepLab before DeepLab2 equal their authors' code, weights by the set's rule."""

from pathlib import Path

import pytest
from parity.cases import read_cases
from parity.check import check_case

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity"

# One of each kind; the command runs them all.
_CASES = (
    "slim_networks/xception_71_os8_multi_grid",
    "slim_networks/deeplab_v3plus_xception_65_multi_scale_flip",
    "slim_networks/deeplab_v3plus_xception_71_dpc_os16",
    "caffe_networks/deeplab_v1_msc_largefov",
    "caffe_networks/deeplab_v1_largefov_even",
    "caffe_networks/deeplab_v2_resnet101_caffe_msc",
)


@pytest.mark.skipif(not _SHARED.is_dir(), reason="no ../shared/parity beside the clone")
@pytest.mark.parametrize("name", _CASES)
def test_network_equals_the_authors_own(name: str) -> None:
    results = [r for case in read_cases(str(_SHARED / name)) for r in check_case(case)]
    assert results
    assert [f"{r.output}: {r.error} {r.note}" for r in results if r.status != "ok"] == []
