"""The bytes of an operator's inputs and outputs, against their sizes by hand."""

import pytest
import torch
from kernel_floors import OperatorTraffic

from deeplab2_d2.ops import upsampled_cross_entropy
from deeplab2_d2.ops.extension import has_kernels


@pytest.mark.skipif(
    not has_kernels("upsampled_cross_entropy", "cpu"), reason="the operators are not built"
)
def test_traffic_is_inputs_and_outputs():
    logits = torch.randn(1, 19, 5, 9)
    labels, weights = torch.zeros(1, 17, 33, dtype=torch.int64), torch.ones(1, 17, 33)
    with torch.no_grad(), OperatorTraffic() as traffic:
        losses = upsampled_cross_entropy(logits, labels, weights, ignore_label=255)
        torch.relu(losses)
    moved = traffic.bytes["upsampled_cross_entropy"]
    assert list(traffic.bytes) == ["upsampled_cross_entropy"]
    # float32 logits, int64 labels, float32 weights and losses.
    assert moved == 4 * 19 * 5 * 9 + (8 + 4 + 4) * 17 * 33
