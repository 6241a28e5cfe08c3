"""Moments of similarities: the maps of all pairs, the kernel beside the reference, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops

needs_extension = pytest.mark.skipif(
    not ops.has_extension("attention_moments"), reason="the compiled operators are not built"
)


def arguments(seed, *, images=1, others=2, length=5, heads=2, depth=3, rest=1, dtype=torch.float64):
    """raw, scale, shift; and the options."""
    generator = torch.Generator().manual_seed(seed)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    channels = 2 * heads * depth + rest
    raw = torch.randn(images, channels, length, others, generator=generator).to(dtype)
    scale, shift = torch.randn(2, channels, generator=generator).to(exact)
    options = {"num_heads": heads, "key_depth": heads * depth}
    return [raw.transpose(2, 3), scale, shift], options


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("length", [1, 6, 37])
def test_sums_are_those_of_all_pairs(length):
    (raw, scale, shift), options = arguments(0, images=2, length=length)
    content, sums, products = ops.attention_moments(raw, scale, shift, **options)
    values = scale[:, None, None] * raw + shift[:, None, None]
    for head in range(2):
        query, key = (values[:, first + 3 * head :][:, :3] for first in (0, 6))
        logits = torch.einsum("ndsl,ndsm->nslm", query, key)
        expected = torch.stack([logits.sum(), logits.square().sum()])
        torch.testing.assert_close(content[:, head], expected)
        # The similarity of each position with vectors, by the sums over sequences alone.
        vectors = torch.randn(length, 4, 3, dtype=torch.float64)
        for kind, part in enumerate((query, key)):
            terms = torch.einsum("ndsl,lmd->nslm", part, vectors)
            total = (sums[kind, head].t() * vectors.sum(dim=1)).sum()
            gram = vectors.transpose(1, 2) @ vectors
            square = sum(
                (products[kind, head, pair] * gram[:, i, j]).sum() * (1 if i == j else 2)
                for pair, (i, j) in enumerate(torch.tril_indices(3, 3).t().tolist())
            )
            torch.testing.assert_close(total, terms.sum())
            torch.testing.assert_close(square, terms.square().sum())


TOLERANCES = {
    torch.float64: 1e-11,
    torch.float32: 1e-5,
    # Of gradients; the sums themselves are of float32.
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}


@needs_extension
@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.fixed_dictionaries(
        {
            "images": st.integers(1, 2),
            "others": st.sampled_from([1, 2, 11]),
            "length": st.sampled_from([1, 7, 8, 9, 31, 32, 33, 70]),
            "heads": st.integers(1, 3),
            "depth": st.sampled_from([1, 2, 4, 5, 16, 19]),
            "rest": st.integers(0, 3),
        }
    ),
    dtype=st.sampled_from(list(TOLERANCES)),
)
def test_kernel_equals_the_reference_with_gradients(seed, sizes, dtype):
    tensors, options = arguments(seed, dtype=dtype, **sizes)

    def run(tensors):
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        found = ops.attention_moments(*leaves, **options)
        total = sum(
            (part * torch.linspace(-1, 1, part.numel(), dtype=part.dtype).view_as(part)).sum()
            for part in found
        )
        return found, torch.autograd.grad(total, leaves)

    kept = [tensor.clone() for tensor in tensors]
    found, gradients = run(tensors)
    assert all(torch.equal(tensor, before) for tensor, before in zip(tensors, kept))
    assert all(part.dtype == tensors[1].dtype for part in found)
    assert [gradient.dtype for gradient in gradients] == [tensor.dtype for tensor in tensors]
    with ops.use_reference():
        expected, expected_gradients = run([tensor.double() for tensor in tensors])
    exact = min(TOLERANCES[dtype], 1e-5)
    for part, wanted in zip(found, expected):
        near = {"rtol": exact, "atol": exact * (1 + wanted.abs().max().item())}
        torch.testing.assert_close(part.double(), wanted, **near)
    for gradient, wanted in zip(gradients, expected_gradients):
        tolerance = TOLERANCES[dtype] if gradient.dtype == dtype else exact
        near = {"rtol": tolerance, "atol": 10 * exact * (1 + wanted.abs().max().item())}
        torch.testing.assert_close(gradient.double(), wanted, **near)


@needs_extension
def test_gradients_are_those_of_finite_differences():
    tensors, options = arguments(0, length=4)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda *t: ops.attention_moments(*t, **options), leaves)


@needs_extension
def test_registration():
    tensors, options = arguments(0)
    operator = torch.ops.deeplab2_d2.attention_moments.default
    torch.library.opcheck(operator, [tensor.requires_grad_() for tensor in tensors], options)


@needs_extension
def test_all_is_the_same_for_any_number_of_threads():
    tensors, options = arguments(3, others=13, length=41, dtype=torch.float32)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        moments = ops.attention_moments(*leaves, **options)
        sum(part.square().sum() for part in moments).backward()
        found.append([*moments, *(leaf.grad for leaf in leaves)])
    torch.set_num_threads(before)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other))


@needs_extension
@pytest.mark.parametrize(
    "change, message",
    [
        ({"scale": torch.ones(3)}, "scale and shift must be"),
        ({"shift": torch.ones(13)}, "scale and shift must be"),
        ({"num_heads": 4}, "key_depth must be a multiple of 4 heads"),
        ({"key_depth": 8}, "at most half of 13 channels, got 8"),
        ({"raw": torch.zeros(1, 13, 0, 4, dtype=torch.float64)}, "raw must be .* not empty"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    (raw, scale, shift), options = arguments(0)
    with pytest.raises(RuntimeError, match=message):
        ops.attention_moments(**{"raw": raw, "scale": scale, "shift": shift, **options, **change})


def test_axes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"attention_moments: raw must be \(N, C, S, L\)"):
        ops.attention_moments(
            torch.zeros(2, 3), torch.ones(3), torch.ones(3), num_heads=1, key_depth=1
        )
