"""Two frames of a video with one table of their segments."""

from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Literal,
    Mapping,
    Protocol,
    Sequence,
    Tuple,
    runtime_checkable,
)

import numpy as np

from .segment_map import SegmentTable

OtherFrame = Literal["previous", "next"]


@runtime_checkable
class FrameTargetGenerator(Protocol):
    """
    From the segment maps of two frames and the table of both to targets.

    Attributes:
        other_frame: which neighbor of the frame is the second one.
        is_other_needed: what becomes of a frame that has no such neighbor, at an end of its
            sequence: True leaves it out of training, False pairs it with itself.
    """

    other_frame: OtherFrame
    is_other_needed: bool

    def __call__(
        self,
        segment_map: np.ndarray,
        segments: SegmentTable,
        other_map: np.ndarray,
        *,
        source: str,
        rng: np.random.Generator,
    ) -> Any: ...


def has_other_frame(dataset_dict: Mapping[str, Any], other_frame: OtherFrame) -> bool:
    """
    Whether a frame of a video has this neighbor.

    Raises:
        ValueError: if the dict is of an image that no video has.
    """
    if "sequence" not in dataset_dict:
        raise ValueError(
            f"dataset dict of {dataset_dict['file_name']} must have 'sequence' and 'frame' for "
            f"pairs of frames; datasets/README.md says where they come from"
        )
    return f"{other_frame}_pan_seg_file_name" in dataset_dict


def join_segments(
    segments: SegmentTable,
    segments_info: Sequence[Mapping[str, Any]],
    other_map: np.ndarray,
    other_segments: SegmentTable,
    other_info: Sequence[Mapping[str, Any]],
    *,
    source: str,
    other_source: str,
) -> Tuple[np.ndarray, SegmentTable]:
    """
    One table for the segments of two frames: an instance is known by its class and ``track_id``,
    stuff and crowds by their class.

    Args:
        segments: the table of the first frame.
        segments_info: of the first frame; ``segments_info[k]`` is segment ``k``.
        other_map: (H, W) int32 segment map of the other frame.
        other_segments, other_info: likewise, of the other frame.
        source, other_source: of the frames, named in errors.

    Returns:
        the other frame's map by the joined table, and that table: the segments of the first frame
        as they were, then those that the other one alone has.

    Raises:
        ValueError: if an instance lacks its ``track_id``, or two of a frame share it.
    """
    places: Dict[Tuple[int, bool, int], int] = {}
    for k, key in enumerate(_identities(segments, segments_info, source)):
        places.setdefault(key, k)
    added: List[int] = []
    lookup = np.zeros(len(other_segments) + 1, np.int32)
    for k, key in enumerate(_identities(other_segments, other_info, other_source)):
        if key not in places:
            places[key] = len(segments) + len(added)
            added.append(k)
        lookup[k + 1] = places[key] + 1
    joined = SegmentTable(
        np.concatenate([segments.category_ids, other_segments.category_ids[added]]),
        np.concatenate([segments.is_thing, other_segments.is_thing[added]]),
        np.concatenate([segments.is_crowd, other_segments.is_crowd[added]]),
    )
    return lookup[other_map], joined


def _identities(
    segments: SegmentTable, segments_info: Sequence[Mapping[str, Any]], source: str
) -> Iterator[Tuple[int, bool, int]]:
    """Of each segment, what it is known by: its class, whether it is a crowd, its track."""
    seen = set()
    for k, info in enumerate(segments_info):
        track_id = 0
        if segments.is_instance[k]:
            track_id = info.get("track_id", 0)
            identity = int(segments.category_ids[k]), track_id
            if not isinstance(track_id, int) or track_id < 1 or identity in seen:
                raise ValueError(
                    f"{source}: segment {info['id']} must have a 'track_id' of at least 1 that no "
                    f"other instance of its class has, got {info.get('track_id')!r}"
                )
            seen.add(identity)
        yield int(segments.category_ids[k]), bool(segments.is_crowd[k]), track_id
