"""COCO's mask AP of panoptic label maps, with the scores of their segments."""

import contextlib
import io
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import pycocotools.mask as mask_util

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class PanopticInstanceAP:
    """
    Accumulates instances of panoptic maps and scores them with pycocotools.

    As DeepLab2's metric: an instance's score is the mean probability of its class times the mean
    instance score over its pixels.
    """

    def __init__(self, *, thing_ids: Sequence[int], label_divisor: int):
        """
        Args:
            thing_ids: classes that have instances; all others are passed over.
            label_divisor: label = class * label_divisor + instance.
        """
        self.thing_ids = frozenset(thing_ids)
        self.label_divisor = label_divisor
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._images: List[Dict[str, Any]] = []
        self._truths: List[Dict[str, Any]] = []
        self._detections: List[Dict[str, Any]] = []

    def add(
        self,
        truth: np.ndarray,
        prediction: np.ndarray,
        semantic_probabilities: np.ndarray,
        instance_scores: np.ndarray,
        crowd: Optional[np.ndarray] = None,
    ) -> None:
        """
        Args:
            truth, prediction: (H, W) integer panoptic labels.
            semantic_probabilities: (H, W, C) float.
            instance_scores: (H, W) float, at each pixel the score of its instance.
            crowd: (H, W) bool, True on crowds of the truth; None = no crowds.
        """
        image = {"id": len(self._images) + 1, "height": truth.shape[0], "width": truth.shape[1]}
        self._images.append(image)
        for label in self._things(truth):
            mask = truth == label
            is_crowd = int(crowd is not None and bool(crowd[mask].any()))
            annotation = self._annotation(image["id"], label, mask)
            annotation["area"] = int(mask_util.area(annotation["segmentation"]))
            annotation["bbox"] = mask_util.toBbox(annotation["segmentation"]).tolist()
            annotation.update(id=len(self._truths) + 1, iscrowd=is_crowd)
            self._truths.append(annotation)
        for label in self._things(prediction):
            mask = prediction == label
            annotation = self._annotation(image["id"], label, mask)
            probabilities = semantic_probabilities[..., annotation["category_id"]][mask]
            annotation["score"] = float(
                probabilities.mean(dtype=np.float64) * instance_scores[mask].mean(dtype=np.float64)
            )
            self._detections.append(annotation)

    def _things(self, labels: np.ndarray) -> List[int]:
        """Labels of things, in the order of their first pixels: pycocotools keeps it for ties."""
        values, first = np.unique(labels, return_index=True)
        values = values[np.argsort(first)]
        return [label for label in values.tolist() if label // self.label_divisor in self.thing_ids]

    def _annotation(self, image_id: int, label: int, mask: np.ndarray) -> Dict[str, Any]:
        return {
            "image_id": image_id,
            "category_id": label // self.label_divisor,
            "segmentation": mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)),
        }

    def result(self) -> Dict[str, float]:
        """
        Returns:
            :data:`METRICS` in [0, 1], -1 where there is nothing to measure; 0 everywhere if nothing
            was predicted.
        """
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        if not self._detections:
            return {name: 0.0 for name in METRICS}
        categories = {item["category_id"] for item in self._truths + self._detections}
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {
                "images": self._images,
                "annotations": [dict(annotation) for annotation in self._truths],
                "categories": [{"id": category} for category in sorted(categories)],
            }
            truth.createIndex()
            # pycocotools adds to what it is given.
            detections = truth.loadRes([dict(detection) for detection in self._detections])
            evaluation = COCOeval(truth, detections, iouType="segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return dict(zip(METRICS, (float(value) for value in evaluation.stats)))
