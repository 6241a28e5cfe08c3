"""Evaluators of videos: tracks, tubes and depth of a dataset's sequences."""

import logging
import os
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Optional, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..structures import DatasetClasses
from .label_readers import reads_labels
from .video_frames import FrameOrder, name_of, read_truth
from .video_scores import VideoScores
from .video_submission import VideoSubmission

logger = logging.getLogger(__name__)

_WINDOWS = (1, 2, 3, 4)


class VideoEvaluator(DatasetEvaluator):
    """
    STQ and VPQ of a dataset of videos; of models with depth also DSTQ, DVPQ and the depth errors.

    Every annotation is read once for all of them. Several processes give the scores of one, to the
    last digit: a sequence is in one of them, and sequences are added in the dataset's order.
    """

    def __init__(self, dataset_name: str, *, has_tracks: bool = True, has_depth: bool = False):
        """
        Args:
            dataset_name: registered, its dicts with ``sequence``, ``frame``, ``pan_seg_file_name``,
                ``segments_info`` with ``track_id``, and ``depth_file_name`` where depth is known.
                ``vpq_windows`` of its metadata are the lengths k of VPQ, in frames, 1 to 4 if it
                has none.
            has_tracks: whether outputs have ``track``.
            has_depth: whether outputs have ``depth``.

        Raises:
            ValueError: if a dict has no sequence.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self._classes = DatasetClasses.from_metadata(metadata)
        self._windows = tuple(metadata.get("vpq_windows", _WINDOWS))
        self._has_tracks, self._has_depth = has_tracks, has_depth
        self._order = FrameOrder(DatasetCatalog.get(dataset_name))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._order.reset()
        self._scores: Dict[str, VideoScores] = {}

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with ``sequence`` and ``frame``.
            outputs: dicts with ``track``: (H, W) integer tensor, class * label_divisor + number of
                the track, 0 for stuff, -1 is void; and ``depth``: (H, W) float tensor, meters.

        Raises:
            ValueError: if a frame comes twice or out of its order, is not of the annotation's size,
                or has classes that the dataset has not; it names sequence and frame.
        """
        for sample, output in zip(inputs, outputs):
            record = self._order.take(sample)
            sequence = record["sequence"]
            if sequence not in self._scores:
                self._scores[sequence] = self._new_scores()
            truth = read_truth(
                record,
                self._classes.label_divisor,
                has_tracks=self._has_tracks,
                has_depth=self._has_depth,
            )
            track, depth = (
                output[name].detach().cpu().numpy() if is_wanted else None
                for name, is_wanted in (("track", self._has_tracks), ("depth", self._has_depth))
            )
            try:
                self._scores[sequence].add(sequence, truth, track, depth)
            except ValueError as error:
                raise ValueError(f"{name_of(record)}: {error}") from error

    def _new_scores(self) -> VideoScores:
        return VideoScores(
            self._classes,
            windows=self._windows,
            has_tracks=self._has_tracks,
            has_depth=self._has_depth,
        )

    def evaluate(self) -> "Optional[OrderedDict[str, Dict[str, float]]]":
        """
        Returns:
            In percent, None in all but the main process:

            * "stq": "STQ", "AQ" (association), "SQ" (mean IoU), the three of each sequence as
              "STQ-<sequence>", and "IoU-<class>";
            * "vpq": "VPQ-<k>" of each length and their mean "VPQ"; "_th" and "_st" of each over
              things and stuff alone;
            * "dstq": "DSTQ", "DQ", each also at a ratio of depths, "DSTQ@1.25", and of sequences,
              "DSTQ@1.25-<sequence>";
            * "dvpq": "DVPQ-<k>@<lambda>", their means over k, "DVPQ@<lambda>", and over both,
              "DVPQ"; with "_th" and "_st";
            * "depth": of :class:`DepthMetrics`, not in percent but for "SILog".

        Raises:
            ValueError: if a frame is missing, or two processes had one sequence.
        """
        gathered = comm.gather((self._order.progress, self._scores))
        if not comm.is_main_process():
            return None
        self._order.check_complete([progress for progress, _ in gathered])
        by_sequence = {name: part for _, scores in gathered for name, part in scores.items()}
        total = self._new_scores()
        for sequence in self._order.sequences:
            total.merge(by_sequence[sequence])
        results = total.results()
        for name, values in results.items():
            first = {key: value for key, value in values.items() if "-" not in key}
            text = ", ".join(f"{key} {value:.3f}" for key, value in first.items())
            logger.info("%s of %d sequences: %s", name, len(by_sequence), text)
        return results


def build_video_evaluators(
    dataset_name: str, outputs: Sequence[str], output_folder: str
) -> List[DatasetEvaluator]:
    """
    The evaluators of videos that fit a dataset and what a model returns.

    Args:
        dataset_name: registered dataset.
        outputs: names of what the model returns of an image.
        output_folder: where files of predictions go.

    Returns:
        A :class:`VideoEvaluator` where the model returns ``track`` and the dataset has sequences
        with tracks, or it returns ``depth`` and they have depth. Where the dataset has no ground
        truth (``has_ground_truth`` False in its metadata) and the model returns ``track``, a
        :class:`VideoSubmission` in the format of the metadata's ``video_format`` ("step" if there
        is none). Else nothing.
    """
    if not {"track", "depth"} & set(outputs):
        return []
    dicts = DatasetCatalog.get(dataset_name)
    if any(record.get("sequence") is None for record in dicts):
        return []
    metadata = MetadataCatalog.get(dataset_name)
    if not metadata.get("has_ground_truth", True):
        if "track" not in outputs:
            return []
        folder = os.path.join(output_folder, f"{dataset_name}_videos")
        format_name = metadata.get("video_format", "step")
        has_depth = "depth" in outputs
        return [VideoSubmission(dataset_name, folder, format_name, has_depth=has_depth)]
    segments = (segment for record in dicts for segment in record.get("segments_info", ()))
    has_tracks = "track" in outputs and "track_id" in next(segments, {})
    has_depth = "depth" in outputs and any("depth_file_name" in record for record in dicts)
    if not has_tracks and not has_depth:
        return []
    return [VideoEvaluator(dataset_name, has_tracks=has_tracks, has_depth=has_depth)]
