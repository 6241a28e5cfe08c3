"""Panoptic quality's counts of one image, equal to panopticapi's to the last digit."""

import contextlib
import multiprocessing
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch

from ..ops import label_overlap

# Segment id of unlabeled pixels in PNGs of COCO's panoptic format.
_VOID_ID = 0


@dataclass
class PanopticStatistics:
    """
    Attributes:
        matches: (category id, IoU) of each matched pair, in the order in which panopticapi adds
            them up: the sum of floats depends on it.
        num_false_positives, num_false_negatives: by category id.
    """

    matches: List[Tuple[int, float]] = field(default_factory=list)
    num_false_positives: Dict[int, int] = field(default_factory=Counter)
    num_false_negatives: Dict[int, int] = field(default_factory=Counter)


def panoptic_statistics(
    truth_ids: np.ndarray,
    predicted_ids: np.ndarray,
    truth_segments: Sequence[Mapping[str, Any]],
    predicted_segments: Sequence[Mapping[str, Any]],
) -> PanopticStatistics:
    """
    Match the segments of an image.

    Reference: Panoptic Segmentation (arXiv:1801.00868), Sec. 4.1; panopticapi's
    ``pq_compute_single_core``, without its files.

    Args:
        truth_ids: (H, W) integer segment ids, 0 is unlabeled.
        predicted_ids: (H, W) integer segment ids, 0 is void.
        truth_segments: dicts with ``id``, ``category_id`` and ``iscrowd``.
        predicted_segments: dicts with ``id`` and ``category_id``.

    Raises:
        ValueError: if the shapes differ, or the predicted map and list do not have the same ids.
    """
    if truth_ids.shape != predicted_ids.shape:
        raise ValueError(
            f"predicted_ids must be {truth_ids.shape}, as the truth, got {predicted_ids.shape}"
        )
    pairs, counts = label_overlap(_to_tensor(truth_ids), _to_tensor(predicted_ids))
    overlap = {(t, p): count for (t, p), count in zip(pairs.tolist(), counts.tolist())}
    truth = {segment["id"]: segment for segment in truth_segments}
    categories = {segment["id"]: segment["category_id"] for segment in predicted_segments}
    area = _predicted_areas(overlap, categories)

    statistics = PanopticStatistics()
    matched = _match(overlap, truth, categories, area, statistics)
    matched_truth, matched_predictions = {pair[0] for pair in matched}, {
        pair[1] for pair in matched
    }
    crowd_of_category = {}
    for segment_id, segment in truth.items():
        if segment["iscrowd"] == 1:
            crowd_of_category[segment["category_id"]] = segment_id
        elif segment_id not in matched_truth:
            statistics.num_false_negatives[segment["category_id"]] += 1
    for segment_id, category in categories.items():
        if segment_id in matched_predictions:
            continue
        ignored = overlap.get((_VOID_ID, segment_id), 0)
        if category in crowd_of_category:
            ignored += overlap.get((crowd_of_category[category], segment_id), 0)
        # A segment that lies mostly where nothing is evaluated is not wrong.
        if ignored / area[segment_id] <= 0.5:
            statistics.num_false_positives[category] += 1
    return statistics


def _to_tensor(ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(ids))


def _predicted_areas(
    overlap: Mapping[Tuple[int, int], int], categories: Mapping[int, int]
) -> Dict[int, int]:
    """Pixels of each predicted segment; the map and the list must agree."""
    area: Dict[int, int] = Counter()
    for (_, segment_id), count in overlap.items():
        area[segment_id] += count
    in_map = set(area) - {_VOID_ID}
    if in_map != set(categories) - {_VOID_ID} or (_VOID_ID in categories and not area[_VOID_ID]):
        wrong = sorted(in_map.symmetric_difference(categories))
        raise ValueError(
            "the predicted map and predicted_segments must have the same ids, got "
            f"{wrong[:5]} in one of them only"
        )
    return area


def _match(
    overlap: Mapping[Tuple[int, int], int],
    truth: Mapping[int, Mapping[str, Any]],
    categories: Mapping[int, int],
    area: Mapping[int, int],
    statistics: PanopticStatistics,
) -> List[Tuple[int, int]]:
    """Pairs of segments of one class with an IoU above 0.5; unlabeled pixels do not count."""
    truth_area: Dict[int, int] = Counter()
    for (truth_id, _), count in overlap.items():
        truth_area[truth_id] += count
    matched = []
    for (truth_id, predicted_id), intersection in overlap.items():
        segment = truth.get(truth_id)
        if segment is None or predicted_id not in categories or segment["iscrowd"] == 1:
            continue
        if segment["category_id"] != categories[predicted_id]:
            continue
        on_void = overlap.get((_VOID_ID, predicted_id), 0)
        union = area[predicted_id] + truth_area[truth_id] - intersection - on_void
        iou = intersection / union
        if iou > 0.5:
            statistics.matches.append((segment["category_id"], iou))
            matched.append((truth_id, predicted_id))
    return matched


def panoptic_quality(
    statistics: Sequence[PanopticStatistics], categories: Mapping[int, Mapping[str, Any]]
) -> Dict[str, Any]:
    """
    The scores of a dataset.

    panopticapi adds up the IoUs of as many parts of the dataset as the machine has processors, then
    the parts; so does this, to reach the same last digit.

    Args:
        statistics: of each image, in the order of the ground truth's annotations.
        categories: COCO's categories by id.

    Returns:
        panopticapi's: see :func:`compute_panoptic_quality`.
    """
    from panopticapi.evaluation import PQStat

    total = PQStat()
    for part in np.array_split(np.arange(len(statistics)), multiprocessing.cpu_count()):
        stat = PQStat()
        for image in part.tolist():
            _add_image(stat, statistics[image])
        total += stat
    scores: Dict[str, Any] = {}
    with nan_of_no_class():
        for name, is_thing in (("All", None), ("Things", True), ("Stuff", False)):
            scores[name], per_class = total.pq_average(categories, isthing=is_thing)
            if is_thing is None:
                scores["per_class"] = per_class
    return scores


@contextlib.contextmanager
def nan_of_no_class() -> Iterator[None]:
    """Let panopticapi's means over no class be NaN: it divides by their number."""
    from panopticapi.evaluation import PQStat

    average, nan = PQStat.pq_average, float("nan")

    def average_or_nan(stat: Any, categories: Mapping[int, Any], isthing: Optional[bool]) -> Any:
        try:
            return average(stat, categories, isthing)
        except ZeroDivisionError:
            wanted = (k for k, c in categories.items() if isthing in (None, c["isthing"] == 1))
            per_class = {label: {"pq": 0.0, "sq": 0.0, "rq": 0.0} for label in wanted}
            return {"pq": nan, "sq": nan, "rq": nan, "n": 0}, per_class

    PQStat.pq_average = average_or_nan
    try:
        yield
    finally:
        PQStat.pq_average = average


def _add_image(stat: Any, statistics: PanopticStatistics) -> None:
    for category, iou in statistics.matches:
        stat[category].tp += 1
        stat[category].iou += iou
    for category, count in statistics.num_false_negatives.items():
        stat[category].fn += count
    for category, count in statistics.num_false_positives.items():
        stat[category].fp += count
