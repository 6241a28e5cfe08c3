"""Operator: what a batch norm of an attention's similarities needs of its queries and keys."""

from typing import Any, NamedTuple, Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake, register_gradient


class AttentionMoments(NamedTuple):
    """
    Letters: H heads, D channels of a head, L positions, P = D (D + 1) / 2 pairs of channels (i, j),
    j <= i, in the order of ``torch.tril_indices(D, D)``.

    Attributes:
        content: (2, H): the sum of ``q_l . k_m``, and of its square, over all pairs of positions of
            all sequences.
        sums: (2, H, D, L): of queries and of keys, over all sequences.
        products: (2, H, P, L): of queries' channels i and j, and of keys', over all sequences.
    """

    content: Tensor
    sums: Tensor
    products: Tensor


def attention_moments(
    raw: Tensor, scale: Tensor, shift: Tensor, *, num_heads: int, key_depth: int
) -> AttentionMoments:
    """
    Sums over sequences, of which mean and mean square of all similarities follow.

    The mean square of ``q_l . a_(m-l)`` over all l and m, for any vectors ``a``, is a sum of
    `products` times those of the ``a``; that of ``q_l . k_m`` is the inner product of the two
    matrices of products, summed over a sequence's positions. No map of L x L is made. There is a
    gradient; it is deterministic, whatever the number of threads.

    Args:
        raw: (N, C, S, L) float, S sequences of L positions: queries, then keys, of each the heads'
            channels one after the other, then what else there may be. float16 and bfloat16 are
            computed in float32.
        scale, shift: (C) float32, float64 for ``raw`` of it: queries and keys are
            ``scale * raw + shift``.
        num_heads: H.
        key_depth: channels of all queries; as many keys.

    Raises:
        ValueError: if raw has not four axes; RuntimeError if another shape or dtype is wrong.
    """
    name = "attention_moments"
    check_shape(f"{name}: raw", raw, ("N", "C", "S", "L"), "(N, C, S, L)")
    options = {"num_heads": num_heads, "key_depth": key_depth}
    if not has_kernels(name, raw.device.type):
        return AttentionMoments(*reference.attention_moments(raw, scale, shift, **options))
    return AttentionMoments(*torch.ops.deeplab2_d2.attention_moments(raw, scale, shift, **options))


@register_fake("attention_moments")
def _fake(
    raw: Tensor, scale: Tensor, shift: Tensor, *, num_heads: int, key_depth: int
) -> Tuple[Tensor, Tensor, Tensor]:
    depth, length = key_depth // num_heads, raw.shape[3]
    return (
        scale.new_empty(2, num_heads),
        scale.new_empty(2, num_heads, depth, length),
        scale.new_empty(2, num_heads, depth * (depth + 1) // 2, length),
    )


@register_fake("attention_moments_backward")
def _fake_backward(
    content: Tensor,
    sums: Tensor,
    products: Tensor,
    raw: Tensor,
    scale: Tensor,
    shift: Tensor,
    **options: Any,
) -> Tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (raw, scale, shift))


def _save_inputs(ctx: Any, inputs: Tuple[Any, ...], keyword_only_inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.options = keyword_only_inputs


def _backward(ctx: Any, *gradients: Tensor) -> Tuple[Tensor, ...]:
    backward = torch.ops.deeplab2_d2.attention_moments_backward
    return backward(*gradients, *ctx.saved_tensors, **ctx.options)


@register_gradient("attention_moments")
def _register_gradient() -> None:
    torch.library.register_autograd(
        "deeplab2_d2::attention_moments", _backward, setup_context=_save_inputs
    )
