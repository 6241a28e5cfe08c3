"""
Axial and global self-attention with batch norm in place of scaling.

Reference: Axial-DeepLab (arXiv:2003.07853), Sec. 3; DeepLab2 adds the batch norms: of queries,
keys and values; of the similarities, over [term, head]; of what is retrieved, over
[term, head, channel].

Letters: N images, S the other axis, B = N x S sequences, H heads, L queries, M keys (as many),
D channels of a head.
"""

from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activation import Activation
from .checkpointing import checkpointed
from .initialization import truncated_normal_
from .norm import Moments, Norm, scale_and_shift
from .position_encoding import RelativePositionEncoding
from .similarity import (
    Encodings,
    folded_logits,
    similarity_moments,
    similarity_terms,
    visible_pairs,
)

FORMS = ("lean", "direct")

# The lean form makes maps of at most so many similarities at once: on a CPU they stay in its
# cache, on a GPU they keep it busy.
_CHUNK_ELEMENTS = {"cpu": 2**20}
_CHUNK_ELEMENTS_ELSEWHERE = 2**24

# What is left of an AttentionSpec where there are no relative positions.
_CONTENT_ONLY: Dict[str, Any] = {
    "use_content": True,
    "use_query_encoding": False,
    "use_key_encoding": False,
    "retrieve_content": True,
    "retrieve_encoding": False,
    "span": None,
}


@dataclass(frozen=True)
class AttentionSpec:
    """
    Self-attention as data.

    Attributes:
        key_expansion: channels of queries and of keys, over the width.
        value_expansion: channels of values, over the width.
        num_heads: how many.
        use_content: similarity of queries and keys.
        use_query_encoding: similarity of queries and relative positions.
        use_key_encoding: similarity of keys and relative positions.
        retrieve_content: values.
        retrieve_encoding: relative positions of the values.
        query_key_encoding_std: of the initial encodings.
        value_encoding_std: of the initial encodings.
        activation: "softmax" or "sigmoid", of the similarities.
        span: a pixel attends to this many pixels around it (odd); None for all.
        num_global_layers: of global attention: 2 have as many parameters as an axial pair.
        form: "lean" makes one L x M map a head, a few sequences at a time, and makes it again in
            backward; "direct" makes a map for every term and keeps them, as DeepLab2 does. Their
            values are the same.
    """

    key_expansion: float = 1.0
    value_expansion: float = 2.0
    num_heads: int = 8
    use_content: bool = True
    use_query_encoding: bool = True
    use_key_encoding: bool = True
    retrieve_content: bool = True
    retrieve_encoding: bool = True
    query_key_encoding_std: float = 1.0
    value_encoding_std: float = 1.0
    activation: str = "softmax"
    span: Optional[int] = None
    num_global_layers: int = 1
    form: str = "lean"

    def __post_init__(self) -> None:
        if not (self.use_content or self.use_query_encoding or self.use_key_encoding):
            raise ValueError("attention must use at least one of its similarities, got none")
        if not (self.retrieve_content or self.retrieve_encoding):
            raise ValueError("attention must retrieve content or encoding, got none")
        if self.span is not None and (self.span < 1 or self.span % 2 == 0):
            raise ValueError(f"attention span must be odd and positive, got {self.span}")
        if self.form not in FORMS:
            raise ValueError(f"attention form must be one of {FORMS}, got {self.form!r}")

    def key_channels(self, width: int) -> int:
        """Channels of queries and of keys for a width."""
        return int(round(width * self.key_expansion))

    def value_channels(self, width: int) -> int:
        """Channels of values, which are the output's, for a width."""
        return int(round(width * self.value_expansion))


class AxialAttention(nn.Module):
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
        self.batch_norm_qkv = norm.build(2 * key_depth + value_depth, is_biased=True)
        num_terms = spec.use_content + spec.use_query_encoding + spec.use_key_encoding
        self.batch_norm_similarity = norm.build(num_terms * spec.num_heads, is_biased=True)
        num_retrieved = spec.retrieve_content + spec.retrieve_encoding
        self.batch_norm_retrieved_output = norm.build(num_retrieved * value_depth, is_biased=True)
        key_rpe = (key_depth // spec.num_heads, spec.query_key_encoding_std)
        value_rpe = (value_depth // spec.num_heads, spec.value_encoding_std)
        self.query_rpe = _encoding(spec.use_query_encoding, *key_rpe)
        self.key_rpe = _encoding(spec.use_key_encoding, *key_rpe)
        self.value_rpe = _encoding(spec.retrieve_encoding, *value_rpe)
        self.activation = Activation(spec.activation)

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.qkv_kernel.t()[:, :, None, None]
        qkv = self.batch_norm_qkv(F.conv2d(features, kernel))
        query, key, value = (
            self._split_heads(part)
            for part in qkv.split([self.key_depth, self.key_depth, self.value_depth], dim=1)
        )
        length = features.shape[2]
        encodings = Encodings(
            *(
                None if rpe is None else rpe(length)
                for rpe in (self.query_rpe, self.key_rpe, self.value_rpe)
            )
        )
        attend = self._attend_directly if self.spec.form == "direct" else self._attend
        return self._merge(attend(query, key, value, encodings), features.shape[0])

    def _split_heads(self, features: Tensor) -> Tensor:
        """(N, H * D, L, S) to (B, H, L, D)."""
        num_images, _, length, others = features.shape
        heads_NHDLS = features.reshape(num_images, self.spec.num_heads, -1, length, others)
        return heads_NHDLS.permute(0, 4, 1, 3, 2).reshape(
            num_images * others, self.spec.num_heads, length, -1
        )

    def _merge(self, retrieved: Tensor, num_images: int) -> Tensor:
        """(B, T * H, L, D) of all that is retrieved to the sum normalised, (N, H * D, L, S)."""
        channels_NCLS = (
            retrieved.unflatten(0, (num_images, -1))
            .permute(0, 2, 4, 3, 1)
            .reshape(num_images, -1, retrieved.shape[2], retrieved.shape[0] // num_images)
        )
        normalised = self.batch_norm_retrieved_output(channels_NCLS)
        terms = normalised.split(self.value_depth, dim=1)
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _attend_directly(
        self, query: Tensor, key: Tensor, value: Tensor, encodings: Encodings
    ) -> Tensor:
        """The formulas as they stand: what the lean form must equal."""
        if visible_pairs(query.shape[2], self.spec.span, query.device) is not None:
            scale_TH, shift_TH = self._scale_and_shift(query, key, encodings)
            return self._retrieve(query, key, value, encodings, scale_TH, shift_TH)
        terms = similarity_terms(query, key, encodings, use_content=self.spec.use_content)
        similarities = torch.cat([term() for term in terms], dim=1)
        normalised = self.batch_norm_similarity(similarities)
        logits = normalised.unflatten(1, (len(terms), -1)).sum(dim=1)
        return self._retrieve_with(self.activation(logits), value, encodings.value)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, encodings: Encodings) -> Tensor:
        """(B, T * H, L, D) of the retrieved terms, made of a few sequences at a time."""
        scale_TH, shift_TH = self._scale_and_shift(query, key, encodings)
        keeps_gradients = self.training and torch.is_grad_enabled()
        size = self._chunk_size(query)
        chunks = []
        for parts in zip(query.split(size), key.split(size), value.split(size)):
            arguments = (*parts, encodings, scale_TH, shift_TH)
            if keeps_gradients:
                chunks.append(checkpointed(self, self._retrieve, *arguments))
            else:
                chunks.append(self._retrieve(*arguments))
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _chunk_size(self, query: Tensor) -> int:
        """Number of sequences whose similarities are made at once."""
        num_sequences, num_heads, length, _ = query.shape
        if torch.compiler.is_compiling():
            return num_sequences
        limit = _CHUNK_ELEMENTS.get(query.device.type, _CHUNK_ELEMENTS_ELSEWHERE)
        return max(1, limit // (num_heads * length * length))

    def _scale_and_shift(
        self, query: Tensor, key: Tensor, encodings: Encodings
    ) -> Tuple[Tensor, Tensor]:
        """What the similarities' batch norm multiplies and adds, (T, H) each."""

        def moments(query: Tensor, key: Tensor) -> Moments:
            return similarity_moments(
                query,
                key,
                encodings,
                use_content=self.spec.use_content,
                visible_LM=visible_pairs(query.shape[2], self.spec.span, query.device),
            )

        scale, shift = scale_and_shift(
            self.batch_norm_similarity,
            lambda: checkpointed(self, moments, query, key),
        )
        heads = self.spec.num_heads
        return scale.view(-1, heads), shift.view(-1, heads)

    def _retrieve(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        encodings: Encodings,
        scale_TH: Tensor,
        shift_TH: Tensor,
    ) -> Tensor:
        logits_BHLM = folded_logits(
            query, key, encodings, scale_TH, shift_TH, use_content=self.spec.use_content
        )
        visible_LM = visible_pairs(query.shape[2], self.spec.span, query.device)
        if visible_LM is not None:
            logits_BHLM = logits_BHLM.masked_fill(~visible_LM, torch.finfo(logits_BHLM.dtype).min)
        return self._retrieve_with(self.activation(logits_BHLM), value, encodings.value)

    def _retrieve_with(
        self, weights_BHLM: Tensor, value_BHMD: Tensor, value_rpe_LMD: Optional[Tensor]
    ) -> Tensor:
        retrieved = []
        if self.spec.retrieve_content:
            retrieved.append(weights_BHLM @ value_BHMD)
        if value_rpe_LMD is not None:
            encoding_LMD = value_rpe_LMD.to(weights_BHLM.dtype)
            retrieved.append(torch.einsum("bhlm,lmd->bhld", weights_BHLM, encoding_LMD))
        return retrieved[0] if len(retrieved) == 1 else torch.cat(retrieved, dim=1)


def _encoding(is_used: bool, depth: int, std: float) -> Optional[RelativePositionEncoding]:
    return RelativePositionEncoding(depth, std=std) if is_used else None


class AxialAttention2d(nn.Module):
    """Attention along the height, then along the width, each followed by its stride."""

    def __init__(
        self, in_channels: int, *, width: int, spec: AttentionSpec, norm: Norm, stride: int = 1
    ):
        """
        Args:
            width: base number of channels, see :class:`AttentionSpec`.
        """
        super().__init__()
        self.stride = stride
        self.out_channels = spec.value_channels(width)
        options: Dict[str, Any] = {
            "key_depth": spec.key_channels(width),
            "value_depth": self.out_channels,
            "spec": spec,
            "norm": norm,
        }
        self.height_axis = AxialAttention(in_channels, **options)
        self.width_axis = AxialAttention(self.out_channels, **options)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        features = self.height_axis(features)[:, :, :: self.stride]
        features = self.width_axis(features.transpose(2, 3))[:, :, :: self.stride]
        return features.transpose(2, 3)


class GlobalAttention2d(nn.Module):
    """Every pixel attends to every pixel, by content alone."""

    def __init__(
        self, in_channels: int, *, width: int, spec: AttentionSpec, norm: Norm, stride: int = 1
    ):
        """
        Args:
            width: base number of channels, see :class:`AttentionSpec`.
            spec: its relative encodings and span are not used.
        """
        super().__init__()
        spec = replace(spec, **_CONTENT_ONLY)
        self.stride = stride
        self.out_channels = spec.value_channels(width)
        self.num_layers = spec.num_global_layers
        for index in range(self.num_layers):
            layer = AxialAttention(
                in_channels,
                key_depth=spec.key_channels(width),
                value_depth=self.out_channels,
                spec=spec,
                norm=norm,
            )
            self.add_module(self._name(index), layer)
            in_channels = self.out_channels

    @staticmethod
    def _name(index: int) -> str:
        return f"global{index + 1}" if index else "global"

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        pixels = features.flatten(2)[..., None]
        for index in range(self.num_layers):
            pixels = getattr(self, self._name(index))(pixels)
        pixels = pixels.view(features.shape[0], -1, *features.shape[-2:])
        return pixels[:, :, :: self.stride, :: self.stride]
