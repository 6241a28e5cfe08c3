"""
Attention along an axis on a GPU: the operator beside PyTorch's fused attention with a bias.

Of values alone, which is what PyTorch's can retrieve. Similarities with relative positions reach it
as a bias: a map of all pairs for scaled_dot_product_attention, looked up in (L, 2 L - 1) for each
query and key by FlexAttention. What it takes to make them is timed with it; the layer beside its
lean form is in bench_axial.py.
"""

from typing import Any, Callable, Dict, Iterator, Tuple

import torch
import torch.nn.functional as F
from measuring import measure
from torch import Tensor

from deeplab2_d2.ops import axial_attention

try:
    from torch.nn.attention.flex_attention import flex_attention
except ImportError:  # PyTorch before 2.5
    flex_attention = None

# Channels of a head's keys and values: of stages 3 and 4 of Axial-DeepLab-L, of 8 heads.
_DEPTHS = ((16, 32), (32, 64))
_HEADS = 8
Attention = Callable[..., Tensor]


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    if args.device != "cuda":
        return
    sizes = [(65, 129), (129, 65)] if args.quick else [(65, 129), (129, 257), (257, 129), (1025, 9)]
    for length, others in sizes:
        for depths in _DEPTHS:
            for dtype in (torch.float32, torch.bfloat16):
                yield from _rows_of(args, length, others, depths, dtype)


def _rows_of(
    args: Any, length: int, others: int, depths: Tuple[int, int], dtype: torch.dtype
) -> Iterator[Dict[str, Any]]:
    tensors = make_inputs(1, others, length, _HEADS, depths, dtype=dtype, device="cuda")
    peers: Dict[str, Attention] = {"scaled_dot_product_attention": attend_with_map}
    if flex_attention is not None:
        peers["FlexAttention"] = _compiled(attend_with_tables)
    expected = attend(*tensors).float()
    for with_backward in (False, True):
        what = "forward + backward" if with_backward else "forward"
        ours = measure(
            _step(attend, tensors, with_backward), repeats=args.repeats, warmups=3, device="cuda"
        )
        for name, peer in peers.items():
            check_near(peer(*tensors).float(), expected, dtype)
            theirs = measure(
                _step(peer, tensors, with_backward), repeats=args.repeats, warmups=3, device="cuda"
            )
            yield {
                "name": f"attention of {length} x {others}, {depths} channels, {dtype}, {what}",
                "measurement": ours,
                "peer": name,
                "peer_seconds": theirs.seconds,
            }


def _step(attention: Attention, tensors: Tuple[Tensor, ...], with_backward: bool) -> Callable:
    leaves = [tensor.detach().requires_grad_(with_backward) for tensor in tensors]

    def step() -> None:
        output = attention(*leaves)
        if with_backward:
            torch.autograd.grad(output.float().square().mean(), leaves, allow_unused=True)

    return step


def _compiled(attention: Attention) -> Attention:
    compiled = torch.compile(flex_attention)
    return lambda *tensors: attention(*tensors, flex=compiled)


def check_near(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    """Of bfloat16, queries, keys, biases and weights are rounded, too: to 8 bits."""
    tolerance = 2e-3 if dtype == torch.float32 else 5e-2
    different = (ours - theirs).abs().max().item()
    if not different <= tolerance * theirs.abs().max().item():
        raise RuntimeError(f"the peer's result differs by {different}")


def make_inputs(
    images: int,
    others: int,
    length: int,
    heads: int,
    depths: Tuple[int, int],
    *,
    dtype: torch.dtype,
    device: str,
) -> Tuple[Tensor, ...]:
    """Raw (N, H (2 D + E), S, L), scale, shift, logit_scale, logit_shift, and (R, D) of both."""
    generator = torch.Generator().manual_seed(0)
    key_depth, value_depth = depths
    channels = heads * (2 * key_depth + value_depth)

    def noise(factor: float, *size: int) -> Tensor:
        return factor * torch.randn(*size, generator=generator, dtype=torch.float64)

    exact = torch.float64 if dtype == torch.float64 else torch.float32
    parameters = (
        *(1 + noise(0.1, channels), noise(0.1, channels)),
        *(noise(key_depth**-0.5, 3, heads), noise(1.0, heads)),
        *(noise(1.0, 2 * length - 1, key_depth) for _ in range(2)),
    )
    raw = noise(1.0, images, channels, others, length).to(device, dtype)
    return (raw, *(tensor.to(device, exact) for tensor in parameters))


def attend(raw: Tensor, *parameters: Tensor) -> Tensor:
    """The operator: (N, H E, S, L)."""
    heads, key_depth = len(parameters[3]), parameters[4].shape[1]
    value_depth = raw.shape[1] - 2 * heads * key_depth
    return axial_attention(
        raw, *parameters, None, value_depth=value_depth, retrieve_content=True, span=None
    )


def _split(
    raw: Tensor, scale: Tensor, shift: Tensor, logit_scale: Tensor, by_query: Tensor, by_key: Tensor
) -> Tuple[Tensor, ...]:
    """Scaled queries, keys, values (B, H, L, D or E); similarities (B, H, L, R) of two."""
    heads, depth = logit_scale.shape[1], by_query.shape[1]
    normalised = (raw * scale[:, None, None] + shift[:, None, None]).to(raw.dtype)
    parts = normalised.split([heads * depth, heads * depth, raw.shape[1] - 2 * heads * depth], 1)
    query, key, value = (
        part.unflatten(1, (heads, -1)).permute(0, 3, 1, 4, 2).flatten(0, 1).contiguous()
        for part in parts
    )
    factors = logit_scale[:, :, None, None].to(raw.dtype)
    by_query, by_key = by_query.to(raw.dtype), by_key.to(raw.dtype)
    return (
        *(factors[0] * query, key, value),
        *((factors[1] * query) @ by_query.T, (factors[2] * key) @ by_key.T),
    )


def _join(retrieved: Tensor, raw: Tensor) -> Tensor:
    """(B, H, L, E) to (N, H E, S, L)."""
    images = retrieved.unflatten(0, (raw.shape[0], raw.shape[2]))
    return images.permute(0, 2, 4, 1, 3).flatten(1, 2)


def attend_with_map(
    raw: Tensor, scale: Tensor, shift: Tensor, logit_scale: Tensor, logit_shift: Tensor,
    by_query: Tensor, by_key: Tensor,
) -> Tensor:  # fmt: skip
    """The same by scaled_dot_product_attention."""
    query, key, value, of_query, of_key = _split(raw, scale, shift, logit_scale, by_query, by_key)
    length = raw.shape[3]
    places = torch.arange(length, device=raw.device)
    relative = (places - places[:, None] + length - 1).expand(*query.shape[:2], length, length)
    bias = of_query.gather(3, relative)
    # For key m, the query l: its row of relative positions, backwards.
    bias = bias + of_key.gather(3, relative.transpose(2, 3)).transpose(2, 3)
    bias = bias + logit_shift[:, None, None].to(bias.dtype)
    return _join(F.scaled_dot_product_attention(query, key, value, bias, scale=1.0), raw)


def attend_with_tables(
    raw: Tensor, scale: Tensor, shift: Tensor, logit_scale: Tensor, logit_shift: Tensor,
    by_query: Tensor, by_key: Tensor, *, flex: Callable[..., Tensor] = flex_attention,
) -> Tensor:  # fmt: skip
    """The same by FlexAttention."""
    query, key, value, of_query, of_key = _split(raw, scale, shift, logit_scale, by_query, by_key)
    last = raw.shape[3] - 1

    def add_bias(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        relative = k - q + last
        return score + of_query[b, h, q, relative] + of_key[b, h, k, relative] + logit_shift[h]

    return _join(flex(query, key, value, score_mod=add_bias, scale=1.0), raw)
