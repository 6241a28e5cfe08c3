import math

import pytest
import torch

from deeplab2_d2.losses import soft_cross_entropy, stride_to_size, topk_cross_entropy

LOG2 = math.log(2.0)


def _two_class_logits(*differences):
    """(1, 2, 1, L): the loss of class 0 is log(1 + exp(difference))."""
    second = torch.tensor(differences)
    return torch.stack([torch.zeros_like(second), second])[None, :, None]


def test_ignored_pixels_count_neither_in_the_sum_nor_in_the_divisor():
    logits = _two_class_logits(0.0, 100.0, 0.0)
    labels = torch.tensor([[[0, 255, 1]]])
    loss = topk_cross_entropy(logits, labels, None, ignore_label=255)
    torch.testing.assert_close(loss, torch.tensor([LOG2]))


def test_weight_is_applied_before_the_hardest_pixel_is_chosen():
    # Losses log 2 (weight 3) and about 1 (weight 1): the first is the hardest once weighted.
    logits = _two_class_logits(0.0, 0.541)
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    weights = torch.tensor([[[3.0, 1.0]]])
    loss = topk_cross_entropy(logits, labels, weights, ignore_label=255, top_k_percent=0.5)
    torch.testing.assert_close(loss, torch.tensor([3 * LOG2]))


def test_one_hot_labels_equal_integer_labels():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, 4)
    labels = torch.randint(5, (2, 3, 4))
    one_hot = torch.nn.functional.one_hot(labels, 5).movedim(-1, 1).float()
    expected = topk_cross_entropy(logits, labels, None, ignore_label=None, top_k_percent=0.4)
    actual = topk_cross_entropy(logits, one_hot, None, ignore_label=None, top_k_percent=0.4)
    torch.testing.assert_close(actual, expected)


def test_all_zero_label_has_no_loss_but_tensorflows_gradient():
    logits = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    loss = soft_cross_entropy(logits, torch.zeros(1, 3))
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), torch.zeros(1))
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1))


def test_labels_may_be_larger_by_a_whole_stride():
    # Rows 0, 2 and columns 0, 2, 4 of the labels decide: all 1; the others are 0.
    labels = torch.zeros(1, 3, 5, dtype=torch.int64)
    labels[:, ::2, ::2] = 1
    logits = torch.zeros(1, 2, 2, 3)
    logits[:, 1] = 50.0
    assert topk_cross_entropy(logits, labels, None, ignore_label=255).tolist() == [0.0]


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (5, 9), (1, 1)])
def test_stride_that_is_not_whole_or_not_common_is_refused(size):
    with pytest.raises(ValueError, match="strides? |whole"):
        stride_to_size(torch.zeros(1, 4, 5), size)


def test_half_precision_logits_are_computed_in_float32_under_autocast():
    logits = torch.tensor([[[[30000.0]], [[0.0]]]], dtype=torch.float16)
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    weights = torch.full((1, 1, 1), 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = topk_cross_entropy(logits, labels, weights, ignore_label=255)
    # 90000 does not fit float16.
    assert loss.dtype == torch.float32
    assert loss.tolist() == [90000.0]


@pytest.mark.parametrize("is_soft", [False, True])
def test_gradients_are_right_for_logits_and_weights(is_soft):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 2, 3, dtype=torch.float64) + 0.5
    weights.requires_grad_()
    labels = torch.randint(3, (2, 2, 3))
    if is_soft:
        labels = torch.softmax(torch.randn(2, 3, 2, 3, dtype=torch.float64), 1)

    def loss(logits, weights):
        return topk_cross_entropy(logits, labels, weights, ignore_label=None, top_k_percent=0.5)

    assert torch.autograd.gradcheck(loss, (logits, weights))


def test_misfitting_labels_and_weights_are_named():
    logits = torch.zeros(1, 2, 3, 3)
    labels = torch.zeros(1, 3, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="labels must be"):
        topk_cross_entropy(logits, labels.repeat(2, 1, 1), None, ignore_label=255)
    with pytest.raises(ValueError, match="weights must be"):
        topk_cross_entropy(logits, labels, torch.ones(2, 3, 3), ignore_label=255)
