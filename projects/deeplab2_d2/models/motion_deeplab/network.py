"""Motion-DeepLab as a Detectron2 meta architecture."""

from dataclasses import replace
from typing import Any, Dict, Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from ...heads import HeadSpec
from ..image_batch import ImageBatch
from ..joint import JointCriterion
from ..panoptic_deeplab import DeepLab2PanopticDeepLab, HeadRows, LossTerm, OffsetCriterion
from ..parts import Sample
from .inference import MotionDeepLabInference

# Of the seven channels of the network's input, the heatmap of the frame before.
_HEATMAP_CHANNEL = 6


@META_ARCH_REGISTRY.register()
class DeepLab2MotionDeepLab(DeepLab2PanopticDeepLab):
    """
    Panoptic-DeepLab on a frame, the frame before and the centers found there.

    Reference: STEP (arXiv:2102.11859), Sec. 4.2, as DeepLab2 computes it. A further head predicts
    ``frame_offsets``, (N, 2, h, w) ``(dy, dx)`` in pixels of that map: from a pixel to the center
    of its object in the frame before.

    In evaluation a sample has, beside ``image``:

    - ``previous_image``: like ``image``, of the frame before; without it the frame stands for both,
      which is how a video begins;
    - ``state``: the :class:`TrackState` of the frame before; without it a video begins.

    An output has, beside those of Panoptic-DeepLab, ``track`` (the panoptic labels with the numbers
    of the tracks: (height, width) int32, class * label divisor + number, void -1) and ``state`` for
    the next frame. The model keeps nothing: :class:`SequenceRunner` hands the state on.
    """

    inference: MotionDeepLabInference
    new_parts = ("motion_head",)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        parts = super().from_config(cfg)
        motion = OffsetCriterion(
            name="frame_offsets",
            weights="frame_offset_weights",
            loss="loss_motion",
            term=LossTerm(*cfg.MODEL.DEEPLAB2.LOSS.MOTION),
        )
        return {
            **parts,
            "criterion": JointCriterion((parts["criterion"], motion)),
            "inference": MotionDeepLabInference.from_config(cfg),
        }

    @classmethod
    def describe_heads(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> HeadRows:
        decoders, heads = super().describe_heads(cfg, input_shape)
        offsets = next(head for head in heads if head.name == "center_offsets")
        channels = cfg.MODEL.DEEPLAB2.MOTION_HEAD.CHANNELS
        motion: HeadSpec = replace(
            offsets, name="frame_offsets", module="motion_head", channels=channels
        )
        return decoders, [*heads, motion]

    def network_input(self, sample: Sample) -> Tensor:
        """
        (7, h, w): the frame, the frame before, and a heatmap of its centers, 0 to 1.

        In training the heatmap is the mapper's, in evaluation that of the state's tracks.
        """
        image = sample["image"].to(self.device)
        if self.training:
            previous, heatmap = sample["previous_image"], sample["previous_heatmap"]
        else:
            previous, heatmap = self.inference.previous(sample)
        frames = [image, previous.to(image), heatmap.to(image)]
        return torch.cat(frames)

    def batch(self, samples: Sequence[Sample]) -> ImageBatch:
        images = super().batch(samples)
        # Beside an image there are no centers: a heatmap of 0.
        padding = -self.pixel_mean[_HEATMAP_CHANNEL] / self.pixel_std[_HEATMAP_CHANNEL]
        for heatmap, (height, width) in zip(images.tensor[:, _HEATMAP_CHANNEL], images.image_sizes):
            heatmap[height:] = padding
            heatmap[:, width:] = padding
        return images
