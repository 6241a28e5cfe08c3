"""
Axial and global self-attention with batch norm in place of scaling.

Reference: Axial-DeepLab (arXiv:2003.07853), Sec. 3; DeepLab2 adds the batch norms: of queries,
keys and values; of the similarities, over [term, head]; of what is retrieved, over
[term, head, channel].

Letters: N images, S the other axis, B = N x S sequences, H heads, L queries, M keys, D channels
of a head, T terms of the similarity.
"""

from dataclasses import dataclass, replace
from typing import Callable, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activation import Activation
from .checkpointing import checkpointed
from .initialization import truncated_normal_
from .norm import Moments, Norm, scale_and_shift
from .position_encoding import RelativePositionEncoding

# What is left of an AttentionSpec where there are no relative positions.
_CONTENT_ONLY = {
    "use_content": True,
    "use_query_encoding": False,
    "use_key_encoding": False,
    "retrieve_content": True,
    "retrieve_encoding": False,
    "span": None,
}

FORMS = ("lean", "direct")


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
        form: "lean" adds up one L x L map a head, and makes it again in backward; "direct" makes
            every term's, as DeepLab2. Their values are the same.
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

    def value_channels(self, width: int) -> int:
        """Channels of the output for a width."""
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
        self.qkv_kernel = nn.Parameter(torch.empty(in_channels, 2 * key_depth + value_depth))
        truncated_normal_(self.qkv_kernel, std=in_channels**-0.5)
        self.batch_norm_qkv = norm.build(2 * key_depth + value_depth, is_biased=True)
        terms = (spec.use_content, spec.use_query_encoding, spec.use_key_encoding)
        self.batch_norm_similarity = norm.build(sum(terms) * spec.num_heads, is_biased=True)
        retrieved = (spec.retrieve_content, spec.retrieve_encoding)
        self.batch_norm_retrieved_output = norm.build(sum(retrieved) * value_depth, is_biased=True)
        self.query_rpe = self.key_rpe = self.value_rpe = None
        key_std, depth = spec.query_key_encoding_std, key_depth // spec.num_heads
        if spec.use_query_encoding:
            self.query_rpe = RelativePositionEncoding(depth, std=key_std)
        if spec.use_key_encoding:
            self.key_rpe = RelativePositionEncoding(depth, std=key_std)
        if spec.retrieve_encoding:
            self.value_rpe = RelativePositionEncoding(
                value_depth // spec.num_heads, std=spec.value_encoding_std
            )
        self.activation = Activation(spec.activation)

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.qkv_kernel.t()[:, :, None, None]
        qkv = self.batch_norm_qkv(F.conv2d(features, kernel))
        query, key, value = (
            self._split_heads(part)
            for part in qkv.split([self.key_depth, self.key_depth, self.value_depth], dim=1)
        )
        if self.spec.form == "direct":
            retrieved = self._retrieve(self._direct_logits(query, key), value)
        else:
            retrieved = self._lean(query, key, value)
        return self._merge(retrieved, features.shape[0])

    def _split_heads(self, features: Tensor) -> Tensor:
        """(N, heads * D, L, S) to (B, H, L, D)."""
        num_images, _, length, others = features.shape
        heads = features.view(num_images, self.spec.num_heads, -1, length, others)
        return heads.permute(0, 4, 1, 3, 2).reshape(
            num_images * others, self.spec.num_heads, length, -1
        )

    def _merge(self, retrieved: List[Tensor], num_images: int) -> Tensor:
        """(B, H, L, D) of each retrieved term to their normalised sum, (N, value_depth, L, S)."""
        num_sequences, num_heads, length, depth = retrieved[0].shape
        others = num_sequences // num_images
        stacked = torch.stack(retrieved).view(
            len(retrieved), num_images, others, num_heads, length, depth
        )
        stacked = stacked.permute(1, 0, 3, 5, 4, 2).reshape(num_images, -1, length, others)
        normalised = self.batch_norm_retrieved_output(stacked)
        return sum(normalised.split(self.value_depth, dim=1))

    def _similarities(self, query: Tensor, key: Tensor) -> List[Callable[[], Tensor]]:
        """The terms of the similarity, each (B, H, L, M) when called."""
        terms: List[Callable[[], Tensor]] = []
        if self.spec.use_content:
            terms.append(lambda: query @ key.transpose(-1, -2))
        length = query.shape[2]
        if self.query_rpe is not None:
            terms.append(lambda: torch.einsum("bhld,lmd->bhlm", query, self.query_rpe(length)))
        if self.key_rpe is not None:
            terms.append(lambda: torch.einsum("bhmd,lmd->bhlm", key, self.key_rpe(length)))
        return terms

    def _direct_logits(self, query: Tensor, key: Tensor) -> Tensor:
        similarities = [term() for term in self._similarities(query, key)]
        if self._visible(query.shape[2], query.device) is not None:
            return self._folded_logits(query, key, self._scale_and_shift(query, key))
        normalised = self.batch_norm_similarity(torch.cat(similarities, dim=1))
        return sum(normalised.split(self.spec.num_heads, dim=1))

    def _lean(self, query: Tensor, key: Tensor, value: Tensor) -> List[Tensor]:
        scale_shift = self._scale_and_shift(query, key)

        def attend(query: Tensor, key: Tensor, value: Tensor, *scale_shift: Tensor) -> List[Tensor]:
            return self._retrieve(self._folded_logits(query, key, scale_shift), value)

        if self.training and torch.is_grad_enabled():
            return checkpointed(self, attend, query, key, value, *scale_shift)
        return attend(query, key, value, *scale_shift)

    def _scale_and_shift(self, query: Tensor, key: Tensor) -> Tuple[Tensor, ...]:
        """Of the normalised similarities: (T, H) each."""

        def moments() -> Moments:
            return checkpointed(self, self._moments, query, key)

        scale, shift = scale_and_shift(self.batch_norm_similarity, moments)
        return scale.view(-1, self.spec.num_heads), shift.view(-1, self.spec.num_heads)

    def _folded_logits(self, query: Tensor, key: Tensor, scale_shift: Tuple[Tensor, ...]) -> Tensor:
        """
        The sum of the normalised similarities, (B, H, L, M).

        A scale on a similarity is one on its queries or keys, which are smaller.
        """
        scale, shift = (part.to(query.dtype) for part in scale_shift)
        scales = list(scale[:, None, :, None, None])
        length = query.shape[2]
        logits = shift.sum(dim=0).view(1, -1, 1, 1)
        if self.spec.use_content:
            logits = (query * scales.pop(0)) @ key.transpose(-1, -2) + logits
        if self.query_rpe is not None:
            encoding = self.query_rpe(length).to(query.dtype)
            logits = torch.einsum("bhld,lmd->bhlm", query * scales.pop(0), encoding) + logits
        if self.key_rpe is not None:
            encoding = self.key_rpe(length).to(query.dtype)
            logits = torch.einsum("bhmd,lmd->bhlm", key * scales.pop(0), encoding) + logits
        return logits

    def _moments(self, query: Tensor, key: Tensor) -> Moments:
        """Mean and mean square of each similarity, (T * H,) each, over B, L and M."""
        visible = self._visible(query.shape[2], query.device)
        query, key = query.float(), key.float()
        if visible is not None:
            return _moments_of_visible(self._similarities(query, key), visible)
        # The sum over l and m of (q_l . k_m)^2 is the inner product of sum q_l q_l' and
        # sum k_m k_m': D x D matrices instead of L x M.
        length, count = query.shape[2], query.shape[0] * query.shape[2] ** 2
        sums: List[Tensor] = []
        squares: List[Tensor] = []
        if self.spec.use_content:
            sums.append((query.sum(2) * key.sum(2)).sum(dim=(0, 2)))
            grams = _gram(query, "bhld,bhle->bhde") * _gram(key, "bhld,bhle->bhde")
            squares.append(grams.sum(dim=(0, 2, 3)))
        for encoding, values, axis in ((self.query_rpe, query, 1), (self.key_rpe, key, 0)):
            if encoding is None:
                continue
            table = encoding(length).float()
            sums.append((values.sum(0) * table.sum(axis)).sum(dim=(1, 2)))
            equation = "lmd,lme->lde" if axis == 1 else "lmd,lme->mde"
            grams = _gram(values, "bhld,bhle->hlde") * _gram(table, equation)
            squares.append(grams.sum(dim=(1, 2, 3)))
        return torch.cat(sums) / count, torch.cat(squares) / count

    def _visible(self, length: int, device: torch.device) -> Optional[Tensor]:
        """(L, M) bool, which pairs are within the span; None if all are."""
        if self.spec.span is None or length <= self.spec.span // 2 + 1:
            return None
        positions = torch.arange(length, device=device)
        return (positions[:, None] - positions[None, :]).abs() <= self.spec.span // 2

    def _retrieve(self, logits: Tensor, value: Tensor) -> List[Tensor]:
        """(B, H, L, D) of each term that is retrieved."""
        length = value.shape[2]
        visible = self._visible(length, value.device)
        if visible is not None:
            logits = logits.masked_fill(~visible, torch.finfo(logits.dtype).min)
        weights = self.activation(logits)
        retrieved = []
        if self.spec.retrieve_content:
            retrieved.append(weights @ value)
        if self.value_rpe is not None:
            encoding = self.value_rpe(length).to(weights.dtype)
            retrieved.append(torch.einsum("bhlm,lmd->bhld", weights, encoding))
        return retrieved


def _gram(values: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, values, values)


def _moments_of_visible(terms: List[Callable[[], Tensor]], visible: Tensor) -> Moments:
    means, squares = [], []
    for term in terms:
        similarity = term() * visible
        count = visible.sum() * similarity.shape[0]
        means.append(similarity.sum(dim=(0, 2, 3)) / count)
        squares.append((similarity * similarity).sum(dim=(0, 2, 3)) / count)
    return torch.cat(means), torch.cat(squares)


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
        options = {
            "key_depth": int(round(width * spec.key_expansion)),
            "value_depth": self.out_channels,
        }
        self.height_axis = AxialAttention(in_channels, spec=spec, norm=norm, **options)
        self.width_axis = AxialAttention(self.out_channels, spec=spec, norm=norm, **options)

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
                key_depth=int(round(width * spec.key_expansion)),
                value_depth=self.out_channels,
                spec=spec,
                norm=norm,
            )
            self.add_module("global" + (str(index + 1) if index else ""), layer)
            in_channels = self.out_channels

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        height, width = features.shape[-2:]
        pixels = features.flatten(2)[..., None]
        for index in range(self.num_layers):
            pixels = getattr(self, "global" + (str(index + 1) if index else ""))(pixels)
        pixels = pixels.view(features.shape[0], -1, height, width)
        return pixels[:, :, :: self.stride, :: self.stride]
