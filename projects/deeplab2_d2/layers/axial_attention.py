"""
Axial and global self-attention with batch norm in place of scaling.

Reference: Axial-DeepLab (arXiv:2003.07853), Sec. 3; DeepLab2 adds the batch norms: of queries,
keys and values; of the similarities, over [term, head]; of what is retrieved, over
[term, head, channel].

Letters: N images, S the other axis, B = N x S sequences, H heads, L queries, M keys (as many),
D channels of a head.
"""

from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor, nn

from ..ops import attention_moments, axial_attention
from ..ops.extension import has_kernels
from .activation import Activation
from .attention_spec import AttentionSpec
from .axis_parts import split_axis
from .channel_normalization import channel_moments, per_channel, scaled_sum
from .chunking import map_rows, split_rows, sum_rows
from .fused_convolution import FoldingModule, fast_layout, project_channels
from .initialization import truncated_normal_
from .norm import Moments, Norm, has_batch_statistics, scale_and_shift
from .position_encoding import RelativePositionEncoding
from .similarity import (
    Encodings,
    folded_logits,
    similarity_sums,
    sums_of_moments,
    visible_pairs,
)

# The lean form makes maps of at most so many similarities at once: on a CPU they stay in its
# cache, on a GPU they keep it busy. Meta tensors need no memory.
_CHUNK_ELEMENTS = {"cpu": 2**20, "meta": 2**60}
_CHUNK_ELEMENTS_ELSEWHERE = 2**24

# Where the operator does the work. Its CUDA kernels have not been timed on a GPU beside the lean
# form (bench_axial.py does it): with "cuda" here they are used.
_OPERATOR_DEVICES = ("cpu",)


class AxialAttention(FoldingModule):
    """Every pixel attends to the pixels of its column: (N, C, L, S) to (N, value_depth, L, S)."""

    def __init__(
        self, in_channels: int, *, key_depth: int, value_depth: int, spec: AttentionSpec, norm: Norm
    ):
        """
        Args:
            key_depth, value_depth: channels of all heads.

        Raises:
            ValueError: if the heads do not divide them.
        """
        super().__init__()
        for name, depth in (("key_depth", key_depth), ("value_depth", value_depth)):
            if depth % spec.num_heads:
                raise ValueError(
                    f"{name} must be a multiple of {spec.num_heads} heads, got {depth}"
                )
        self.spec = spec
        self.key_depth, self.value_depth = key_depth, value_depth
        # (in, out), as in DeepLab2's checkpoints.
        self.qkv_kernel = nn.Parameter(torch.empty(in_channels, 2 * key_depth + value_depth))
        truncated_normal_(self.qkv_kernel, std=in_channels**-0.5)
        self.batch_norm_qkv = norm.build_batch_norm(2 * key_depth + value_depth, is_biased=True)
        num_terms = spec.use_content + spec.use_query_encoding + spec.use_key_encoding
        self.batch_norm_similarity = norm.build_batch_norm(
            num_terms * spec.num_heads, is_biased=True
        )
        num_retrieved = spec.retrieve_content + spec.retrieve_encoding
        self.batch_norm_retrieved_output = norm.build_batch_norm(
            num_retrieved * value_depth, is_biased=True
        )
        key_rpe = (key_depth // spec.num_heads, spec.query_key_encoding_std)
        value_rpe = (value_depth // spec.num_heads, spec.value_encoding_std)
        self.query_rpe = _encoding(spec.use_query_encoding, *key_rpe)
        self.key_rpe = _encoding(spec.use_key_encoding, *key_rpe)
        self.value_rpe = _encoding(spec.retrieve_encoding, *value_rpe)
        self.activation = Activation(spec.activation)

    def forward(self, features: Tensor) -> Tensor:
        # (N, C, S, L): sequences are in one piece.
        raw = project_channels(features.transpose(2, 3), self.qkv_kernel, self._kernel)
        attend = self._attend_by_operator if self._has_operator(raw) else self._attend
        return fast_layout(attend(raw)).transpose(2, 3)

    def _encodings(self, length: int) -> Encodings:
        tables = (self.query_rpe, self.key_rpe, self.value_rpe)
        return Encodings(*(None if rpe is None else rpe(length) for rpe in tables))

    def _has_operator(self, raw: Tensor) -> bool:
        """Of what is exported or counted, the lean form is the graph."""
        is_whole = torch.compiler.is_compiling() or torch.jit.is_tracing()
        return (
            self.spec.activation == "softmax"
            and raw.device.type in _OPERATOR_DEVICES
            and not is_whole
            and has_kernels("axial_attention", raw.device.type)
        )

    def _attend_by_operator(self, raw: Tensor) -> Tensor:
        scale_C, shift_C = scale_and_shift(self.batch_norm_qkv, lambda: channel_moments(raw))
        dtype = torch.float64 if raw.dtype == torch.float64 else torch.float32
        scale_C, shift_C = scale_C.to(dtype), shift_C.to(dtype)
        scale_TH, shift_TH = self._similarity_norm(raw, (scale_C, shift_C), by_operator=True)
        scales_H = iter(scale_TH)
        is_used = (self.spec.use_content, self.query_rpe is not None, self.key_rpe is not None)
        terms = [next(scales_H) if used else torch.zeros_like(scale_TH[0]) for used in is_used]
        tables = (
            None if rpe is None else rpe.table(raw.shape[3] - 1).to(dtype)
            for rpe in (self.query_rpe, self.key_rpe, self.value_rpe)
        )
        retrieved = axial_attention(
            raw,
            scale_C,
            shift_C,
            torch.stack(terms).to(dtype),
            shift_TH.sum(dim=0).to(dtype),
            *tables,
            value_depth=self.value_depth,
            retrieve_content=self.spec.retrieve_content,
            span=self.spec.span,
        )
        norm = self.batch_norm_retrieved_output
        scale, shift = scale_and_shift(norm, lambda: channel_moments(retrieved))
        return scaled_sum(
            retrieved, scale.view(-1, self.value_depth), shift.view(-1, self.value_depth)
        )

    def _similarity_norm(
        self, raw: Tensor, qkv_C: Tuple[Tensor, Tensor], *, by_operator: bool = False
    ) -> List[Tensor]:
        """(T, H) scales and shifts of the similarities."""
        norm = self.batch_norm_similarity
        moments = self._moments_by_operator if by_operator else self._similarity_moments
        found = scale_and_shift(norm, lambda: moments(raw, qkv_C))
        return [values.view(-1, self.spec.num_heads) for values in found]

    def _split_heads(self, qkv: Tensor) -> List[Tensor]:
        """(N, C, S, L) of queries, keys and perhaps values to (B, H, L, D) of each."""
        depths = [self.key_depth, self.key_depth, qkv.shape[1] - 2 * self.key_depth]
        heads = [
            split_axis(part, 1, (self.spec.num_heads, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
            for part in qkv.split(depths, dim=1)
            if part.shape[1]
        ]
        return [part.transpose(2, 3) for part in heads]

    def _join_heads(self, retrieved_BTHDL: Tensor, num_images: int, num_others: int = -1) -> Tensor:
        """(B, T * H, D, L) of all that is retrieved to (N, T * H * D, S, L)."""
        sizes = (num_images, num_others)
        parts = split_axis(retrieved_BTHDL, 0, sizes).permute(0, 2, 3, 1, 4)
        return parts.flatten(1, 2)

    def _attend(self, raw: Tensor) -> Tensor:
        """
        A few sequences at a time: of their similarities only one L x M map a head is made.

        Queries, keys and values are normalised there, too, so that for backward only their raw
        values and what was retrieved are kept.
        """
        qkv_C = scale_and_shift(self.batch_norm_qkv, lambda: channel_moments(raw))
        scale_TH, shift_TH = self._similarity_norm(raw, qkv_C)
        encodings = self._encodings(raw.shape[3])
        chunks = split_rows(raw, self._num_rows(raw, self.spec.num_heads * raw.shape[3] ** 2))
        shared = (*qkv_C, scale_TH, shift_TH, *encodings)
        norm = self.batch_norm_retrieved_output
        if has_batch_statistics(norm):
            retrieved = map_rows(
                self._retrieve_rows, chunks, raw, shared, out_channels=norm.num_features
            )
            scale, shift = scale_and_shift(norm, lambda: channel_moments(retrieved))
            return scaled_sum(
                retrieved, scale.view(-1, self.value_depth), shift.view(-1, self.value_depth)
            )
        shared = (*scale_and_shift(norm), *shared)
        return map_rows(self._attend_rows, chunks, raw, shared, out_channels=self.value_depth)

    def _num_rows(self, raw: Tensor, elements: int) -> int:
        """How many sequences make maps of the size wanted, if one makes so many elements."""
        return _CHUNK_ELEMENTS.get(raw.device.type, _CHUNK_ELEMENTS_ELSEWHERE) // elements

    def _moments_by_operator(self, raw: Tensor, qkv_C: Tuple[Tensor, Tensor]) -> Moments:
        length = raw.shape[3]
        if visible_pairs(length, self.spec.span, raw.device) is not None:
            return self._similarity_moments(raw, qkv_C)
        moments = attention_moments(
            raw, *qkv_C, num_heads=self.spec.num_heads, key_depth=self.key_depth
        )
        use_content = self.spec.use_content
        found = sums_of_moments(moments, self._encodings(length), use_content=use_content)
        mean, square = found / (raw.shape[0] * raw.shape[2] * length**2)
        return mean, square

    def _similarity_moments(self, raw: Tensor, qkv_C: Tuple[Tensor, Tensor]) -> Moments:
        length = raw.shape[3]
        encodings = self._encodings(length)
        visible_LM = visible_pairs(length, self.spec.span, raw.device)
        elements = self.key_depth * length
        num_pairs: Any = length * length
        if visible_LM is not None:
            elements, num_pairs = self.spec.num_heads * length * length, visible_LM.sum()

        def sums(
            raw: Tensor, scale_C: Tensor, shift_C: Tensor, *encodings_LMD: Optional[Tensor]
        ) -> Tensor:
            query, key = self._split_heads(_normalised(raw, scale_C, shift_C))
            return similarity_sums(
                query,
                key,
                Encodings(*encodings_LMD),
                use_content=self.spec.use_content,
                visible_LM=visible_LM,
            )

        chunks = split_rows(raw, self._num_rows(raw, elements))
        depth = 2 * self.key_depth
        shared = (*(values[:depth] for values in qkv_C), encodings.query, encodings.key)
        found = sum_rows(sums, chunks, raw[:, :depth], shared)
        mean, square = found / (raw.shape[0] * raw.shape[2] * num_pairs)
        return mean, square

    def _retrieve_rows(
        self,
        raw: Tensor,
        scale_C: Tensor,
        shift_C: Tensor,
        scale_TH: Tensor,
        shift_TH: Tensor,
        *encodings_LMD: Optional[Tensor],
    ) -> Tensor:
        """(n, T * H * D, s, L) that n x s sequences retrieve."""
        query, key, value = self._split_heads(_normalised(raw, scale_C, shift_C))
        encodings = Encodings(*encodings_LMD)
        logits = folded_logits(
            query, key, encodings, scale_TH, shift_TH, use_content=self.spec.use_content
        )
        visible_LM = visible_pairs(raw.shape[3], self.spec.span, raw.device)
        retrieved = self._retrieve(logits, value, encodings.value, visible_LM)
        return self._join_heads(retrieved, raw.shape[0], raw.shape[2])

    def _attend_rows(
        self, raw: Tensor, scale: Tensor, shift: Tensor, *shared: Optional[Tensor]
    ) -> Tensor:
        """The same with the last batch norm, (n, H * D, s, L)."""
        retrieved = self._retrieve_rows(raw, *shared)  # type: ignore[arg-type]
        return scaled_sum(
            retrieved, scale.view(-1, self.value_depth), shift.view(-1, self.value_depth)
        )

    def _retrieve(
        self,
        logits_BHLM: Tensor,
        value_BHMD: Tensor,
        value_rpe_LMD: Optional[Tensor],
        visible_LM: Optional[Tensor],
    ) -> Tensor:
        """(B, T * H, D, L)."""
        if visible_LM is not None:
            logits_BHLM = logits_BHLM.masked_fill(~visible_LM, torch.finfo(logits_BHLM.dtype).min)
        weights_BHLM = self.activation(logits_BHLM)
        retrieved = []
        if self.spec.retrieve_content:
            retrieved.append(value_BHMD.transpose(-1, -2) @ weights_BHLM.transpose(-1, -2))
        if value_rpe_LMD is not None:
            encoding_LMD = value_rpe_LMD.to(weights_BHLM.dtype)
            retrieved.append(torch.einsum("bhlm,lmd->bhdl", weights_BHLM, encoding_LMD))
        return retrieved[0] if len(retrieved) == 1 else torch.cat(retrieved, dim=1)


def _normalised(raw: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    return torch.addcmul(per_channel(shift_C), raw, per_channel(scale_C)).to(raw.dtype)


def _encoding(is_used: bool, depth: int, std: float) -> Optional[RelativePositionEncoding]:
    return RelativePositionEncoding(depth, std=std) if is_used else None
