"""Targets of two frames: those of Panoptic-DeepLab, and what joins the frames."""

from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np
import torch

from .frame_pairs import OtherFrame
from .frame_targets import (
    CenterNoise,
    frame_offset_targets,
    next_offset_targets,
    previous_centers,
)
from .segment_map import SegmentTable
from .targets import PanopticTargetGenerator, PanopticTargets


@dataclass(frozen=True)
class PreviousFrameTargets:
    """
    Targets of a frame and the one before it, in the frame of the crop (Motion-DeepLab).

    Args:
        panoptic: of the frame itself.
        previous_heatmap: (H, W) float32 in [0, 1], centers of the previous frame's instances, with
            noise; an input of the network.
        frame_offsets: (2, H, W) float32, ``(dy, dx)`` from each pixel of this frame to the center
            of its object in the previous one, in pixels; 0 where there is none.
        frame_offset_weights: (H, W) float32, 1 where an offset is not (0, 0), else 0.
    """

    panoptic: PanopticTargets
    previous_heatmap: np.ndarray
    frame_offsets: np.ndarray
    frame_offset_weights: np.ndarray

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The entries of a sample; heatmaps have a channel axis."""
        return {
            **self.panoptic.tensors(),
            "previous_heatmap": torch.from_numpy(self.previous_heatmap[None]),
            "frame_offsets": torch.from_numpy(self.frame_offsets),
            "frame_offset_weights": torch.from_numpy(self.frame_offset_weights),
        }


class PreviousFrameTargetGenerator:
    """
    Make the targets of a frame and the one before it. The first frame of a sequence is its own
    previous one, as in DeepLab2.

    Args:
        panoptic: makes the targets of the frame; its ``sigma`` is that of both heatmaps.
        noise: how centers of the previous frame are disturbed; None leaves them where they are.
    """

    other_frame: OtherFrame = "previous"
    is_other_needed = False

    def __init__(
        self, panoptic: PanopticTargetGenerator, *, noise: Optional[CenterNoise] = CenterNoise()
    ):
        self.panoptic = panoptic
        self.noise = noise

    def __call__(
        self,
        segment_map: np.ndarray,
        segments: SegmentTable,
        other_map: np.ndarray,
        *,
        source: str = "image",
        rng: Optional[np.random.Generator] = None,
    ) -> PreviousFrameTargets:
        """
        Args:
            segment_map, other_map: (H, W) int32 of this and of the previous frame, 0 = unlabeled,
                ``k + 1`` = segment ``k``.
            segments: the table of both.
            source: the image; no error names it.
            rng: where the noise is drawn from; needed with it.
        """
        panoptic = self.panoptic(segment_map, segments, source=source)
        previous = previous_centers(
            other_map, segments, sigma=self.panoptic.sigma, noise=self.noise, rng=rng
        )
        offsets, weights = frame_offset_targets(segment_map, previous)
        return PreviousFrameTargets(panoptic, previous.heatmap, offsets, weights)


@dataclass(frozen=True)
class NextFrameTargets:
    """
    Targets of a frame and the one after it, in the frame of the crop (ViP-DeepLab).

    Args:
        panoptic: of the frame itself.
        next_center_offsets: (2, H, W) float32, ``(dy, dx)`` from each pixel of the next frame to
            the center of its object in this one, in pixels; 0 where there is none.
        next_offset_weights: (H, W) float32, 1 where an offset is not (0, 0), else 0.
    """

    panoptic: PanopticTargets
    next_center_offsets: np.ndarray
    next_offset_weights: np.ndarray

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The entries of a sample; the heatmap has a channel axis."""
        return {
            **self.panoptic.tensors(),
            "next_center_offsets": torch.from_numpy(self.next_center_offsets),
            "next_offset_weights": torch.from_numpy(self.next_offset_weights),
        }


class NextFrameTargetGenerator:
    """
    Make the targets of a frame and the one after it. Training leaves out the last frame of a
    sequence, of which DeepLab2 makes no example either.

    Args:
        panoptic: makes the targets of the frame.
    """

    other_frame: OtherFrame = "next"
    is_other_needed = True

    def __init__(self, panoptic: PanopticTargetGenerator):
        self.panoptic = panoptic

    def __call__(
        self,
        segment_map: np.ndarray,
        segments: SegmentTable,
        other_map: np.ndarray,
        *,
        source: str = "image",
        rng: Optional[np.random.Generator] = None,
    ) -> NextFrameTargets:
        """
        Args:
            segment_map, other_map: (H, W) int32 of this and of the next frame, 0 = unlabeled,
                ``k + 1`` = segment ``k``.
            segments: the table of both.
            source: the image; no error names it.
            rng: not needed, nothing is drawn.
        """
        panoptic = self.panoptic(segment_map, segments, source=source)
        offsets, weights = next_offset_targets(segment_map, other_map, segments)
        return NextFrameTargets(panoptic, offsets, weights)
