"""ViP-DeepLab as a Detectron2 meta architecture."""

from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Sequence, cast

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...heads import Decoder, DenseHeads, HeadSpec
from ...layers import fast_layout
from ...structures import Prediction
from ..image_batch import neighbor_image
from ..joint import JointCriterion
from ..panoptic_deeplab import DeepLab2PanopticDeepLab, HeadRows, LossTerm, OffsetCriterion
from ..parts import Sample
from .config import has_depth
from .criterion import DepthCriterion
from .inference import ViPDeepLabInference

# Before the names of the next frame's features, and of those of both frames, concatenated.
_NEXT, _BOTH = "next_", "both_"


class FramePairEncoder(nn.Module):
    """A backbone that sees two frames one after the other, in one pass."""

    def __init__(self, backbone: nn.Module, pair_features: Sequence[str]):
        """
        Args:
            backbone: from (2 N, 3, H, W) to name to features.
            pair_features: names of those that are wanted of both frames, concatenated.
        """
        super().__init__()
        self.backbone = backbone
        self.pair_features = tuple(pair_features)

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        """
        Args:
            images: (N, 6, H, W), the channels of a frame, then those of the next one.

        Returns:
            Features (N, C, h, w) of the frame under their names, those of the next frame as
            ``next_NAME``, and (N, 2 C, h, w) of both as ``both_NAME``.
        """
        num_images = len(images)
        pairs = self.backbone(torch.cat(images.chunk(2, dim=1)))
        first = {name: maps[:num_images] for name, maps in pairs.items()}
        second = {name: maps[num_images:] for name, maps in pairs.items()}
        return join_frames(first, second, self.pair_features)


def join_frames(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], pair_features: Sequence[str]
) -> Dict[str, Tensor]:
    """The features of two frames in one dict; see :class:`FramePairEncoder`."""
    features = {**first, **{_NEXT + name: maps for name, maps in second.items()}}
    for name in pair_features:
        features[_BOTH + name] = torch.cat([first[name], second[name]], dim=1)
    return features


def frame_pair_shapes(input_shape: Mapping[str, ShapeSpec]) -> Dict[str, ShapeSpec]:
    """Shapes of the features that :func:`join_frames` makes, where all are wanted of both."""
    shapes = dict(input_shape)
    for name, shape in input_shape.items():
        shapes[_NEXT + name] = shape
        shapes[_BOTH + name] = ShapeSpec(channels=2 * shape.channels, stride=shape.stride)
    return shapes


class FramePairHeads(DenseHeads):
    """
    Heads on the features of two frames.

    In evaluation the classes of the next frame are predicted, too (``next_semantic_logits``): votes
    on the classes of instances are of both frames.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.kinds["next_semantic_logits"] = "logits"

    def forward(
        self, features: Mapping[str, Tensor], names: Optional[Sequence[str]] = None
    ) -> Prediction:
        prediction = super().forward(features, names)
        if self.training or names is not None:
            return prediction
        start = len(_NEXT)
        following = {k[start:]: maps for k, maps in features.items() if k.startswith(_NEXT)}
        semantic = super().forward(following, ("semantic_logits",))["semantic_logits"]
        return {**prediction, "next_semantic_logits": semantic}


@META_ARCH_REGISTRY.register()
class DeepLab2ViPDeepLab(DeepLab2PanopticDeepLab):
    """
    Panoptic-DeepLab with depth, and with the next frame's offsets to centers in this one.

    Reference: ViP-DeepLab (arXiv:2012.05258), Sec. 3, as DeepLab2 computes it (one next-frame
    decoder, without the paper's cascaded ASPP). Maps beside those of Panoptic-DeepLab:

    - ``next_center_offsets``: (N, 2, h, w) ``(dy, dx)`` from the pixels of the next frame, in
      pixels of this map;
    - ``depth``: (N, 1, 2 h - 1, 2 w - 1) in meters.

    In evaluation a sample has, beside ``image``:

    - ``next_image``: like ``image``, of the next frame; without it the frame stands for both, as
      the last one of a video does;
    - ``state``: the :class:`StitchState` of the frame before; without it a video begins.

    An output has, beside those of Panoptic-DeepLab, ``track`` (the panoptic labels with the numbers
    of the tracks: (height, width) int32, class * label divisor + number, void -1), ``depth``
    ((height, width) float32, meters) and ``state`` for the next frame. The model keeps nothing:
    :class:`SequenceRunner` hands the state on.
    """

    head_class = FramePairHeads
    new_parts = ("next_instance_decoder", "next_offset_head", "depth_head")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        parts = super().from_config(cfg)
        loss = cfg.MODEL.DEEPLAB2.LOSS
        offsets = OffsetCriterion(
            name="next_center_offsets",
            weights="next_offset_weights",
            loss="loss_next_offset",
            term=LossTerm(*loss.NEXT_OFFSET),
        )
        depth = (DepthCriterion(loss.DEPTH_ERROR),) if has_depth(cfg) else ()
        if not depth:
            # Several processes wait for the gradient of every parameter that asks for one.
            parts["head"].depth_head.requires_grad_(False)
        return {
            **parts,
            "criterion": JointCriterion((parts["criterion"], offsets, *depth)),
            "inference": ViPDeepLabInference.from_config(cfg),
            # Of both frames.
            "pixel_mean": [*parts["pixel_mean"]] * 2,
            "pixel_std": [*parts["pixel_std"]] * 2,
        }

    @classmethod
    def build_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> DenseHeads:
        return super().build_head(cfg, frame_pair_shapes(input_shape))

    @classmethod
    def describe_heads(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> HeadRows:
        decoders, heads = super().describe_heads(cfg, input_shape)
        node, instance = cfg.MODEL.DEEPLAB2, decoders["instance_decoder"]
        decoders["next_instance_decoder"] = replace(
            instance,
            feature=_BOTH + instance.feature,
            low_level=tuple((_NEXT + name, channels) for name, channels in instance.low_level),
        )
        rows = {head.name: head for head in heads}
        lowest, highest = node.DEPTH_HEAD.RANGE
        depth = HeadSpec(
            "depth",
            "depth",
            out_channels=1,
            module="depth_head",
            decoder="semantic_decoder",
            channels=node.DEPTH_HEAD.CHANNELS,
            conv_type=rows["semantic_logits"].conv_type,
            upsampling=2,
            value_range=(lowest, highest),
        )
        following = replace(
            rows["center_offsets"],
            name="next_center_offsets",
            module="next_offset_head",
            decoder="next_instance_decoder",
            channels=node.NEXT_OFFSET_HEAD.CHANNELS,
        )
        return decoders, [*heads, depth, following]

    @property
    def network(self) -> nn.Sequential:
        return nn.Sequential(self.encoder, self.head).train(self.training)

    @property
    def encoder(self) -> FramePairEncoder:
        """The backbone on pairs of frames, of the same parameters."""
        feature = cast(Decoder, self.head.next_instance_decoder).feature
        return FramePairEncoder(self.backbone, (feature[len(_BOTH) :],))

    def network_input(self, sample: Sample) -> Tensor:
        """(6, h, w): the frame, then the next one."""
        return torch.cat([sample["image"], neighbor_image(sample, "next_image")])

    def predict(self, images: Tensor) -> Prediction:
        """
        Args:
            images: (N, 6, H, W), a frame and the next one, normalised; else as
                :meth:`Segmenter.predict`.
        """
        return self.head(self.encoder(fast_layout(images)))
