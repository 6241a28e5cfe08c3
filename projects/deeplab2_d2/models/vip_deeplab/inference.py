"""From raw predictions of two frames to labels, tracks and depth of the first."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, List, Sequence, Tuple

from detectron2.config import CfgNode

from ...postprocessing import panoptic_from_frame_pair
from ...postprocessing.maps import to_output
from ...structures import ClassMap, Prediction, select_images
from ...video import continue_stitching
from ..image_batch import ImageBatch
from ..panoptic_deeplab import PanopticDeepLabInference
from ..parts import Sample
from .config import has_depth


@dataclass(frozen=True)
class ViPDeepLabInference:
    """
    Post-processing of a pair of frames: labels of both, stitched to those of the pair before.

    Attributes:
        panoptic: how the labels are made.
        outputs: which keys of an image's dict are made; ``state`` always is.
    """

    panoptic: PanopticDeepLabInference
    outputs: Tuple[str, ...] = ("sem_seg", "panoptic_seg", "instances", "track", "depth")
    makes_labels: ClassVar[bool] = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ViPDeepLabInference":
        panoptic = PanopticDeepLabInference.from_config(cfg)
        depth = ("depth",) if has_depth(cfg) else ()
        return cls(panoptic, (*panoptic.outputs, "track", *depth))

    @property
    def class_map(self) -> ClassMap:
        return self.panoptic.class_map

    def with_outputs(self, *outputs: str) -> "ViPDeepLabInference":
        """The same, making other keys."""
        return replace(self, panoptic=self.panoptic.with_outputs(*outputs), outputs=outputs)

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps of the heads that cover ``images``.
            images: the network's input.
            samples: see :class:`DeepLab2ViPDeepLab`; each may be of another video.
        """
        outputs = []
        for index, sample in enumerate(samples):
            one, frames = select_images(prediction, index), images.frames(sample, index)
            pair = panoptic_from_frame_pair(one, frames, **self.panoptic.options)
            track, state = continue_stitching(
                pair.first.panoptic_map[0],
                pair.second_map[0],
                sample.get("state"),
                label_divisor=self.panoptic.label_divisor,
            )
            output = {**self.panoptic.scores(one, frames), **self.panoptic.describe(pair.first)}
            if "track" in self.outputs:
                output["track"] = track
            if "depth" in self.outputs:
                output["depth"] = to_output(one["depth"].float(), "depth", frames)[0, 0]
            outputs.append({**output, "state": state})
        return outputs
