"""Stitching of hand-made pairs; the numbers of DeepLab2 are in tests/parity."""

import pytest
import torch
from torch import Tensor

from deeplab2_d2.video import stitch


def _row(*labels: int) -> Tensor:
    return torch.tensor([labels], dtype=torch.int32)


def test_segments_that_overlap_most_take_over_the_number() -> None:
    pair = _row(301, 301, 301, 302, 302, 200, -1)
    own = _row(307, 307, 305, 305, 305, 200, -1)
    # 301 and 307: 2 of 3. 302 and 305: 2 of 3. 301 and 305: 1 of 5.
    expected = _row(301, 301, 302, 302, 302, 200, -1)
    assert torch.equal(stitch(pair, own, label_divisor=100), expected)


def test_a_best_partner_that_has_a_better_one_is_none() -> None:
    pair = _row(301, 301, 301, 301, 301, 301)
    own = _row(304, 304, 304, 304, 305, 305)
    expected = _row(301, 301, 301, 301, 355, 355)
    assert torch.equal(stitch(pair, own, label_divisor=100), expected)


def test_another_class_is_no_partner_and_void_none_at_all() -> None:
    pair, own = _row(301, 301, -1, -1), _row(401, 401, 302, 302)
    assert torch.equal(stitch(pair, own, label_divisor=100), _row(451, 451, 352, 352))


def test_numbers_stay_below_the_divisor() -> None:
    with pytest.raises(ValueError, match=r"must be below .* = 50, got 50"):
        stitch(_row(301), _row(350), label_divisor=100)
    assert stitch(_row(-1), _row(350), label_divisor=100, number_offset=49).item() == 399
