"""Drop path that grows over a training."""

import torch

from deeplab2_d2.layers import GrowingDropPath


def test_it_drops_nothing_at_first_and_its_whole_share_at_the_end() -> None:
    layer, images = GrowingDropPath(0.5).train(), torch.ones(4000, 1, 2, 2)
    assert torch.equal(layer(images), images)
    torch.manual_seed(0)
    # Kept: 1 - 400 / 800 * (1 - 0.5) = 0.75, then 0.5; the mean stays.
    for iteration, keep_prob in ((400, 0.75), (800, 0.5), (2000, 0.5)):
        layer.follow(iteration, 800)
        dropped = layer(images)
        values = dropped.flatten(1)
        assert torch.equal(values.amin(1), values.amax(1))  # Whole samples.
        torch.testing.assert_close(values.unique(), torch.tensor([0.0, 1.0 / keep_prob]))
        # Within four standard deviations of a mean of 4000 samples.
        deviation = (keep_prob * (1 - keep_prob) / 4000) ** 0.5
        assert abs((values[:, 0] > 0).float().mean().item() - keep_prob) < 4 * deviation
    assert torch.equal(layer.eval()(images), images)
    assert layer.state_dict() == {}
