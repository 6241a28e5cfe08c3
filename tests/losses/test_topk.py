import pytest
import torch

from deeplab2_d2.losses import average_top_k, count_top_k


def test_fraction_of_pixels_is_rounded_half_to_even_in_float32():
    # 0.15 * 425 = 63.75; 0.5 * 5 = 2.5 and 0.5 * 7 = 3.5 are halves.
    assert count_top_k(425, 0.15) == 64
    assert count_top_k(5, 0.5) == 2
    assert count_top_k(7, 0.5) == 4
    assert count_top_k(7, 1.0) == 7


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_fraction_outside_the_unit_interval_is_refused(fraction):
    with pytest.raises(ValueError, match=r"top_k_percent must be in \[0, 1\]"):
        average_top_k(torch.ones(1, 4), fraction)


def test_largest_losses_are_chosen_within_each_image():
    # Half of four: 3 and 4 of the first, 30 and 40 of the second image.
    losses = torch.tensor([[1.0, 4.0, 3.0, 2.0], [10.0, 40.0, 30.0, 20.0]]).reshape(2, 2, 2)
    assert average_top_k(losses, 0.5).tolist() == [3.5, 35.0]


def test_mean_counts_nonzero_losses_only():
    # Six and two over two non-zero elements, not over four.
    assert average_top_k(torch.tensor([[6.0, 0.0, 2.0, 0.0]])).tolist() == [4.0]
    # The three largest are 6, 2 and a zero, which is not counted either.
    assert average_top_k(torch.tensor([[6.0, 0.0, 2.0, 0.0]]), 0.75).tolist() == [4.0]


def test_image_without_any_loss_has_loss_zero_and_gradient_zero():
    losses = torch.zeros(1, 3, requires_grad=True)
    mean = average_top_k(losses * 0.0)
    mean.sum().backward()
    assert mean.tolist() == [0.0]
    assert losses.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_no_kept_element_gives_zero():
    assert average_top_k(torch.ones(2, 4), 0.0).tolist() == [0.0, 0.0]
