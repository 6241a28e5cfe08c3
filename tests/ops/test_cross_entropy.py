"""The fused loss is upsampling followed by cross-entropy, forwards and backwards."""

import pytest
import torch

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
# Map and output: stride 4, the same size, larger by no whole factor, smaller, a single row.
SIZES = [
    ((5, 7), (17, 25)),
    ((6, 6), (6, 6)),
    ((5, 7), (20, 33)),
    ((9, 5), (4, 3)),
    ((1, 4), (1, 9)),
]


def make_inputs(map_size, size, dtype=torch.float64):
    logits = torch.randn(2, 4, *map_size, dtype=dtype, requires_grad=True)
    labels = torch.randint(4, (2, *size))
    labels[0, 0, ::2] = 255
    return logits, labels, torch.rand(2, *size, dtype=dtype)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("map_size, size", SIZES)
def test_loss_and_gradient_equal_the_reference(map_size, size, dtype, tolerance):
    # Sums of a few float32 numbers of size 1 to 10, in another order.
    logits, labels, weights = make_inputs(map_size, size, dtype)
    gradient = torch.randn(2, *size, dtype=dtype) * (torch.rand(2, *size) < 0.3)
    results = []
    for function in (ops.upsampled_cross_entropy, reference.upsampled_cross_entropy):
        losses = function(logits, labels, weights, ignore_label=255)
        results.append((losses, *torch.autograd.grad(losses, logits, gradient)))
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_one_pixel_has_the_loss_of_its_formula():
    # log(1 + e) for two logits 1 and 0 and the class of the smaller one, times the weight 3.
    logits = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    labels, weights = torch.ones(1, 1, 1, dtype=torch.long), torch.full((1, 1, 1), 3.0)
    losses = ops.upsampled_cross_entropy(logits, labels, weights, ignore_label=255)
    assert losses.item() == pytest.approx(3 * torch.log1p(torch.tensor(1.0).exp()).item(), rel=1e-6)


@needs_extension
@pytest.mark.parametrize("map_size, size", SIZES)
def test_gradient_is_the_derivative(map_size, size):
    logits, labels, weights = make_inputs(map_size, size)
    torch.autograd.gradcheck(
        lambda logits: ops.upsampled_cross_entropy(logits, labels, weights, ignore_label=255),
        (logits,),
    )
    strided = torch.randn(*map_size, 4, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda maps: ops.upsampled_cross_entropy(
            maps.permute(3, 2, 0, 1), labels, None, ignore_label=255
        ),
        (strided,),
    )


@needs_extension
def test_gradient_does_not_depend_on_the_number_of_threads():
    logits, labels, weights = make_inputs((33, 17), (129, 65), torch.float32)
    gradients = []
    before = torch.get_num_threads()
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        losses = ops.upsampled_cross_entropy(logits, labels, weights, ignore_label=255)
        gradients.append(torch.autograd.grad(losses.sum(), logits)[0])
    torch.set_num_threads(before)
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_are_computed_in_float32(dtype):
    logits, labels, weights = make_inputs((5, 7), (17, 25), torch.float32)
    half = logits.detach().to(dtype)
    losses = ops.upsampled_cross_entropy(half, labels, weights, ignore_label=255)
    expected = ops.upsampled_cross_entropy(half.float(), labels, weights, ignore_label=255)
    assert losses.dtype == torch.float32 and torch.equal(losses, expected)


@needs_extension
def test_label_out_of_range_is_named():
    labels = torch.tensor([[[0, 7]]])
    with pytest.raises(RuntimeError, match=r"labels must be in \[0, 4\) or 255, got 7"):
        ops.upsampled_cross_entropy(torch.zeros(1, 4, 1, 1), labels, None, ignore_label=255)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"labels must be \(N, H, W\) as the logits"):
        ops.upsampled_cross_entropy(
            torch.zeros(2, 4, 1, 1), torch.zeros(1, 3, 3, dtype=torch.long), None, ignore_label=255
        )


@needs_extension
def test_operator_is_registered_as_torch_expects():
    logits, labels, weights = make_inputs((5, 7), (17, 25), torch.float32)
    torch.library.opcheck(
        torch.ops.deeplab2_d2.upsampled_cross_entropy.default,
        (logits, labels, weights),
        {"scale": [0.25, 0.25], "ignore_label": 255},
    )
