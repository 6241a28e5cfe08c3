"""The frames of a dataset's sequences: which one comes next, and its annotation."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..structures import read_depth, read_panoptic_png

Sample = Mapping[str, Any]


class FrameOrder:
    """
    Holds what comes against a dataset's sequences: each frame once, in its order, none left out.

    A process sees whole sequences, in any order.
    """

    def __init__(self, dataset_dicts: Sequence[Sample]):
        """
        Args:
            dataset_dicts: with ``sequence`` and ``frame``; those of a sequence in their order.

        Raises:
            ValueError: if a dict has no sequence, or two are of one frame.
        """
        self._sequences: Dict[str, List[Sample]] = {}
        self._places: Dict[Tuple[Any, Any], int] = {}
        for record in dataset_dicts:
            if record.get("sequence") is None or record.get("frame") is None:
                raise ValueError(
                    "a dataset of videos must have sequence and frame in every dict, got none in "
                    f"that of {record.get('file_name')}"
                )
            if (record["sequence"], record["frame"]) in self._places:
                raise ValueError(f"{name_of(record)} must be in the dataset once, got it twice")
            frames = self._sequences.setdefault(record["sequence"], [])
            self._places[record["sequence"], record["frame"]] = len(frames)
            frames.append(record)
        self.reset()

    @property
    def sequences(self) -> List[str]:
        """Names, in the dataset's order."""
        return list(self._sequences)

    def reset(self) -> None:
        """Begin anew."""
        # How many frames of each sequence have come.
        self.progress: Dict[str, int] = {}

    def take(self, sample: Sample) -> Sample:
        """
        Args:
            sample: of the next frame, with ``sequence`` and ``frame``.

        Returns:
            The dataset's dict of it.

        Raises:
            ValueError: if the dataset has no such frame, it has come before, or one before it has
                not.
        """
        sequence, frame = sample.get("sequence"), sample.get("frame")
        place = self._places.get((sequence, frame))
        if sequence is None or place is None:
            raise ValueError(f"frame {frame!r} of sequence {sequence!r} must be in the dataset")
        done = self.progress.get(sequence, 0)
        record = self._sequences[sequence][place]
        if place < done:
            raise ValueError(f"{name_of(record)} must come once, got it twice")
        if place > done:
            due = self._sequences[sequence][done]
            raise ValueError(
                f"{name_of(due)} is missing or out of order: it must come before frame {frame!r}"
            )
        self.progress[sequence] = done + 1
        return record

    def check_complete(self, progresses: Sequence[Mapping[str, int]]) -> None:
        """
        Args:
            progresses: those of all processes.

        Raises:
            ValueError: if a frame is missing, or two processes had frames of one sequence.
        """
        for sequence, records in self._sequences.items():
            parts = [progress[sequence] for progress in progresses if sequence in progress]
            if len(parts) > 1:
                raise ValueError(
                    f"{name_of(records[0])} must come once, got it in {len(parts)} processes"
                )
            done = parts[0] if parts else 0
            if done < len(records):
                raise ValueError(f"{name_of(records[done])} is missing: it must have a prediction")


def name_of(record: Sample) -> str:
    """A frame in errors."""
    return f"frame {record['frame']!r} of sequence {record['sequence']!r}"


class FrameTruth(NamedTuple):
    """
    Attributes:
        ids: (H, W) int32 segment ids, 0 is unlabeled; None where only the depth is asked for.
        labels: label of each segment id: class * label_divisor + number of the track, 0 for stuff
            and crowds; -1 for unlabeled.
        depth: (H, W) float32, meters, 0 is unknown; None where there is none.
    """

    ids: Optional[np.ndarray]
    labels: Dict[int, int]
    depth: Optional[np.ndarray]


def read_truth(
    record: Sample, label_divisor: int, *, has_tracks: bool, has_depth: bool
) -> FrameTruth:
    """
    Read a frame's annotation.

    Args:
        record: dataset dict with ``pan_seg_file_name``, ``segments_info`` with ``track_id``, and,
            where depth is known, ``depth_file_name``.
        label_divisor: above every number of a track.
        has_tracks: whether the segments are asked for.
        has_depth: whether the depth is asked for.

    Raises:
        ValueError: if a segment has no track, or one that does not fit the divisor; if the depth
            is not of the map's size.
    """
    ids, labels, depth = None, {0: -1}, None
    if has_tracks:
        ids = read_panoptic_png(record["pan_seg_file_name"])
        for segment in record["segments_info"]:
            track_id = segment.get("track_id")
            if track_id is None or not 0 <= track_id < label_divisor:
                raise ValueError(
                    f"{name_of(record)}: segments_info must have a track_id in "
                    f"[0, {label_divisor}), got {track_id!r} for segment {segment['id']}"
                )
            labels[segment["id"]] = segment["category_id"] * label_divisor + track_id
    if has_depth and "depth_file_name" in record:
        depth = read_depth(record["depth_file_name"])
        if ids is not None and depth.shape != ids.shape:
            raise ValueError(
                f"{name_of(record)}: depth {record['depth_file_name']} must be {ids.shape}, as the "
                f"panoptic map, got {depth.shape}"
            )
    return FrameTruth(ids, labels, depth)
