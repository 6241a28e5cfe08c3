"""Operator: position-sensitive attention along one axis, with its gradient."""

from typing import Any, Dict, Optional, Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake, register_gradient


def axial_attention(
    raw: Tensor,
    scale: Tensor,
    shift: Tensor,
    logit_scale: Tensor,
    logit_shift: Tensor,
    query_encoding: Optional[Tensor],
    key_encoding: Optional[Tensor],
    value_encoding: Optional[Tensor],
    *,
    value_depth: int,
    retrieve_content: bool,
    span: Optional[int],
) -> Tensor:
    """
    What the pixels of each sequence retrieve of one another.

    Reference: Axial-DeepLab (arXiv:2003.07853), Eq. 4, with the batch norms of DeepLab2 as scales
    and shifts. Queries q, keys k and values v are ``scale * raw + shift``. With relative positions
    ``r = m - l + L - 1`` and the encodings ``a``, ``b``, ``c`` of queries, keys and values::

        logit[l, m] = s0 (q_l . k_m) + s1 (q_l . a_r) + s2 (k_m . b_r) + logit_shift
        retrieved[l] = sum_m softmax(logit[l])[m] * v_m, and the same of c_r

    No map of L x L is kept, and no (L, L, D) of encodings is made: memory beyond inputs and outputs
    is on a CPU that of one sequence and head for each thread, on a GPU some numbers a query and
    head, a few percent of the inputs for long sequences. The backward pass computes the weights
    anew; it is deterministic, whatever the number of threads.

    Letters: N images, S sequences of an image, L positions, H heads, K and V channels of all heads'
    keys and values. Heads share the encodings.

    Args:
        raw: (N, 2 K + V, S, L) float: queries, keys, values, of each the heads' channels one after
            the other. float16 and bfloat16 are computed in float32.
        scale, shift: (2 K + V) float32; of float64 for ``raw`` of it, as all that follows.
        logit_scale: (3, H): s0, s1, s2.
        logit_shift: (H).
        query_encoding, key_encoding: (2 L - 1, K / H), or None for a term that is 0.
        value_encoding: (2 L - 1, V / H), or None where it is not retrieved.
        value_depth: V.
        retrieve_content: whether values are retrieved.
        span: a query sees the keys at most ``span // 2`` away; None for all.

    Returns:
        (N, T * V, S, L) of raw's dtype: T = 2 if content and encoding are retrieved, content first;
        otherwise 1.

    Raises:
        ValueError: if raw has not four axes; RuntimeError if another shape or dtype is wrong.
    """
    name = "axial_attention"
    check_shape(f"{name}: raw", raw, ("N", "C", "S", "L"), "(N, 2 K + V, S, L)")
    reach = raw.shape[3] if span is None else span // 2
    arguments = (
        *(raw, scale, shift, logit_scale, logit_shift),
        *(query_encoding, key_encoding, value_encoding),
    )
    options: Dict[str, Any] = {
        "value_depth": value_depth, "retrieve_content": retrieve_content, "reach": reach
    }  # fmt: skip
    if not has_kernels(name, raw.device.type):
        return reference.axial_attention(*arguments, **options)
    return torch.ops.deeplab2_d2.axial_attention(*arguments, **options)


@register_fake("axial_attention")
def _fake(
    raw: Tensor,
    *parameters: Optional[Tensor],
    value_depth: int,
    retrieve_content: bool,
    reach: int,
) -> Tensor:
    num_retrieved = retrieve_content + (parameters[-1] is not None)
    return raw.new_empty((raw.shape[0], num_retrieved * value_depth, *raw.shape[2:]))


@register_fake("axial_attention_backward")
def _fake_backward(
    grad: Tensor, raw: Tensor, scale: Tensor, *parameters: Optional[Tensor], **options: Any
) -> Tuple[Tensor, ...]:
    return (
        raw.new_empty(raw.shape),
        *(
            scale.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape)
            for tensor in (scale, *parameters)
        ),
    )


def _save_inputs(ctx: Any, inputs: Tuple[Any, ...], keyword_only_inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.options = keyword_only_inputs


def _backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
    inputs = ctx.saved_tensors
    found = torch.ops.deeplab2_d2.axial_attention_backward(grad, *inputs, **ctx.options)
    return tuple(None if tensor is None else gradient for tensor, gradient in zip(inputs, found))


@register_gradient("axial_attention")
def _register_gradient() -> None:
    torch.library.register_autograd(
        "deeplab2_d2::axial_attention", _backward, setup_context=_save_inputs
    )
