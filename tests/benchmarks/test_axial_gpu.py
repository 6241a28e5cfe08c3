"""The peers of the operator that a GPU times compute what it computes."""

import pytest
import torch
from bench_axial_gpu import (
    attend,
    attend_with_map,
    attend_with_tables,
    flex_attention,
    make_inputs,
)


@pytest.mark.parametrize("peer", [attend_with_map, attend_with_tables])
def test_peer_gives_the_operators_result(peer):
    if peer is attend_with_tables and flex_attention is None:
        pytest.skip("FlexAttention needs PyTorch 2.5")
    tensors = make_inputs(2, 3, 7, 2, (4, 5), dtype=torch.float64, device="cpu")
    torch.testing.assert_close(peer(*tensors), attend(*tensors))


def test_gradients_of_the_peer_with_a_map_are_the_operators():
    tensors = make_inputs(1, 2, 6, 2, (3, 4), dtype=torch.float64, device="cpu")

    def gradients(attention):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        return torch.autograd.grad(attention(*leaves).square().sum(), leaves)

    for ours, theirs in zip(gradients(attend), gradients(attend_with_map)):
        torch.testing.assert_close(ours, theirs)
