"""Panoptic quality while the predictions come, without PNGs of them."""

import os
from typing import Any, Dict, Mapping, Sequence

from ..structures import read_panoptic_png
from .label_readers import reads_labels
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
        content = self._read_truth()
        self._annotations = {item["image_id"]: item for item in content["annotations"]}
        self._categories = {item["id"]: item for item in content["categories"]}

    @reads_labels
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
            predicted_ids, listed = self._read_output(*output["panoptic_seg"])
            # Of what else a model says, nothing is scored.
            segments = [{key: segment[key] for key in ("id", "category_id")} for segment in listed]
            unknown = {segment["category_id"] for segment in segments} - set(self._categories)
            if unknown:
                raise ValueError(
                    f"predictions of image {image_id!r} must have categories of "
                    f"{self._metadata.panoptic_json}, got {sorted(unknown)}"
                )
            path = os.path.join(self._metadata.panoptic_root, truth["file_name"])
            statistics = panoptic_statistics(
                read_panoptic_png(path), predicted_ids, truth["segments_info"], segments
            )
            self._predictions.append(
                {"image_id": image_id, "segments_info": segments, "statistics": statistics}
            )

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
