"""From raw predictions of a frame to tracks."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, List, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...postprocessing.maps import to_output
from ...structures import ClassMap, Prediction, select_images
from ...video import TrackState, continue_tracks, draw_centers, start_tracks
from ..image_batch import ImageBatch, neighbor_image
from ..panoptic_deeplab import PanopticDeepLabInference
from ..parts import Sample


@dataclass(frozen=True)
class MotionDeepLabInference:
    """
    Post-processing of a frame: Panoptic-DeepLab's labels, then tracking.

    Attributes:
        panoptic: labels of the frame alone.
        sigma: of the Gaussians of the frame before, in pixels of the image.
        keep_frames: see :func:`continue_tracks`.
        resets_on_equal_frames: a frame that equals the one before begins a video.
        outputs: which keys of an image's dict are made; ``state`` always is.
    """

    panoptic: PanopticDeepLabInference
    sigma: int = 8
    keep_frames: int = 7
    resets_on_equal_frames: bool = False
    outputs: Tuple[str, ...] = ("sem_seg", "panoptic_seg", "instances", "track")
    makes_labels: ClassVar[bool] = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "MotionDeepLabInference":
        panoptic = PanopticDeepLabInference.from_config(cfg)
        node = cfg.MODEL.DEEPLAB2.TRACKING
        return cls(
            panoptic=panoptic,
            sigma=round(cfg.INPUT.DEEPLAB2.SIGMA),
            keep_frames=node.KEEP_FRAMES,
            resets_on_equal_frames=node.RESET_ON_EQUAL_FRAMES,
            outputs=(*panoptic.outputs, "track"),
        )

    @property
    def class_map(self) -> ClassMap:
        return self.panoptic.class_map

    def with_outputs(self, *outputs: str) -> "MotionDeepLabInference":
        """The same, making other keys."""
        return replace(self, panoptic=self.panoptic.with_outputs(*outputs), outputs=outputs)

    def previous(self, sample: Sample) -> Tuple[Tensor, Tensor]:
        """
        What the network sees of the frame before a sample's.

        Returns:
            Its image (3, h, w), and the heatmap (1, h, w) of the centers found in it.

        Raises:
            ValueError: if there is a state, but no image of the frame that it is of, or if that
                image has another size.
        """
        image, state = sample["image"], self.state(sample)
        previous = neighbor_image(sample, "previous_image")
        height, width = image.shape[-2:]
        heatmap = torch.zeros(height, width, device=image.device)
        if len(state.labels):
            ratios = [
                (side - 1) / (sample.get(key, side) - 1) if sample.get(key, side) > 1 else 1.0
                for key, side in (("height", height), ("width", width))
            ]
            centers = np.rint(state.centers[state.ages == 1] * ratios).astype(np.int64)
            drawn = torch.from_numpy(centers).to(image.device)
            heatmap = draw_centers(drawn, (height, width), sigma=self.sigma)
        return previous, heatmap[None]

    def state(self, sample: Sample) -> TrackState:
        """
        The tracks before a sample's frame.

        Raises:
            ValueError: if there are some, but no image of the frame before.
        """
        if sample.get("state") is None:
            return start_tracks()
        if "previous_image" not in sample:
            raise ValueError(
                f"sample of {sample.get('file_name', 'a frame')} must have 'previous_image' where "
                "it has a 'state'"
            )
        if self.resets_on_equal_frames and torch.equal(sample["image"], sample["previous_image"]):
            return start_tracks()
        return sample["state"]

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps of the heads that cover ``images``.
            images: the network's input.
            samples: see :class:`DeepLab2MotionDeepLab`; each may be of another video.
        """
        outputs = []
        for index, sample in enumerate(samples):
            one, frames = select_images(prediction, index), images.frames(sample, index)
            result = self.panoptic.segment(one, frames)
            track, state, _ = continue_tracks(
                result.panoptic_map[0],
                to_output(one["frame_offsets"], "offset", frames)[0],
                self.state(sample),
                label_divisor=self.panoptic.label_divisor,
                keep_frames=self.keep_frames,
            )
            output = {**self.panoptic.scores(one, frames), **self.panoptic.describe(result)}
            if "track" in self.outputs:
                output["track"] = track
            outputs.append({**output, "state": state})
        return outputs
