"""Panoptic quality while the predictions come, without PNGs of them."""

import json
import os
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
from detectron2.utils.file_io import PathManager

from .ground_truth import read_segment_ids
from .panoptic import PanopticQualityEvaluator
from .panoptic_statistics import panoptic_quality, panoptic_statistics


class OnTheFlyPanopticEvaluator(PanopticQualityEvaluator):
    """
    :class:`PanopticQualityEvaluator` that matches each image at once, where it is predicted.

    Its scores are equal to the last digit, in several processes too. Nothing is encoded, written
    and read again; what processes send to the main one are counts. No ``predictions.json`` is
    kept.
    """

    def __init__(self, dataset_name: str, *, per_class: bool = False):
        """
        Args:
            dataset_name, per_class: as in :class:`PanopticQualityEvaluator`.
        """
        super().__init__(dataset_name, per_class=per_class)
        with PathManager.open(self._metadata.panoptic_json) as f:
            content = json.load(f)
        self._annotations = {item["image_id"]: item for item in content["annotations"]}
        self._categories = {item["id"]: item for item in content["categories"]}

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs, outputs: as in :class:`PanopticQualityEvaluator`.

        Raises:
            ValueError: if an image is not in the ground truth, a category is unknown, or a map does
                not fit its list of segments.
        """
        for sample, output in zip(inputs, outputs):
            image_id = sample["image_id"]
            if image_id not in self._annotations:
                raise ValueError(
                    f"image_id must be in {self._metadata.panoptic_json}, got {image_id!r}"
                )
            truth = self._annotations[image_id]
            predicted_ids, segments = self._read_output(*output["panoptic_seg"])
            unknown = {segment["category_id"] for segment in segments} - set(self._categories)
            if unknown:
                raise ValueError(
                    f"predictions of image {image_id!r} must have categories of "
                    f"{self._metadata.panoptic_json}, got {sorted(unknown)}"
                )
            path = os.path.join(self._metadata.panoptic_root, truth["file_name"])
            statistics = panoptic_statistics(
                read_segment_ids(path), predicted_ids, truth["segments_info"], segments
            )
            self._predictions.append(
                {"image_id": image_id, "segments_info": segments, "statistics": statistics}
            )

    def _read_output(self, panoptic_map: Any, segments_info: Any) -> Any:
        """(H, W) ids with 0 as void, and segments with category ids of the dataset."""
        predicted_ids = panoptic_map.detach().cpu().numpy()
        if segments_info is None:
            # Detectron2's other form: class * label_divisor + instance, and -1 as void.
            divisor = self._metadata.label_divisor
            things = set(self._metadata.thing_dataset_id_to_contiguous_id.values())
            labels = [int(label) for label in np.unique(predicted_ids) if label != -1]
            segments_info = [
                {"id": v + 1, "category_id": v // divisor, "isthing": v // divisor in things}
                for v in labels
            ]
            predicted_ids = predicted_ids + 1
        segments: List[Dict[str, Any]] = []
        for segment in segments_info:
            segment = {k: segment[k] for k in ("id", "category_id", "isthing") if k in segment}
            if "isthing" in segment:
                segment["isthing"] = bool(segment["isthing"])
            segments.append(self._convert_category_id(segment))
        return predicted_ids, segments

    def _score(self, predictions: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
        statistics = {item["image_id"]: item["statistics"] for item in predictions}
        missing = [image_id for image_id in self._annotations if image_id not in statistics]
        if missing:
            raise ValueError(
                f"every image of {self._metadata.panoptic_json} must have a prediction, got none "
                f"for {missing[0]!r}"
            )
        return panoptic_quality(
            [statistics[image_id] for image_id in self._annotations], self._categories
        )
