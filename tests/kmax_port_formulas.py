"""
What the layers of bytedance/kmax-deeplab compute in evaluation, written down from its public code.

Letters: N images, B sequences, H heads, L queries, M keys, D channels of a head.
"""

from typing import Any, Dict, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Port:
    """
    Functions of weights by their names there.

    ``atrous_rate`` of the pixel decoder's 3x3 convolutions is 1 there, and 2 in DeepLab2, of which
    the rest of these formulas is the same.
    """

    def __init__(self, weights: Dict[str, Tensor], atrous_rate: int = 1):
        self.weights = weights
        self.atrous_rate = atrous_rate

    def norm(self, name: str, values: Tensor) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(values, *(self.weights[f"{name}.{p}"] for p in parts), eps=1e-3)

    def conv(self, name: str, values: Tensor, **options: Any) -> Tensor:
        """Convolution, and its norm if it has one."""
        weight = self.weights[name + ".conv.weight"]
        run = F.conv1d if weight.ndim == 3 else F.conv2d
        values = run(values, weight, self.weights.get(name + ".conv.bias"), **options)
        has_norm = f"{name}.norm.weight" in self.weights
        return self.norm(name + ".norm", values) if has_norm else values

    def axial_attention(self, name: str, features: Tensor, heads: int = 8) -> Tensor:
        """(B, C, L) to (B, value depth, L)."""
        length = features.shape[2]
        query_rpe, key_rpe, value_rpe = (
            self.weights[f"{name}_{part}_rpe._embeddings.weight"][
                torch.arange(length) - torch.arange(length)[:, None] + 254
            ]
            for part in ("query", "key", "value")
        )
        keys, values = query_rpe.shape[2] * heads, value_rpe.shape[2] * heads
        qkv = self.norm(name + "_batch_norm_qkv", self.conv(name + "qkv_transform", features))
        q, k, v = (part.unflatten(1, (heads, -1)) for part in qkv.split([keys, keys, values], 1))
        terms = [
            torch.einsum("bhdl,bhdm->bhlm", q, k),
            torch.einsum("bhdl,lmd->bhlm", q, query_rpe),
            torch.einsum("bhdm,lmd->bhlm", k, key_rpe),
        ]
        similarity = self.norm(name + "_batch_norm_similarity", torch.cat(terms, 1))
        weights = similarity.unflatten(1, (3, heads)).sum(1).softmax(-1)
        content = torch.einsum("bhlm,bhdm->bhdl", weights, v)
        retrieved = torch.cat([content, torch.einsum("bhlm,lmd->bhdl", weights, value_rpe)], 1)
        retrieved = self.norm(name + "_batch_norm_retrieved_output", retrieved.flatten(1, 2))
        return retrieved.unflatten(1, (2, values)).sum(1)

    def block(self, name: str, features: Tensor) -> Tensor:
        """A block of the pixel decoder, with attention along columns, then rows, or with 3x3."""
        features = F.gelu(features)
        hidden = F.gelu(self.conv(name + "_conv1_bn_act", features))
        if name + "_conv2_bn_act.conv.weight" in self.weights:
            rate = self.atrous_rate
            hidden = self.conv(name + "_conv2_bn_act", hidden, padding=rate, dilation=rate)
        else:
            columns = [
                self.axial_attention(name + "_attention._height_axis.", hidden[..., x])
                for x in range(hidden.shape[3])
            ]
            hidden = torch.stack(columns, 3)
            rows = [
                self.axial_attention(name + "_attention._width_axis.", hidden[..., y, :])
                for y in range(hidden.shape[2])
            ]
            hidden = torch.stack(rows, 2)
        residual = self.conv(name + "_conv3_bn", F.gelu(hidden))
        has_shortcut = name + "_shortcut.conv.weight" in self.weights
        return residual + (self.conv(name + "_shortcut", features) if has_shortcut else features)

    def pixel_decoder(self, features: Sequence[Tensor], blocks: Sequence[int]) -> List[Tensor]:
        """Maps of all stages, of features from stride 32 on."""
        maps: List[Tensor] = []
        for stage, raw in enumerate(features):
            name = f"_in_norms.{stage}."
            weight, bias = self.weights[name + "weight"], self.weights[name + "bias"]
            channels_last = raw.movedim(1, -1)
            pixels = F.layer_norm(channels_last, weight.shape, weight, bias, 1e-6).movedim(-1, 1)
            if stage:
                fuse = f"_resized_fuses.{stage - 1}._conv_bn_"
                low = self.conv(fuse + "low", F.gelu(maps[-1]))
                # Of odd sizes.
                low = F.interpolate(low, pixels.shape[2:], mode="bilinear", align_corners=True)
                pixels = low + self.conv(fuse + "high", F.gelu(pixels))
            for index in range(blocks[stage]):
                pixels = self.block(f"_stages.{stage}._blocks.{index}.", pixels)
            maps.append(pixels)
        return maps

    def transformer_layer(self, pixels: Tensor, centers: Tensor) -> Tuple[Tensor, Tensor]:
        """The centers after it, and the mask logits of its prediction."""
        sequence = F.gelu(self.conv("_pixel_conv1_bn_act", F.gelu(pixels)))
        memory = F.gelu(self.conv("_query_conv1_bn_act", centers))
        head = "_predcitor._pixel_space_head_"
        space = F.gelu(self.conv(head + "conv0bnact", sequence, groups=256, padding=2))
        space = self.conv(head + "last_convbn", F.gelu(self.conv(head + "conv1bnact", space)))
        kernels = self.conv("_predcitor._transformer_mask_head", memory)
        masks = torch.einsum("bchw,bcn->bnhw", F.normalize(space, dim=1), kernels)
        masks = self.norm("_predcitor._pixel_space_mask_batch_norm", masks[:, None])[:, 0]
        owners = F.one_hot(masks.flatten(2).argmax(1), centers.shape[2]).float()
        values = self.conv("_pixel_v_conv_bn", sequence).flatten(2)
        update = self.norm("_kmeans_query_batch_norm_retrieved_value", values @ owners)
        centers = centers + self.conv("_kmeans_query_conv3_bn", update)
        qkv = self.conv("_query_qkv_conv_bn", memory).split([128, 128, 256], 1)
        q, k, v = (part.unflatten(1, (8, -1)) for part in qkv)
        similarity = torch.einsum("bhdl,bhdm->bhlm", q, k)
        similarity = self.norm("_query_self_attention._batch_norm_similarity", similarity)
        update = torch.einsum("bhlm,bhdm->bhdl", similarity.softmax(-1), v).flatten(1, 2)
        update = F.gelu(self.norm("_query_self_attention._batch_norm_retrieved_value", update))
        centers = F.gelu(centers + self.conv("_query_conv3_bn", update))
        update = self.conv("_query_ffn_conv1_bn_act", centers)
        return F.gelu(centers + self.conv("_query_ffn_conv2_bn", F.gelu(update))), masks
