"""Position-sensitive attention along one axis, its maps made as a whole."""

from typing import Optional

import torch
from torch import Tensor


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
    reach: int,
) -> Tensor:
    """See :func:`deeplab2_d2.ops.axial_attention`; ``reach`` is how far a query sees."""
    heads, length = len(logit_shift), raw.shape[3]
    values_NCSL = raw.to(scale.dtype) * scale[:, None, None] + shift[:, None, None]
    key_depth = (raw.shape[1] - value_depth) // 2
    query, key, value = (
        part.unflatten(1, (heads, -1))
        for part in values_NCSL.split([key_depth, key_depth, value_depth], dim=1)
    )
    places = torch.arange(length, device=raw.device)
    relative_LM = places - places[:, None] + length - 1
    content, by_query, by_key = logit_scale[:, :, None, None, None]
    logits_NHSLM = content * torch.einsum("nhdsl,nhdsm->nhslm", query, key)
    if query_encoding is not None:
        encoding_LMD = query_encoding[relative_LM]
        logits_NHSLM = logits_NHSLM + by_query * torch.einsum(
            "nhdsl,lmd->nhslm", query, encoding_LMD
        )
    if key_encoding is not None:
        encoding_LMD = key_encoding[relative_LM]
        logits_NHSLM = logits_NHSLM + by_key * torch.einsum("nhdsm,lmd->nhslm", key, encoding_LMD)
    logits_NHSLM = logits_NHSLM + logit_shift[:, None, None, None]
    is_hidden_LM = (places - places[:, None]).abs() > reach
    weights_NHSLM = logits_NHSLM.masked_fill(is_hidden_LM, -torch.inf).softmax(dim=-1)
    retrieved = []
    if retrieve_content:
        retrieved.append(torch.einsum("nhslm,nhdsm->nhdsl", weights_NHSLM, value))
    if value_encoding is not None:
        encoding_LMD = value_encoding[relative_LM]
        retrieved.append(torch.einsum("nhslm,lmd->nhdsl", weights_NHSLM, encoding_LMD))
    return torch.cat([part.flatten(1, 2) for part in retrieved], dim=1).to(raw.dtype)
