"""Batch norm's moving statistics and special cases."""

import pytest
import torch

from deeplab2_d2.layers import Norm

# Two channels; the first holds 0, 2, 4, 6: mean 3, variance 5 (biased) or 20 / 3 (unbiased).
_FEATURES = torch.tensor([[0.0, 2.0], [4.0, 6.0]]).view(1, 1, 2, 2).repeat(1, 2, 1, 1)


@pytest.mark.parametrize(
    "name, is_biased, variance",
    [("BN", False, 20 / 3), ("BN", True, 5.0), ("SyncBN", False, 5.0)],
)
def test_moving_variance_is_biased_where_tensorflows_is(
    name: str, is_biased: bool, variance: float
) -> None:
    layer = Norm(name, momentum=0.1).build(2, is_biased=is_biased).train()
    layer(_FEATURES)
    assert layer.running_mean.tolist() == pytest.approx([0.3, 0.3])
    assert layer.running_var.tolist() == pytest.approx([0.9 + 0.1 * variance] * 2)


def test_single_value_is_normalised_to_the_bias() -> None:
    layer = Norm("BN", momentum=0.1).build(2).train()
    layer.bias.data.copy_(torch.tensor([1.0, -2.0]))
    features = torch.tensor([5.0, 7.0]).view(1, 2, 1, 1).requires_grad_()
    output = layer(features)
    assert output.flatten().tolist() == [1.0, -2.0]
    output.sum().backward()
    assert features.grad.abs().sum() == 0 and layer.bias.grad.tolist() == [1.0, 1.0]
    assert layer.running_mean.tolist() == pytest.approx([0.5, 0.7])
    assert layer.running_var.tolist() == pytest.approx([0.9, 0.9])


def test_frozen_batch_norm_learns_nothing() -> None:
    layer = Norm("FrozenBN").build(2).train()
    assert list(layer.parameters()) == []
    # Detectron2's starts with a variance of 1 - epsilon, so as the identity.
    torch.testing.assert_close(layer(_FEATURES), _FEATURES)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="norm name must be one of .*, got 'GN'"):
        Norm("GN")
