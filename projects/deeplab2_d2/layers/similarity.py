"""
The similarity of position-sensitive attention: its terms, their sums, their normalised sum.

Reference: Axial-DeepLab (arXiv:2003.07853), Eq. 4. Letters: B sequences, H heads, L queries, M keys
(as many), D channels of a head, T terms. The terms are, in this order and as far as they are used,
the content ``q_l . k_m``, the query's ``q_l . r^q_(m-l)`` and the key's ``k_m . r^k_(m-l)``.
"""

from typing import Callable, List, NamedTuple, Optional

import torch
from torch import Tensor

from ..ops import AttentionMoments


class Encodings(NamedTuple):
    """
    Relative position encodings, (L, M, D) each, or None if the attention has not that term.

    Attributes:
        query, key: of the similarity.
        value: of what is retrieved.
    """

    query: Optional[Tensor] = None
    key: Optional[Tensor] = None
    value: Optional[Tensor] = None


def similarity_terms(
    query_BHLD: Tensor, key_BHMD: Tensor, encodings: Encodings, *, use_content: bool
) -> List[Callable[[], Tensor]]:
    """The terms of the similarity, each (B, H, L, M) once called."""
    query_rpe, key_rpe = encodings.query, encodings.key
    terms: List[Callable[[], Tensor]] = []
    if use_content:
        terms.append(lambda: query_BHLD @ key_BHMD.transpose(-1, -2))
    if query_rpe is not None:
        terms.append(lambda: torch.einsum("bhld,lmd->bhlm", query_BHLD, query_rpe))
    if key_rpe is not None:
        terms.append(lambda: torch.einsum("bhmd,lmd->bhlm", key_BHMD, key_rpe))
    return terms


def folded_logits(
    query_BHLD: Tensor,
    key_BHMD: Tensor,
    encodings: Encodings,
    scale_TH: Tensor,
    shift_TH: Tensor,
    *,
    use_content: bool,
) -> Tensor:
    """
    The sum of the terms, each times its scale plus its shift: batch norm folded, (B, H, L, M).

    A scale on a term is one on its queries or keys, which are smaller; no term is kept.
    """
    scales = list(scale_TH.to(query_BHLD.dtype)[:, None, :, None, None])
    logits: Optional[Tensor] = None
    if use_content:
        logits = (query_BHLD * scales.pop(0)) @ key_BHMD.transpose(-1, -2)
    parts = ((encodings.query, query_BHLD, "bhld"), (encodings.key, key_BHMD, "bhmd"))
    for encoding_LMD, values, letters in parts:
        if encoding_LMD is None:
            continue
        scaled = values * scales.pop(0)
        term = torch.einsum(f"{letters},lmd->bhlm", scaled, encoding_LMD.to(scaled.dtype))
        logits = term if logits is None else logits.add_(term)
    assert logits is not None
    return logits.add_(shift_TH.sum(dim=0).to(logits.dtype).view(1, -1, 1, 1))


def similarity_sums(
    query_BHLD: Tensor,
    key_BHMD: Tensor,
    encodings: Encodings,
    *,
    use_content: bool,
    visible_LM: Optional[Tensor] = None,
) -> Tensor:
    """
    Sum and sum of squares of each term over B, L and M, (2, T * H), at least float32.

    No L x M map is made: the sum over l and m of ``(q_l . k_m)^2`` is that over l of
    ``q_l' G q_l`` with the D x D matrix ``G = sum_m k_m k_m'``.

    Args:
        visible_LM: bool, the pairs that count; None for all. With a mask the maps are made.
    """
    query_BHLD, key_BHMD = _full_precision(query_BHLD), _full_precision(key_BHMD)
    if visible_LM is not None:
        terms = similarity_terms(query_BHLD, key_BHMD, encodings, use_content=use_content)
        return _sums_of_visible(terms, visible_LM)
    sums: List[Tensor] = []
    squares: List[Tensor] = []
    if use_content:
        sums.append((query_BHLD.sum(2) * key_BHMD.sum(2)).sum(dim=(0, 2)))
        gram_BHDE = key_BHMD.transpose(-1, -2) @ key_BHMD
        squares.append(((query_BHLD @ gram_BHDE) * query_BHLD).sum(dim=(0, 2, 3)))
    for encoding, values, axis in ((encodings.query, query_BHLD, 1), (encodings.key, key_BHMD, 0)):
        if encoding is None:
            continue
        # (position, its partner, D): a query's partners are the keys, and the other way round.
        table = _full_precision(encoding if axis == 1 else encoding.transpose(0, 1))
        sums.append((values.sum(0) * table.sum(1)).sum(dim=(1, 2)))
        gram_LDE = table.transpose(-1, -2) @ table
        weighted = torch.einsum("bhld,lde->bhle", values, gram_LDE)
        squares.append((weighted * values).sum(dim=(0, 2, 3)))
    return torch.stack([torch.cat(sums), torch.cat(squares)])


def sums_of_moments(
    moments: AttentionMoments, encodings: Encodings, *, use_content: bool
) -> Tensor:
    """What :func:`similarity_sums` gives without a mask, of the operator's sums over sequences."""
    sums, squares = ([row] for row in moments.content)
    if not use_content:
        sums, squares = [], []
    for kind, encoding in enumerate((encodings.query, encodings.key)):
        if encoding is None:
            continue
        # (position, its partner, D), as in `similarity_sums`.
        table = encoding if kind == 0 else encoding.transpose(0, 1)
        table = table.to(moments.sums.dtype)
        total_DL = table.sum(1).t()
        sums.append((moments.sums[kind] * total_DL).sum(dim=(1, 2)))
        gram_LDE = table.transpose(-1, -2) @ table
        rows, columns = torch.tril_indices(*gram_LDE.shape[1:], device=table.device)
        # Each pair of different channels stands for two.
        weights_P = torch.where(rows == columns, 1.0, 2.0).to(table.dtype)
        gram_PL = (gram_LDE[:, rows, columns] * weights_P).t()
        squares.append((moments.products[kind] * gram_PL).sum(dim=(1, 2)))
    return torch.stack([torch.cat(sums), torch.cat(squares)])


def visible_pairs(length: int, span: Optional[int], device: torch.device) -> Optional[Tensor]:
    """(length, length) bool, which pairs are within the span; None if all are."""
    if span is None or length <= span // 2 + 1:
        return None
    positions = torch.arange(length, device=device)
    return (positions[:, None] - positions[None, :]).abs() <= span // 2


def _full_precision(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _sums_of_visible(terms: List[Callable[[], Tensor]], visible_LM: Tensor) -> Tensor:
    sums = []
    for term in terms:
        similarity = term() * visible_LM
        square = (similarity * similarity).sum(dim=(0, 2, 3))
        sums.append(torch.stack([similarity.sum(dim=(0, 2, 3)), square]))
    return torch.cat(sums, dim=1)
