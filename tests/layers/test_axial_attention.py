"""Axial attention: as an operator and in its lean form, any length, the local span."""

import contextlib
from dataclasses import replace
from typing import Any, Dict, Iterator, Optional, Tuple, Type

import pytest
import torch
from direct_attention import DirectAxialAttention
from measuring import allocated_peak
from torch import Tensor

from deeplab2_d2 import ops
from deeplab2_d2.layers import (
    MAX_SPAN,
    AttentionSpec,
    AxialAttention,
    Norm,
    RelativePositionEncoding,
)
from deeplab2_d2.layers import axial_attention as module


@pytest.fixture(params=["operator", "lean form"])
def both_forms(request: Any) -> Iterator[None]:
    """The operator, where it is built; then what runs where it is not, and on GPUs."""
    is_lean = request.param == "lean form"
    with ops.use_reference() if is_lean else contextlib.nullcontext():
        assert is_lean or ops.has_extension("axial_attention")
        yield


_TERMS = ["use_content", "use_query_encoding", "use_key_encoding"]
_RETRIEVED = ["retrieve_content", "retrieve_encoding"]


def _layer(
    spec: AttentionSpec,
    norm: Norm = Norm("BN"),
    kind: Type[AxialAttention] = AxialAttention,
    seed: int = 0,
) -> AxialAttention:
    torch.manual_seed(seed)
    layer = kind(6, key_depth=8, value_depth=16, spec=spec, norm=norm)
    layer.batch_norm_similarity.weight.data.uniform_(0.2, 0.6)
    layer.batch_norm_similarity.bias.data.normal_()
    return layer.double()


def _outcome(layer: AxialAttention, features: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
    features = features.clone().requires_grad_()
    output = layer(features)
    weights = torch.linspace(-1.0, 1.0, output.numel(), dtype=output.dtype)
    (output * weights.view_as(output)).sum().backward()
    found = {name: p.grad for name, p in layer.named_parameters()}
    found.update({name: b.clone() for name, b in layer.named_buffers()})
    found["input"] = features.grad
    return output, found


def _compare_forms(spec: AttentionSpec, is_training: bool, norm: Norm = Norm("BN")) -> None:
    direct, lean = _layer(spec, norm, DirectAxialAttention), _layer(spec, norm)
    features = torch.randn(2, 6, 7, 3, dtype=torch.float64)
    expected, expected_found = _outcome(direct.train(is_training), features)
    output, found = _outcome(lean.train(is_training), features)
    torch.testing.assert_close(output, expected)
    for name, value in expected_found.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.usefixtures("both_forms")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("unused", [()] + [(name,) for name in _TERMS + _RETRIEVED])
def test_both_equal_the_direct_form_with_gradients_and_moving_statistics(
    activation: str, is_training: bool, unused: Tuple[str, ...], monkeypatch: Any
) -> None:
    # Chunks of two sequences, of which there are twice three.
    monkeypatch.setitem(module._CHUNK_ELEMENTS, "cpu", 2 * 4 * 7 * 7)
    spec = AttentionSpec(num_heads=4, activation=activation, **{name: False for name in unused})
    _compare_forms(spec, is_training)


@pytest.mark.usefixtures("both_forms")
@pytest.mark.parametrize("columns", [1, 4, 6])
@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("span", [None, 3])
def test_forms_are_equal_for_every_chunk_span_and_norm(
    columns: int, norm: str, span: Optional[int], monkeypatch: Any
) -> None:
    # Parts of an image; one image and a remainder; all.
    monkeypatch.setitem(module._CHUNK_ELEMENTS, "cpu", columns * 4 * 7 * 7)
    _compare_forms(AttentionSpec(num_heads=4, span=span), True, Norm(norm))


@pytest.mark.usefixtures("both_forms")
def test_a_channel_far_from_zero_is_normalised_as_precisely_as_by_batch_norm() -> None:
    # A mean of 1000 deviations: the difference of float32 moments would be noise.
    spec = AttentionSpec(num_heads=4)
    lean, direct = _layer(spec).float(), _layer(spec, kind=DirectAxialAttention).float()
    features = torch.randn(2, 6, 7, 3) + 1000.0
    torch.testing.assert_close(lean(features), direct(features), atol=2e-3, rtol=2e-3)


@pytest.mark.usefixtures("both_forms")
def test_bfloat16_autocast_is_close_to_float32_and_has_gradients_everywhere() -> None:
    layer = _layer(AttentionSpec(num_heads=4)).float()
    features = torch.randn(2, 6, 7, 3)
    expected = layer(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(features)
    assert output.dtype == torch.bfloat16
    # Two roundings of 2^-9 each on values of about 3, through a softmax of steep similarities.
    assert (output.float() - expected).abs().mean() < 0.05
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_training_compiles_in_one_graph() -> None:
    layer = _layer(AttentionSpec(num_heads=4)).train()
    features = torch.randn(2, 6, 7, 3, dtype=torch.float64)
    compiled = torch.compile(
        _layer(AttentionSpec(num_heads=4)), backend="aot_eager", fullgraph=True
    )
    expected, expected_found = _outcome(layer, features)
    output, found = _outcome(compiled, features)
    torch.testing.assert_close(output, expected)
    for name, value in expected_found.items():
        torch.testing.assert_close(
            found[name if name == "input" else f"_orig_mod.{name}"], value, msg=name
        )


@pytest.mark.usefixtures("both_forms")
def test_folded_evaluation_equals_batch_norm_applied_to_each_similarity() -> None:
    spec = AttentionSpec(num_heads=4)
    layer = _layer(spec)
    layer.batch_norm_similarity.running_mean.normal_()
    layer.batch_norm_similarity.running_var.uniform_(0.5, 2.0)
    direct = _layer(spec, kind=DirectAxialAttention)
    direct.load_state_dict(layer.state_dict())
    features = torch.randn(1, 6, 9, 2, dtype=torch.float64)
    torch.testing.assert_close(layer.eval()(features), direct.eval()(features))


def test_columns_do_not_see_each_other() -> None:
    layer = _layer(AttentionSpec(num_heads=4)).eval()
    features = torch.randn(1, 6, 5, 4, dtype=torch.float64)
    changed = features.clone()
    changed[..., 2] += 1.0
    difference = (layer(changed) - layer(features)).abs().amax(dim=(0, 1, 2))
    assert (difference > 1e-6).tolist() == [False, False, True, False]


@pytest.mark.usefixtures("both_forms")
def test_local_span_sees_only_its_pixels_and_a_wide_one_sees_all() -> None:
    spec = AttentionSpec(num_heads=4)
    features = torch.randn(1, 6, 9, 1, dtype=torch.float64)
    changed = features.clone()
    changed[:, :, 0] += 1.0
    local = _layer(replace(spec, span=5)).eval()
    difference = (local(changed) - local(features)).abs().amax(dim=(0, 1, 3))
    # Two pixels on either side.
    assert (difference > 1e-6).tolist() == [True] * 3 + [False] * 6
    wide, whole = _layer(replace(spec, span=17)).eval(), _layer(spec).eval()
    torch.testing.assert_close(wide(features), whole(features))


@pytest.mark.usefixtures("both_forms")
def test_local_span_normalises_by_the_pairs_it_sees() -> None:
    # Uniform in the span: with only one visible key a query retrieves that key's value, whatever
    # the similarities are, so span 1 is the values themselves.
    spec = AttentionSpec(num_heads=4, span=1, retrieve_encoding=False)
    layer = _layer(spec).train()
    features = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    qkv = torch.einsum("nchw,cd->ndhw", features, layer.qkv_kernel)
    value = torch.nn.functional.batch_norm(
        qkv, None, None, layer.batch_norm_qkv.weight, layer.batch_norm_qkv.bias, True, eps=1e-3
    )[:, 16:]
    output_norm = layer.batch_norm_retrieved_output
    expected = torch.nn.functional.batch_norm(
        value, None, None, output_norm.weight, output_norm.bias, True, eps=1e-3
    )
    torch.testing.assert_close(layer(features), expected)


def test_relative_positions_are_sliced_from_the_table_and_stretched_beyond_it() -> None:
    encoding = RelativePositionEncoding(3)
    center = MAX_SPAN - 1
    short = encoding(4)
    for query in range(4):
        for key in range(4):
            assert torch.equal(short[query, key], encoding.weight[center + key - query])
    length = 2 * MAX_SPAN - 1  # Twice the reach: every second position is one of the table.
    long = encoding(length)
    torch.testing.assert_close(long[0, length - 1], encoding.weight[-1])
    torch.testing.assert_close(long[length - 1, 0], encoding.weight[0])
    torch.testing.assert_close(long[0, 2], encoding.weight[center + 1])
    torch.testing.assert_close(
        long[0, 1], (encoding.weight[center] + encoding.weight[center + 1]) / 2
    )


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="key_depth must be a multiple of 8 heads, got 12"):
        AxialAttention(4, key_depth=12, value_depth=16, spec=AttentionSpec(), norm=Norm("BN"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"span": 4}, "span must be odd and positive, got 4"),
        ({"retrieve_content": False, "retrieve_encoding": False}, "must retrieve"),
        ({name: False for name in _TERMS}, "at least one of its similarities"),
    ],
)
def test_spec_refuses_what_makes_no_attention(options: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionSpec(**options)


@pytest.mark.slow
def test_lean_form_needs_at_most_a_third_of_the_memory() -> None:
    # Stage 4 of Axial-DeepLab-L at 1025 x 2049 (a side of it), forward and backward.
    peaks = {}
    spec = AttentionSpec()
    for form, kind in (("direct", DirectAxialAttention), ("lean", AxialAttention)):
        layer = kind(512, key_depth=256, value_depth=512, spec=spec, norm=Norm("BN"))
        features = torch.randn(1, 512, 129, 65, requires_grad=True)
        layer.train()
        peaks[form] = allocated_peak(lambda: layer(features).mean().backward())
    assert peaks["lean"] <= peaks["direct"] / 3, peaks
