"""A model of single images with a tracker behind it: it looks like a model of videos."""

from collections import Counter
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ..structures import VOID_PANOPTIC_LABEL
from .iou_tracking import IouTrackState, start_iou_tracks, track_by_overlap
from .optical_flow import Flow, estimate_flow
from .segment_runs import find_runs
from .tracking import relabel


class TrackedSegmenter(nn.Module):
    """
    Adds ``track`` to what a model returns, by :func:`track_by_overlap`.

    Like a model of videos it takes the ``state`` after the frame before from a sample, hands the
    next one back in the output, and keeps nothing: a :class:`SequenceRunner` carries it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        label_divisor: int,
        iou_threshold: float = 0.3,
        keep_frames: int = 10,
        use_flow: bool = False,
    ):
        """
        Args:
            model: takes and returns lists of dicts, in evaluation; its outputs have
                ``panoptic_seg``.
            label_divisor: the dataset's.
            iou_threshold, keep_frames: see :func:`track_by_overlap`.
            use_flow: estimate the optical flow between the samples' images (needs OpenCV).
        """
        super().__init__()
        self.model = model
        self.label_divisor = label_divisor
        self.iou_threshold = iou_threshold
        self.keep_frames = keep_frames
        self.use_flow = use_flow
        self.train(model.training)

    def forward(self, batched_inputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """
        Args:
            batched_inputs: with ``state`` but for a sequence's first frame.

        Returns:
            The model's outputs with ``track``, (height, width) int32: class * label_divisor +
            number, number 0 for stuff, -1 void; and with ``state``.
        """
        outputs = self.model(batched_inputs)
        return [self._track(*pair) for pair in zip(batched_inputs, outputs)]

    def _track(self, sample: Mapping[str, Any], output: Mapping[str, Any]) -> Dict[str, Any]:
        before: _State = sample.get("state") or _State(start_iou_tracks(), None)
        labels = label_panoptic_seg(*output["panoptic_seg"], label_divisor=self.label_divisor)
        image = _to_gray(sample["image"]) if self.use_flow else None
        flow: Optional[Flow] = None
        if image is not None and before.image is not None:
            flow = estimate_flow(before.image, image)
            flow = flow.resize((labels.shape[0], labels.shape[1]))
        track, tracks = track_by_overlap(
            labels,
            before.tracks,
            label_divisor=self.label_divisor,
            iou_threshold=self.iou_threshold,
            keep_frames=self.keep_frames,
            flow=flow,
        )
        return {**output, "track": track, "state": _State(tracks, image)}


class _State(NamedTuple):
    """The tracks after a frame, and its gray image if the flow is needed."""

    tracks: IouTrackState
    image: Optional[np.ndarray]


def label_panoptic_seg(
    segment_map: Tensor, segments_info: Sequence[Mapping[str, Any]], *, label_divisor: int
) -> Tensor:
    """
    The labels of Detectron2's ``panoptic_seg``.

    Args:
        segment_map: (H, W) integer segment ids.
        segments_info: dicts with ``id``, contiguous ``category_id`` and ``isthing``; ids that none
            has are void.
        label_divisor: see below.

    Returns:
        (H, W) int32: class * label_divisor + number; things of a class count from 1 in the order of
        ``segments_info``, stuff has 0, void is -1.

    Raises:
        ValueError: if a class has ``label_divisor`` things or more.
    """
    num_things: Counter = Counter()
    labels: List[Tuple[int, int]] = []
    for segment in segments_info:
        category = segment["category_id"]
        num_things[category] += bool(segment["isthing"])
        number = num_things[category] if segment["isthing"] else 0
        if number >= label_divisor:
            raise ValueError(
                f"a class must have fewer than label_divisor = {label_divisor} things, got "
                f"{number} of class {category}"
            )
        labels.append((segment["id"], category * label_divisor + number))
    ids, values = np.array(sorted(labels), np.int64).reshape(-1, 2).T.copy()
    runs = find_runs(segment_map)
    found = runs.labels[:, 0]
    is_known = torch.isin(found, torch.from_numpy(ids).to(found.device))
    found = relabel(found, ids, values).where(is_known, found.new_tensor(VOID_PANOPTIC_LABEL))
    return runs.fill(found.int())


def _to_gray(image: Tensor) -> np.ndarray:
    """(H, W) uint8: the mean of the channels (3, H, W), in whichever order they are."""
    return image.float().mean(dim=0).round().clamp(0, 255).byte().cpu().numpy()
