"""
Ground truth as it is read: a map of segment indices and a table of the segments.

Between reading and targets, labels stay in this form. It is independent of any label divisor, and
the table is all that a target generator has to know about the dataset.
"""

from dataclasses import dataclass
from typing import AbstractSet, Any, Mapping, Sequence, Tuple

import numpy as np

from ..structures import read_label_map, read_panoptic_png


@dataclass(frozen=True)
class SegmentTable:
    """
    The segments of an image. Segment ``k`` has the value ``k + 1`` in a segment map; 0 is void.

    Args:
        category_ids: (S,) int64, contiguous class ids.
        is_thing: (S,) bool, True where the class has instances.
        is_crowd: (S,) bool, True where several things share the segment. Only with ``is_thing``.
    """

    category_ids: np.ndarray
    is_thing: np.ndarray
    is_crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.category_ids)

    @property
    def is_instance(self) -> np.ndarray:
        """(S,) bool: single things, those that have a center."""
        return self.is_thing & ~self.is_crowd

    def look_up(self, values: np.ndarray, void: Any) -> np.ndarray:
        """
        ``values`` per segment as a table that a segment map can index.

        Args:
            values: (S,) of any dtype.
            void: value of unlabeled pixels.

        Returns:
            (S + 1,) of the same dtype.
        """
        return np.concatenate([np.array([void], dtype=values.dtype), values])


def read_segments(
    dataset_dict: Mapping[str, Any],
    size: Tuple[int, int],
    *,
    num_classes: int,
    thing_ids: AbstractSet[int],
    label_divisor: int,
    ignore_label: int = 255,
    of: str = "",
) -> Tuple[np.ndarray, SegmentTable]:
    """
    Read the panoptic annotation of an image, or, where it has none, its semantic map, of which each
    class is a segment.

    Args:
        dataset_dict: one image, in Detectron2's format.
        size: (height, width) that it has on disk.
        num_classes, thing_ids, label_divisor: see :func:`build_segment_map`.
        ignore_label: of unlabeled pixels in a semantic map.
        of: what the keys of the frame begin with, "previous_" or "next_"; "" of the image's.

    Returns:
        its segment map, (H, W) int32, and the table of the segments.

    Raises:
        FileNotFoundError: if the panoptic PNG does not exist.
        ValueError: if the dict has no panoptic annotation, if the PNG is not of ``size``, or see
            :func:`build_segment_map`.
    """
    if f"{of}pan_seg_file_name" not in dataset_dict and f"{of}sem_seg_file_name" in dataset_dict:
        return _read_classes(dataset_dict, size, num_classes, ignore_label, of)
    for key in (f"{of}pan_seg_file_name", f"{of}segments_info"):
        if key not in dataset_dict:
            raise ValueError(
                f"dataset dict of {dataset_dict['file_name']} must have {key!r}; is the "
                f"dataset registered with panoptic annotations?"
            )
    png = dataset_dict[f"{of}pan_seg_file_name"]
    ids = read_panoptic_png(png)
    if ids.shape != tuple(size):
        raise ValueError(
            f"panoptic PNG {png} has size {ids.shape[0]} x {ids.shape[1]}, but the image "
            f"{dataset_dict['file_name']} has {size[0]} x {size[1]}"
        )
    return build_segment_map(
        ids,
        dataset_dict[f"{of}segments_info"],
        num_classes=num_classes,
        thing_ids=thing_ids,
        label_divisor=label_divisor,
        source=png,
    )


def _read_classes(
    dataset_dict: Mapping[str, Any], size: Tuple[int, int], num_classes: int, ignored: int, of: str
) -> Tuple[np.ndarray, SegmentTable]:
    """The segments of Detectron2's ``sem_seg_file_name``, none of them a thing."""
    file = dataset_dict[f"{of}sem_seg_file_name"]
    values = read_label_map(file, "semantic map")
    if values.shape != tuple(size):
        raise ValueError(
            f"semantic map {file} has size {values.shape[0]} x {values.shape[1]}, but the image "
            f"{dataset_dict['file_name']} has {size[0]} x {size[1]}"
        )
    classes = np.unique(values[values != ignored])
    if len(classes) and not 0 <= classes[0] <= classes[-1] < num_classes:
        wrong = classes[(classes < 0) | (classes >= num_classes)]
        raise ValueError(
            f"semantic map {file} must have the classes 0 to {num_classes - 1}, and {ignored} "
            f"where unlabeled, got {wrong[:5].tolist()}"
        )
    no = np.zeros(len(classes), bool)
    places = np.searchsorted(classes, values) + 1
    return np.where(values == ignored, 0, places).astype(np.int32), SegmentTable(classes, no, no)


def build_segment_map(
    ids: np.ndarray,
    segments_info: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    thing_ids: AbstractSet[int],
    label_divisor: int,
    source: str = "panoptic PNG",
) -> Tuple[np.ndarray, SegmentTable]:
    """
    Turn segment ids into segment indices and check them against the annotation.

    Args:
        ids: (H, W) int32 segment ids, 0 where unlabeled.
        segments_info: of a Detectron2 dataset dict: ``id``, ``category_id`` (contiguous) and
            optionally ``iscrowd`` of each segment.
        num_classes: number of contiguous class ids.
        thing_ids: contiguous ids of the classes with instances.
        label_divisor: instances of a class are numbered below it.
        source: named in errors.

    Returns:
        the segment map, (H, W) int32, and its table; segment ``k`` is ``segments_info[k]``.

    Raises:
        ValueError: if a segment is listed twice or is not in ``ids``, if ``ids`` has a segment
            that is not listed, if a class id is not below ``num_classes``, or if a class has
            ``label_divisor`` instances or more.
    """
    listed = np.array([segment["id"] for segment in segments_info], dtype=np.int64)
    categories = np.array([segment["category_id"] for segment in segments_info], dtype=np.int64)
    crowds = np.array([segment.get("iscrowd", 0) for segment in segments_info], dtype=bool)
    _check_categories(listed, categories, num_classes, source)
    is_thing = np.isin(categories, list(thing_ids))
    table = SegmentTable(categories, is_thing, is_thing & crowds)
    _check_instances(table, label_divisor, source)
    return _index_ids(ids, listed, source), table


def _check_categories(
    listed: np.ndarray, categories: np.ndarray, num_classes: int, source: str
) -> None:
    if len(np.unique(listed)) != len(listed) or np.any(listed == 0):
        raise ValueError(f"{source}: segment ids must be distinct and not 0, got {listed.tolist()}")
    wrong = (categories < 0) | (categories >= num_classes)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"{source}: segment {listed[k]} has category {categories[k]}, but the dataset's "
            f"metadata has the classes 0 to {num_classes - 1}"
        )


def _check_instances(table: SegmentTable, label_divisor: int, source: str) -> None:
    counts = np.bincount(table.category_ids[table.is_instance], minlength=1)
    # Number 0 of a class stands for its crowd or stuff.
    if counts.max() >= label_divisor:
        raise ValueError(
            f"{source}: {counts.max()} instances of class {counts.argmax()}, but the label "
            f"divisor {label_divisor} leaves room for {label_divisor - 1}"
        )


def _index_ids(ids: np.ndarray, listed: np.ndarray, source: str) -> np.ndarray:
    """Replace each id by its place in ``listed`` plus 1; 0 stays 0."""
    flat = ids.ravel()
    # Search once a run of equal pixels instead of once a pixel: ten times fewer and more.
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    values = flat[starts]
    order = np.argsort(listed)
    keys = np.concatenate([[0], listed[order]])
    places = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    unknown = keys[places] != values
    if unknown.any():
        raise ValueError(
            f"{source}: segment {values[unknown][0]} of the PNG is not in segments_info"
        )
    indices = np.concatenate([[0], order + 1]).astype(np.int32)
    found = np.bincount(places, minlength=len(keys))
    if np.any(found[1:] == 0):
        raise ValueError(
            f"{source}: segment {keys[1:][found[1:] == 0][0]} of segments_info has no pixel in "
            f"the PNG"
        )
    lengths = np.diff(np.append(starts, flat.size))
    return np.repeat(indices[places], lengths).reshape(ids.shape)
