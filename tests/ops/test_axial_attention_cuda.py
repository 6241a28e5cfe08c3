"""The CUDA kernels of axial attention beside the reference: any length, span, tables, schedule."""

import math

import pytest
import torch
from attention_inputs import TOLERANCES, arguments
from hypothesis import given
from hypothesis import strategies as st
from kernel_schedules import assert_equal, few, schedules, to_device

from deeplab2_d2 import ops
from deeplab2_d2.layers import AttentionSpec, AxialAttention, Norm, axial_attention
from deeplab2_d2.ops import reference


def run(function, tensors, options):
    """Output and gradients of what is there, of a sum with weights of any sign."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
    output = function(*leaves, **options)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    loss = (output * weights.to(output)).sum()
    gradients = torch.autograd.grad(loss, [leaf for leaf in leaves if leaf is not None])
    return [output.detach().cpu(), *(gradient.cpu() for gradient in gradients)]


def expect(tensors, options):
    """The same of the reference in float64."""
    span, length = options["span"], tensors[0].shape[3]
    given = {name: value for name, value in options.items() if name != "span"}
    given["reach"] = length if span is None else span // 2
    exact = [None if t is None else t.double() for t in tensors]
    return run(reference.axial_attention, exact, given)


def assert_near(ours, theirs, dtype):
    """What is written is rounded; gradients are of rounded weights, and sums over sequences."""
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(ours[0].double(), theirs[0], **tolerance)
    for gradient, wanted in zip(ours[1:], theirs[1:]):
        scale = 1 + wanted.abs().max().item()
        near = {"rtol": 10 * tolerance["rtol"], "atol": 10 * scale * tolerance["rtol"]}
        torch.testing.assert_close(gradient.double(), wanted, **near)


def leave_out(tensors, has_table):
    return [*tensors[:5], *(t if there else None for t, there in zip(tensors[5:], has_table))]


def on_device(device, tensors):
    return [None if t is None else to_device(device, t)[0] for t in tensors]


@few
@given(
    seed=st.integers(0, 1000),
    sizes=st.fixed_dictionaries(
        {
            "images": st.integers(1, 2),
            "others": st.integers(1, 3),
            "length": st.sampled_from([1, 2, 5, 31, 33, 40]),
            "heads": st.integers(1, 2),
            # Channels of a head: fewer and more than are multiplied, and retrieved, at a time.
            "depths": st.sampled_from([(1, 1), (3, 4), (8, 16), (17, 33), (33, 5), (5, 72)]),
        }
    ),
    dtype=st.sampled_from(list(TOLERANCES)),
    has_table=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    retrieve_content=st.booleans(),
    span=st.sampled_from([None, 1, 7, 41]),
)
def test_any_size_gives_the_reference_and_the_same_bits_in_any_schedule(
    kernel_device, monkeypatch, seed, sizes, dtype, has_table, retrieve_content, span
):
    tensors, value_depth = arguments(seed, dtype=dtype, **sizes)
    tensors = leave_out(tensors, has_table)
    options = {
        "value_depth": value_depth,
        "retrieve_content": retrieve_content or not has_table[2],
        "span": span,
    }
    expected = expect(tensors, options)
    inputs = on_device(kernel_device, tensors)
    found = [
        run(ops.axial_attention, inputs, options) for _ in schedules(kernel_device, monkeypatch)
    ]
    assert found[0][0].dtype == dtype
    assert_near(found[0], expected, dtype)
    for other in found[1:]:
        assert_equal(other, found[0])
    assert_equal(*zip(*((t, u) for t, u in zip(inputs, tensors) if t is not None)))


# Less than a tile, a tile and one, two and one: of 64 rows (32 of float64) and of 32 columns.
@pytest.mark.parametrize("length", [1, 5, 33, 65, 129])
@pytest.mark.parametrize("heads, span", [(1, None), (1, 1), (1, 7), (1, 41), (1, 999), (8, None)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_and_columns_of_several_tiles(kernel_device, length, heads, span, dtype):
    others = 1 if heads * length > 300 else 2
    tensors, value_depth = arguments(
        length, others=others, length=length, heads=heads, depths=(2, 3), dtype=dtype
    )
    options = {"value_depth": value_depth, "retrieve_content": True, "span": span}
    found = run(ops.axial_attention, on_device(kernel_device, tensors), options)
    assert_near(found, expect(tensors, options), dtype)


TABLES = [(q, k, v) for q in (False, True) for k in (False, True) for v in (False, True)]


@pytest.mark.parametrize("has_table", TABLES)
@pytest.mark.parametrize("retrieve_content", [False, True])
def test_every_combination_of_tables(kernel_device, has_table, retrieve_content):
    tensors, value_depth = arguments(4, images=2, others=3, length=34)
    tensors = leave_out(tensors, has_table)
    options = {
        "value_depth": value_depth,
        "retrieve_content": retrieve_content or not has_table[2],
        "span": 21,
    }
    found = run(ops.axial_attention, on_device(kernel_device, tensors), options)
    assert_near(found, expect(tensors, options), torch.float64)


def test_encodings_are_summed_over_parts_of_several_sequences(kernel_device):
    # 1024 blocks, a tile of relative positions and 256 heads: 4 parts of 6 sequences.
    tensors, value_depth = arguments(5, images=2, others=3, length=2, heads=256, depths=(1, 1))
    options = {"value_depth": value_depth, "retrieve_content": True, "span": None}
    found = run(ops.axial_attention, on_device(kernel_device, tensors), options)
    assert_near(found, expect(tensors, options), torch.float64)


def test_large_logits_do_not_overflow(kernel_device):
    # The largest logit, a thousand above the others, comes with the last tile of keys.
    tensors, value_depth = arguments(6, length=70, heads=1, dtype=torch.float32)
    tensors[0][0, 3:6, 0, 69] *= 1000.0
    options = {"value_depth": value_depth, "retrieve_content": True, "span": None}
    found, *_ = run(ops.axial_attention, on_device(kernel_device, tensors), options)
    torch.testing.assert_close(found.double(), expect(tensors, options)[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("span", [None, 3])
def test_gradients_are_those_of_finite_differences(kernel_device, span):
    tensors, value_depth = arguments(0, length=3, heads=1, depths=(2, 2))
    leaves = [tensor.requires_grad_() for tensor in to_device(kernel_device, *tensors)]
    options = {"value_depth": value_depth, "retrieve_content": True, "span": span}
    assert torch.autograd.gradcheck(lambda *t: ops.axial_attention(*t, **options), leaves)


@pytest.mark.parametrize("num_tables", [0, 3])
def test_gradients_share_no_memory(kernel_device, num_tables):
    # Of one channel, whose transposed is itself.
    tensors, value_depth = arguments(0, depths=(1, 1))
    tensors[5 + num_tables :] = [None] * (3 - num_tables)
    options = {"value_depth": value_depth, "retrieve_content": True, "reach": 2}
    grad = torch.ones(1, (2 if num_tables else 1) * value_depth, 2, 5, dtype=torch.float64)
    inputs = on_device(kernel_device, [grad, *tensors])
    gradients = torch.ops.deeplab2_d2.axial_attention_backward(*inputs, **options)
    places = [gradient.untyped_storage().data_ptr() for gradient in gradients if gradient.numel()]
    assert len(set(places)) == len(places) == 5 + num_tables


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_gives_what_it_gives_in_pytorch(kernel_device, value):
    tensors, value_depth = arguments(1, length=40, dtype=torch.float32)
    tensors[0][0, 0, 1, 2] = value  # a query of the first head and second sequence
    options = {"value_depth": value_depth, "retrieve_content": True}
    found = ops.axial_attention(*to_device(kernel_device, *tensors), **options, span=None)
    expected = reference.axial_attention(*tensors, **options, reach=40)
    assert expected.isnan().any() and torch.equal(found.isnan().cpu(), expected.isnan())


@pytest.mark.parametrize(
    "size, message",
    [
        ((1, 3, 1, 2**29), r"less than 2\*\*29 channels and positions"),
        ((2**15, 3, 2**15, 1), r"less than 2\*\*30 blocks"),
    ],
)
def test_sizes_beyond_the_limits_are_refused(kernel_device, size, message):
    # Views of one number: nothing of that size is ever in memory.
    number = torch.zeros((), device=kernel_device)
    norm = [number.expand(3)] * 2
    scales = [number.expand(3, 1), number.expand(1)]
    with pytest.raises(RuntimeError, match=message):
        ops.axial_attention(
            number.expand(size), *norm, *scales, None, None, None,
            value_depth=1, retrieve_content=True, span=3,
        )  # fmt: skip


def test_a_gradient_of_another_size_is_refused(kernel_device):
    tensors, value_depth = arguments(0)
    tensors = to_device(kernel_device, *tensors)
    options = {"value_depth": value_depth, "retrieve_content": True, "reach": 2}
    grad = torch.zeros(1, value_depth, 2, 5, dtype=torch.float64, device=kernel_device)
    with pytest.raises(RuntimeError, match="grad must be as what is retrieved"):
        torch.ops.deeplab2_d2.axial_attention_backward(grad, *tensors, **options)


def test_layer_that_is_switched_to_the_kernels_gives_its_lean_form(kernel_device, monkeypatch):
    monkeypatch.setattr(axial_attention, "_OPERATOR_DEVICES", ("cpu", "cuda"))
    torch.manual_seed(0)
    spec = AttentionSpec(num_heads=2, span=9)
    layer = AxialAttention(6, key_depth=8, value_depth=16, spec=spec, norm=Norm("BN"))
    layer = layer.double().train().to(kernel_device)
    features = torch.randn(2, 6, 7, 3, dtype=torch.float64, device=kernel_device)

    def outcome():
        leaf = features.clone().requires_grad_()
        output = layer(leaf)
        inputs = [leaf, *layer.parameters()]
        return [output, *torch.autograd.grad(output.square().sum(), inputs)]

    calls = []
    operator = axial_attention.axial_attention
    monkeypatch.setattr(
        axial_attention, "axial_attention", lambda *a, **k: calls.append(1) or operator(*a, **k)
    )
    found = outcome()
    assert calls == [1]
    with ops.use_reference():
        expected = outcome()
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs)
