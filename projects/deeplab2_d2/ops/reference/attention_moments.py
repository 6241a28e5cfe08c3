"""Moments of an attention's queries and keys, by products of matrices."""

from typing import Tuple

import torch
from torch import Tensor


def attention_moments(
    raw: Tensor, scale: Tensor, shift: Tensor, *, num_heads: int, key_depth: int
) -> Tuple[Tensor, Tensor, Tensor]:
    """See `deeplab2_d2.ops.attention_moments`."""
    values = raw.to(scale.dtype) * scale[:, None, None] + shift[:, None, None]
    # Queries and keys: (N, 2, H, D, S, L).
    both = values[:, : 2 * key_depth].unflatten(1, (2, num_heads, -1))
    totals = both.sum(dim=5)
    grams = torch.einsum("nkhisl,nkhjsl->nkhsij", both, both)
    content = torch.stack(
        [
            (totals[:, 0] * totals[:, 1]).sum(dim=(0, 2, 3)),
            (grams[:, 0] * grams[:, 1]).sum(dim=(0, 2, 3, 4)),
        ]
    )
    rows, columns = torch.tril_indices(both.shape[3], both.shape[3], device=raw.device)
    products = torch.einsum("nkhisl,nkhjsl->khijl", both, both)
    return content, both.sum(dim=(0, 4)), products[:, :, rows, columns]
