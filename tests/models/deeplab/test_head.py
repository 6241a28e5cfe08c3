"""What DeepLab v3's heads do with logits."""

from typing import Mapping

import pytest
import torch
from torch import Tensor

from deeplab2_d2.models.deeplab.head import SemanticSegmentationHead


class _GivenLogits(SemanticSegmentationHead):
    def __init__(self, stride: int, **loss: float):
        super().__init__(loss=loss)
        self.stride = stride

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        return features["logits"]


def test_pixels_that_features_are_centered_on_keep_their_logits() -> None:
    logits = torch.arange(6.0).view(1, 1, 2, 3)
    output, losses = _GivenLogits(stride=4).eval()({"logits": logits})
    assert losses == {}
    assert output.shape == (1, 1, 8, 12)
    assert torch.equal(output[:, :, ::4, ::4], logits)
    # Halfway between 0 and 1; beyond the last center its value is repeated.
    assert output[0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2]
    assert torch.equal(output[0, 0, 4], output[0, 0, 7])


def test_loss_is_the_mean_over_labelled_pixels() -> None:
    # Two classes, logits equal: every labelled pixel costs log 2, the ignored one nothing.
    head = _GivenLogits(stride=1, loss_weight=3.0).train()
    targets = torch.tensor([[[0, 1], [255, 1]]])
    _, losses = head({"logits": torch.zeros(1, 2, 2, 2)}, targets)
    assert losses["loss_sem_seg"].item() == pytest.approx(3.0 * 0.6931472)


def test_top_k_keeps_the_hardest_pixels() -> None:
    # Costs: log(1 + e^-2) = 0.1269 for the right side, log(1 + e^2) = 2.1269 for the wrong one.
    logits = torch.tensor([[[[2.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    targets = torch.tensor([[[0, 1], [0, 0]]])
    _, losses = _GivenLogits(stride=1, loss_top_k=0.25).train()({"logits": logits}, targets)
    assert losses["loss_sem_seg"].item() == pytest.approx(2.126928, abs=1e-5)


def test_training_needs_targets() -> None:
    with pytest.raises(ValueError, match="targets must be given in training"):
        _GivenLogits(stride=1).train()({"logits": torch.zeros(1, 2, 2, 2)})


def test_top_k_is_a_part() -> None:
    with pytest.raises(ValueError, match=r"loss_top_k must be in \(0, 1\], got 0"):
        _GivenLogits(stride=1, loss_top_k=0.0)
