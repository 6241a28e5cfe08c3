"""Panoptic quality by COCO's panopticapi, for every dataset in its format."""

import contextlib
import io
import itertools
import logging
import os
import tempfile
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from tabulate import tabulate
from torch import Tensor

from ..compat import require_panopticapi
from ..structures import (
    DatasetClasses,
    check_distinct,
    check_output_name,
    encode_panoptic_png,
    stem_of,
    write_json,
)
from .label_readers import reads_labels
from .panoptic_statistics import nan_of_no_class
from .panoptic_truth import correct_areas, load_panoptic_truth

logger = logging.getLogger(__name__)


class PanopticQualityEvaluator(COCOPanopticEvaluator):
    """
    ``COCOPanopticEvaluator`` that leaves predictions as they are and can report each class.

    Detectron2's changes the ``panoptic_seg`` of the outputs that it is given, which evaluators and
    pictures after it then see.
    """

    def __init__(
        self, dataset_name: str, output_dir: Optional[str] = None, *, per_class: bool = False
    ):
        """
        Args:
            dataset_name: registered with ``panoptic_json`` and ``panoptic_root``.
            output_dir: where ``predictions.json`` is kept; None = not kept.
            per_class: add "PQ-<class>", "SQ-<class>" and "RQ-<class>" to the results, for classes
                that occur.

        Raises:
            ImportError: if panopticapi is not installed.
        """
        require_panopticapi()
        super().__init__(dataset_name, output_dir)
        self._per_class = per_class
        self._classes = DatasetClasses.from_metadata(self._metadata)

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with ``file_name`` and ``image_id``.
            outputs: dicts with ``panoptic_seg``: a pair of an (H, W) integer map of segment ids,
                0 = void, and a list of dicts with ``id``, contiguous ``category_id`` and
                ``isthing``. The list may be None, and the map of labels, -1 = void.

        Raises:
            ValueError: if an id has no color of a panoptic PNG, as negative ones have not.
        """
        for sample, output in zip(inputs, outputs):
            predicted_ids, segments = self._read_output(*output["panoptic_seg"])
            self._predictions.append(
                {
                    "image_id": sample["image_id"],
                    "file_name": f"{stem_of(sample['file_name'])}.png",
                    "png_string": encode_panoptic_png(predicted_ids, sample["file_name"]),
                    "segments_info": segments,
                }
            )

    def _read_output(
        self, panoptic_map: Tensor, segments_info: Optional[Sequence[Mapping[str, Any]]]
    ) -> Tuple[np.ndarray, List[Dict[str, Any]]]:
        """(H, W) ids with 0 as void, and segments with category ids of the dataset."""
        predicted_ids = panoptic_map.detach().cpu().numpy()
        if segments_info is None:
            # Detectron2's other form: class * label_divisor + instance, and -1 as void.
            divisor = self._classes.label_divisor
            labels = [int(label) for label in np.unique(predicted_ids) if label != -1]
            segments_info = [
                {
                    "id": label + 1,
                    "category_id": label // divisor,
                    "isthing": self._classes.is_thing(label // divisor),
                }
                for label in labels
            ]
            predicted_ids = predicted_ids + 1
        segments = [dict(segment) for segment in segments_info]
        for segment in segments:
            if "isthing" in segment:
                # `isthing` decides by identity with True in the base class.
                segment["isthing"] = bool(segment["isthing"])
        return predicted_ids, [self._convert_category_id(segment) for segment in segments]

    def evaluate(self) -> Optional[Dict[str, Dict[str, float]]]:
        """
        Returns:
            ``{"panoptic_seg": {"PQ": ..., "SQ": ..., "RQ": ..., "PQ_th": ..., "PQ_st": ..., ...}}``
            in percent, with the keys of ``COCOPanopticEvaluator``. None in all but the main
            process.
        """
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        predictions = list(itertools.chain(*gathered))
        check_distinct((p["image_id"] for p in predictions), "predictions")
        scores = self._score(predictions)
        result = {}
        for suffix, part in (("", "All"), ("_th", "Things"), ("_st", "Stuff")):
            for metric in ("pq", "sq", "rq"):
                result[metric.upper() + suffix] = float(100 * scores[part][metric])
        _log_table(scores)
        if self._per_class:
            result.update(self._name_classes(scores["per_class"], predictions))
        return OrderedDict(panoptic_seg=result)

    def _read_truth(self) -> Dict[str, Any]:
        """See :func:`load_panoptic_truth`."""
        return load_panoptic_truth(self._metadata.panoptic_json, self._classes)

    def _score(self, predictions: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
        """Scores as of :func:`compute_panoptic_quality`."""
        truth = self._read_truth()
        known = {annotation["image_id"] for annotation in truth["annotations"]}
        for prediction in predictions:
            if prediction["image_id"] not in known:
                raise ValueError(
                    f"predictions must be of images of {self._metadata.panoptic_json}, got "
                    f"image_id {prediction['image_id']!r}"
                )
        return compute_panoptic_quality(
            predictions, truth, self._metadata.panoptic_root, output_dir=self._output_dir
        )

    def _name_classes(
        self,
        per_class: Mapping[int, Mapping[str, float]],
        predictions: Sequence[Mapping[str, Any]],
    ) -> Dict[str, float]:
        """Scores by class name, of the classes that occur in ground truth or predictions."""
        annotations = self._read_truth()["annotations"]
        occurring = {
            segment["category_id"]
            for annotation in itertools.chain(annotations, predictions)
            for segment in annotation["segments_info"]
        }
        names = {key: self._classes.names[k] for key, k in self._classes.category_ids.items()}
        return {
            f"{metric.upper()}-{names[dataset_id]}": float(100 * score[metric])
            for metric in ("pq", "sq", "rq")
            for dataset_id, score in per_class.items()
            if dataset_id in occurring
        }


def compute_panoptic_quality(
    predictions: Sequence[Mapping[str, Any]],
    truth: Mapping[str, Any],
    panoptic_root: str,
    *,
    output_dir: Optional[str] = None,
) -> Dict[str, Any]:
    """
    Run panopticapi on predictions held in memory.

    Args:
        predictions: annotations of COCO's panoptic format (``image_id``, ``file_name`` and
            ``segments_info`` with ids of the dataset), each with its PNG in ``png_string``.
        truth: annotation of the same images; see :func:`load_panoptic_truth`. Its areas become
            those of the PNGs, whatever they were.
        panoptic_root: folder of its PNGs.
        output_dir: existing folder that keeps the annotations as ``predictions.json``.

    Returns:
        panopticapi's: "All", "Things", "Stuff" with "pq", "sq", "rq" in [0, 1] and "n" classes, and
        "per_class" by id of the dataset. Where none of the classes occurs the three are NaN.
    """
    from panopticapi.evaluation import pq_compute

    panoptic_root = PathManager.get_local_path(panoptic_root)
    correct_areas(truth["annotations"], panoptic_root)
    with tempfile.TemporaryDirectory(prefix="panoptic_eval_") as folder:
        annotations = []
        for number, prediction in enumerate(predictions):
            png = _write_png(prediction, folder, number)
            kept = {k: v for k, v in prediction.items() if k != "png_string"}
            annotations.append({**kept, "file_name": png})
        truth_json = os.path.join(folder, "truth.json")
        write_json(truth_json, truth)
        predictions_json = os.path.join(output_dir or folder, "predictions.json")
        write_json(predictions_json, {**truth, "annotations": annotations})
        with contextlib.redirect_stdout(io.StringIO()), nan_of_no_class():
            return pq_compute(
                truth_json,
                PathManager.get_local_path(predictions_json),
                gt_folder=panoptic_root,
                pred_folder=folder,
            )


def _write_png(prediction: Mapping[str, Any], folder: str, number: int) -> str:
    """Write a prediction's PNG; its path in ``folder``. Frames of two videos may share a name."""
    png = prediction["file_name"]
    check_output_name(png, f"image {prediction['image_id']!r}")
    if os.path.exists(os.path.join(folder, png)):
        os.makedirs(os.path.join(folder, str(number)))
        png = os.path.join(str(number), png)
    with open(os.path.join(folder, png), "wb") as f:
        f.write(prediction["png_string"])
    return png


def _log_table(scores: Mapping[str, Any]) -> None:
    rows = [
        [part, *(100 * scores[part][metric] for metric in ("pq", "sq", "rq")), scores[part]["n"]]
        for part in ("All", "Things", "Stuff")
    ]
    headers = ["", "PQ", "SQ", "RQ", "#categories"]
    table = tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".3f")
    logger.info("Panoptic quality:\n%s", table)
    for part, what in (("All", "class"), ("Things", "thing"), ("Stuff", "stuff class")):
        if scores[part]["n"] == 0:
            message = "PQ of %s is NaN: no %s occurs in the ground truth or the predictions"
            logger.warning(message, part.lower(), what)
