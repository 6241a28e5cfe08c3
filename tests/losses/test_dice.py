import pytest
import torch

from deeplab2_d2.losses import mask_dice_loss, mask_similarity


def test_worked_example_with_a_void_pixel():
    # Two masks, uniform softmax; the third pixel belongs to none. Each mask: overlap 0.5,
    # predicted area 1 (of two valid pixels), true area 1: 1 - (1 + 1) / (1 + 1 + 1).
    masks = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    loss = mask_dice_loss(torch.zeros(1, 2, 3), masks, torch.tensor([[1.0, 3.0]]))
    torch.testing.assert_close(loss, torch.tensor([(1 - 2 / 3) * 4]))


def test_sigmoid_treats_masks_one_by_one():
    masks = torch.tensor([[[1.0, 1.0]]])
    weights = torch.ones(1, 1)
    loss = mask_dice_loss(torch.full((1, 1, 2), 50.0), masks, weights, activation="sigmoid")
    torch.testing.assert_close(loss, torch.zeros(1))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_gradients_are_right(activation):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    masks = torch.nn.functional.one_hot(torch.randint(3, (2, 2, 2)), 3).movedim(-1, 1).double()
    assert torch.autograd.gradcheck(
        lambda *x: mask_dice_loss(x[0], masks, x[1], activation=activation), (logits, weights)
    )


@pytest.mark.parametrize(
    "metric, expected",
    [
        ("dice", 1 / 1.5),
        ("iou", 1 / 2),
        ("intersection_over_ground_truth", 1.0),
        ("intersection_over_prediction", 1 / 2),
    ],
)
def test_similarities_of_one_pixel_inside_two(metric, expected):
    true = torch.tensor([[[1.0, 0.0, 0.0]]])
    predicted = torch.tensor([[[1.0, 1.0, 0.0]]])
    torch.testing.assert_close(
        mask_similarity(true, predicted, metric), torch.tensor([[[expected]]]), rtol=2e-5, atol=0.0
    )


def test_similarity_of_empty_masks_is_zero():
    assert mask_similarity(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)).item() == 0.0


def test_unknown_names_are_refused():
    masks = torch.zeros(1, 1, 2)
    with pytest.raises(ValueError, match="metric must be one of"):
        mask_similarity(masks, masks, "overlap")
    with pytest.raises(ValueError, match="activation must be"):
        mask_dice_loss(masks, masks, torch.ones(1, 1), activation="relu")
    with pytest.raises(ValueError, match="masks must be"):
        mask_dice_loss(masks, torch.zeros(1, 2, 2), torch.ones(1, 1))
