"""Frames of videos become sequences: sorted, and each with its neighbors."""

from typing import Any, Dict, Iterable, List, Tuple

# What a dict tells of the frame before and of the one after it, as ``previous_<key>`` and
# ``next_<key>``.
_OF_NEIGHBORS = ("file_name", "pan_seg_file_name", "segments_info")


def image_id_of_frame(sequence: int, frame: int) -> int:
    """The id of an image of a dataset whose sequences have numbers."""
    return 1000000 * sequence + frame


def join_frames(dataset_dicts: Iterable[Dict[str, Any]], source: str) -> List[Dict[str, Any]]:
    """
    Sort frames by their sequence and number and give each those of its neighbors.

    Two frames are neighbors if their numbers are one step apart. The step is the dataset's own,
    the least difference of two frames of a sequence: of a video of which every 30th frame is
    there it is 30, and where one of them is missing none is joined over the gap.

    Args:
        dataset_dicts: in Detectron2's format, with ``sequence`` and ``frame``; not changed.
        source: named in errors.

    Returns:
        new dicts, with ``previous_file_name``, ``previous_pan_seg_file_name`` and
        ``previous_segments_info`` where there is a frame before, and the three ``next_`` ones
        where there is one after, as far as that frame has them.

    Raises:
        ValueError: if a dict lacks ``sequence`` or ``frame``, or a frame is there twice.
    """
    frames = [dict(dataset_dict) for dataset_dict in dataset_dicts]
    for frame in frames:
        _check_place(frame, source)
    frames.sort(key=_place)
    pairs = [
        (before, after)
        for before, after in zip(frames, frames[1:])
        if before["sequence"] == after["sequence"]
    ]
    step = min((after["frame"] - before["frame"] for before, after in pairs), default=1)
    for before, after in pairs:
        if before["frame"] == after["frame"]:
            raise ValueError(
                f"{source}: a frame must be there once, but frame {after['frame']} of sequence "
                f"{after['sequence']!r} is {before['file_name']} and {after['file_name']}"
            )
        if after["frame"] - before["frame"] == step:
            _tell(after, "previous", before)
            _tell(before, "next", after)
    return frames


def _check_place(frame: Dict[str, Any], source: str) -> None:
    if not isinstance(frame.get("sequence"), str) or not isinstance(frame.get("frame"), int):
        raise ValueError(
            f"{source}: each image of a video must have 'sequence', a string, and 'frame', an "
            f"integer, but {frame['file_name']} has {frame.get('sequence')!r} and "
            f"{frame.get('frame')!r}"
        )


def _place(frame: Dict[str, Any]) -> Tuple[str, int]:
    return frame["sequence"], frame["frame"]


def _tell(frame: Dict[str, Any], name: str, neighbor: Dict[str, Any]) -> None:
    frame.update({f"{name}_{key}": neighbor[key] for key in _OF_NEIGHBORS if key in neighbor})
