"""The same detections painted in several orders, each scored."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import torch
from detectron2.structures.masks import polygons_to_bitmask
from torch import Tensor

from ..evaluation import PanopticStatistics, panoptic_quality, panoptic_statistics
from ..records import RankedImage
from ..structures import DatasetClasses, mask_fault, read_panoptic_png

ORDERS = ("detection", "module", "truth")
# IoU with a thing of the truth above which a detection has that thing's place.
_MATCH_IOU = 0.5
# Overlap threshold that drops no instance.
OFF = 1.0

Record = Mapping[str, Any]


class Pair(NamedTuple):
    """
    Two detections with common pixels, of two things of the truth with common pixels.

    Attributes:
        first, second: places among the detections.
        is_one_class: of one class in the truth.
    """

    first: int
    second: int
    is_one_class: bool


@dataclass
class OrderScores:
    """
    Of one order.

    Attributes:
        quality: PQ, PQ_th and PQ_st in percent: "all" images with the model's threshold of
            overlap, "off" without it, "two classes" in the images without a pair of one class.
        right, wrong: pairs, by whether they are of one class.
    """

    quality: Dict[str, Dict[str, float]] = field(default_factory=dict)
    right: Dict[bool, int] = field(default_factory=lambda: defaultdict(int))
    wrong: Dict[bool, int] = field(default_factory=lambda: defaultdict(int))

    def part_right(self, is_one_class: bool) -> float:
        """Percent of the pairs whose upper one is painted above; nan if there is none."""
        right, wrong = self.right[is_one_class], self.wrong[is_one_class]
        return 100.0 * right / (right + wrong) if right + wrong else float("nan")


def score_orders(
    images: Iterable[Tuple[Record, RankedImage]], classes: DatasetClasses
) -> Dict[str, OrderScores]:
    """
    Paint by detection score, by the model's ranking, and by the true order.

    Args:
        images: dataset dicts, whose annotations have ``paint_order``, and what a model makes of
            them.
        classes: of the dataset.

    Returns:
        Each of :data:`ORDERS` to its scores.

    Raises:
        ValueError: if an annotation has no ``paint_order``.
    """
    scores = {order: OrderScores() for order in ORDERS}
    statistics: Dict[Tuple[str, str], List[PanopticStatistics]] = defaultdict(list)
    for record, image in images:
        masks, places = read_layers(record)
        matched = match_things(image.instances.pred_masks, masks)
        ranks: Dict[str, Optional[Tensor]] = {
            "detection": None,
            "module": image.rank_scores,
            "truth": true_ranks(matched, places),
        }
        truth_classes = [annotation["category_id"] for annotation in record["annotations"]]
        pairs = find_pairs(image.instances.pred_masks, matched, masks, truth_classes)
        has_one_class = any(pair.is_one_class for pair in pairs)
        for order in ORDERS:
            _count_pairs(scores[order], pairs, matched, places, image, ranks[order])
            found = _statistics(record, image.merge(ranks[order]), classes)
            statistics[order, "all"].append(found)
            if not has_one_class:
                statistics[order, "two classes"].append(found)
            merged = image.merge(ranks[order], OFF)
            statistics[order, "off"].append(_statistics(record, merged, classes))
    categories = {k: {"isthing": classes.is_thing(k)} for k in range(classes.num_classes)}
    for (order, part), of_images in statistics.items():
        quality = panoptic_quality(of_images, categories)
        names = {"PQ": "All", "PQ_th": "Things", "PQ_st": "Stuff"}
        scores[order].quality[part] = {n: 100 * quality[k]["pq"] for n, k in names.items()}
    return scores


def read_layers(record: Record) -> Tuple[Tensor, Tensor]:
    """
    Args:
        record: dataset dict.

    Returns:
        (T, H, W) bool, the whole things of the truth; (T,) int64, their places in the order of
        painting, 0 the lowest.

    Raises:
        ValueError: if an annotation has none, or a mask that cannot be read.
    """
    from pycocotools import mask as mask_util

    size = (record["height"], record["width"])
    masks, places = np.zeros((0, *size), bool), []
    for annotation in record["annotations"]:
        if "paint_order" not in annotation:
            raise ValueError(
                f"{record['file_name']}: annotation {annotation.get('id')} must have paint_order, "
                f"got {sorted(annotation)}"
            )
        shape = annotation["segmentation"]
        fault = mask_fault(shape, size)
        if fault is not None:
            raise ValueError(f"{record['file_name']}: annotation {annotation.get('id')}: {fault}")
        is_rle = isinstance(shape, dict)
        mask = mask_util.decode(shape) if is_rle else polygons_to_bitmask(shape, *size)
        masks = np.concatenate([masks, mask[None].astype(bool)])
        places.append(annotation["paint_order"])
    return torch.from_numpy(masks), torch.tensor(places, dtype=torch.int64)


def match_things(masks: Tensor, truth_masks: Tensor) -> Tensor:
    """
    Args:
        masks: (N, H, W) bool.
        truth_masks: (T, H, W) bool, whole things.

    Returns:
        (N,) int64, the thing with the largest IoU, -1 where that is not above 0.5.
    """
    if 0 in (len(masks), len(truth_masks)):
        return torch.full((len(masks),), -1)
    flat, truth = masks.flatten(1).double(), truth_masks.flatten(1).double()
    common = flat @ truth.t()
    union = flat.sum(dim=1)[:, None] + truth.sum(dim=1) - common
    largest, index = (common / union.clamp(min=1)).max(dim=1)
    return torch.where(largest > _MATCH_IOU, index, -1)


def true_ranks(matched: Tensor, places: Tensor) -> Tensor:
    """
    Args:
        matched: see :func:`match_things`.
        places: (T,) of the things in the order of painting.

    Returns:
        (N,) float32, the higher the nearer. What is no thing of the truth is below all.
    """
    return torch.tensor([int(places[k]) if k >= 0 else -1 for k in matched.tolist()]).float()


def find_pairs(
    masks: Tensor, matched: Tensor, truth_masks: Tensor, truth_classes: List[int]
) -> List[Pair]:
    """
    The pairs of detections that have a true order.

    Args:
        masks: (N, H, W) bool.
        matched: see :func:`match_things`.
        truth_masks, truth_classes: of the things.
    """
    pairs = []
    things = matched.tolist()
    for i, first in enumerate(things):
        for j in range(i):
            second = things[j]
            if min(first, second) < 0 or first == second:
                continue
            if (
                not (masks[i] & masks[j]).any()
                or not (truth_masks[first] & truth_masks[second]).any()
            ):
                continue
            is_one_class = truth_classes[first] == truth_classes[second]
            pairs.append(Pair(j, i, is_one_class))
    return pairs


def _count_pairs(
    scores: OrderScores,
    pairs: List[Pair],
    matched: Tensor,
    places: Tensor,
    image: RankedImage,
    ranks: Optional[Tensor],
) -> None:
    detection = image.instances.scores
    first_of_all = detection if ranks is None else ranks
    for pair in pairs:
        # Ties go to the detection score, as in the merge.
        keys = [(float(first_of_all[k]), float(detection[k])) for k in pair[:2]]
        true = [int(places[matched[k]]) for k in pair[:2]]
        is_right = (keys[0] > keys[1]) == (true[0] > true[1])
        (scores.right if is_right else scores.wrong)[pair.is_one_class] += 1


def _statistics(
    record: Record, panoptic_seg: Tuple[Tensor, List[Dict[str, Any]]], classes: DatasetClasses
) -> PanopticStatistics:
    ids = read_panoptic_png(record["pan_seg_file_name"])
    values, areas = np.unique(ids, return_counts=True)
    area = dict(zip(values.tolist(), areas.tolist()))
    truth = [
        {**segment, "area": area.get(segment["id"], 0), "iscrowd": segment.get("iscrowd", 0)}
        for segment in record["segments_info"]
    ]
    predicted_map, segments = panoptic_seg
    return panoptic_statistics(ids, predicted_map.cpu().numpy(), truth, segments)
