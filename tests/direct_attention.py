"""Axial attention by the formulas as they stand: what the lean form must equal."""

import torch
from torch import Tensor

from deeplab2_d2.layers import AxialAttention
from deeplab2_d2.layers.channel_normalization import per_channel
from deeplab2_d2.layers.norm import Moments, scale_and_shift
from deeplab2_d2.layers.similarity import similarity_terms, visible_pairs


class DirectAxialAttention(AxialAttention):
    """The same parameters; every similarity in whole, normalised and added."""

    def _has_operator(self, raw: Tensor) -> bool:
        return False

    def _attend(self, raw: Tensor) -> Tensor:
        """The formulas as they stand: what the lean form must equal."""
        encodings = self._encodings(raw.shape[3])
        query, key, value = self._split_heads(self.batch_norm_qkv(raw))
        visible_LM = visible_pairs(query.shape[2], self.spec.span, query.device)
        terms = similarity_terms(query, key, encodings, use_content=self.spec.use_content)
        similarities = torch.cat([term() for term in terms], dim=1)
        if visible_LM is None:
            normalised = self.batch_norm_similarity(similarities)
        else:
            normalised = self._normalise_visible(similarities, visible_LM)
        logits = normalised.unflatten(1, (len(terms), -1)).sum(dim=1)
        retrieved = self._retrieve(logits, value, encodings.value, visible_LM)
        channels = self._join_heads(retrieved, raw.shape[0])
        parts = self.batch_norm_retrieved_output(channels).split(self.value_depth, dim=1)
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _normalise_visible(self, similarities: Tensor, visible_LM: Tensor) -> Tensor:
        def moments() -> Moments:
            visible = similarities[:, :, visible_LM]
            return visible.mean(dim=(0, 2)), visible.square().mean(dim=(0, 2))

        scale, shift = scale_and_shift(self.batch_norm_similarity, moments)
        return similarities * per_channel(scale) + per_channel(shift)
