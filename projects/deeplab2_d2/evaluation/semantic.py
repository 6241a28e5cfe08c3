"""Mean intersection over union on any dataset whose semantic ground truth can be read."""

import logging
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate
from torch import Tensor

from ..ops import resample_argmax
from ..structures import SEMANTIC_LABELS, DatasetClasses, read_label_map, read_panoptic_png
from .ground_truth import classes_of_ids, segment_classes
from .label_pairs import count_label_pairs
from .label_readers import reads_labels
from .seen_images import SeenImages

logger = logging.getLogger(__name__)


class SemanticEvaluator(DatasetEvaluator):
    """
    The metrics of Detectron2's ``SemSegEvaluator``, also for panoptic datasets.

    Detectron2's own needs ``sem_seg_file_name``, which COCO panoptic dicts lack, and release 0.6
    of it does not run on NumPy 1.24 or later. Here the ground truth is that file where there is
    one, and otherwise is decoded from the panoptic PNG. It works over any number of processes.
    """

    def __init__(self, dataset_name: str, *, ignore_crowd: bool = True):
        """
        Args:
            dataset_name: registered; its metadata has ``stuff_classes`` (names of all classes by
                contiguous id) and ``ignore_label``.
            ignore_crowd: do not evaluate pixels of crowd segments, as DeepLab2 does by default.
                Detectron2's conversion of COCO (and the numbers of Mask2Former) evaluate them.
                Without effect where there is a ``sem_seg_file_name``.
        """
        metadata = MetadataCatalog.get(dataset_name)
        classes = DatasetClasses.from_metadata(metadata, needs_things=False)
        self._class_names, self._ignore_label = classes.names, classes.ignore_label
        self._ignore_crowd = ignore_crowd
        records = DatasetCatalog.get(dataset_name)
        self._images = SeenImages([record["file_name"] for record in records], dataset_name)
        self._records = {record["file_name"]: record for record in records}
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._images.reset()
        size = len(self._class_names) + 1
        # Rows: predicted class, columns: true class; the last of each is void.
        self._confusion = np.zeros((size, size), dtype=np.int64)

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with the ``file_name`` of a record of the dataset.
            outputs: dicts with ``sem_seg_labels``: (H, W) integer class ids in which values outside
                [0, C) are void; or with ``sem_seg``: such ids, or (C, H, W) scores; at the size of
                the ground truth.

        Raises:
            ValueError: if a prediction has another size or number of classes than its ground truth,
                is no map of integers, or is of an image that has come before; or if the ground
                truth has a value that is no class.
        """
        for sample, output in zip(inputs, outputs):
            self._images.add(sample["file_name"])
            key = SEMANTIC_LABELS if SEMANTIC_LABELS in output else "sem_seg"
            prediction = self._classes_of(output[key], sample["file_name"])
            self._add(prediction.cpu().numpy(), sample["file_name"])

    def _classes_of(self, prediction: Tensor, file_name: str) -> Tensor:
        count = len(self._class_names)
        if prediction.dim() == 3 and len(prediction) == count:
            return _largest_class(prediction)
        is_integer = not (prediction.is_floating_point() or prediction.dtype == torch.bool)
        if prediction.dim() == 2 and is_integer:
            return prediction
        raise ValueError(
            f"sem_seg of {file_name} must be scores of {count} classes, (C, H, W), or integer ids, "
            f"(H, W), got {tuple(prediction.shape)} of {prediction.dtype}"
        )

    def _add(self, prediction: np.ndarray, file_name: str) -> None:
        record = self._records[file_name]
        has_map = "sem_seg_file_name" in record
        truth = (
            read_label_map(record["sem_seg_file_name"], "semantic ground truth")
            if has_map
            else read_panoptic_png(record["pan_seg_file_name"])
        )
        if prediction.shape != truth.shape:
            raise ValueError(
                f"the prediction for {file_name} is {prediction.shape}, its ground truth "
                f"{truth.shape}: they must have the same size"
            )
        pairs = count_label_pairs(truth, prediction)
        true_classes = pairs.truth
        if not has_map:
            classes = segment_classes(
                record, ignore_label=self._ignore_label, ignore_crowd=self._ignore_crowd
            )
            true_classes = classes_of_ids(pairs.truth, classes, record)
        size = len(self._class_names) + 1
        is_void = true_classes == self._ignore_label
        is_class = (true_classes >= 0) & (true_classes < size - 1) & ~is_void
        if not np.all(is_class | is_void):
            wrong = int(true_classes[~(is_class | is_void)][0])
            raise ValueError(
                f"the ground truth of {file_name} must have classes below {size - 1} and "
                f"ignore_label {self._ignore_label}, got {wrong}"
            )
        predicted = pairs.prediction
        columns = np.where(is_class, true_classes, size - 1)
        rows = np.where((predicted >= 0) & (predicted < size), predicted, size - 1)
        np.add.at(self._confusion, (rows, columns), pairs.pixels)

    def evaluate(self) -> Optional[Dict[str, Dict[str, float]]]:
        """
        Returns:
            ``{"sem_seg": scores}`` with mIoU, fwIoU, IoU-<class>, mACC, pACC and ACC-<class> in
            percent, NaN for classes without ground truth; a class that is predicted somewhere but
            nowhere true counts as 0 in the mean, as in Detectron2. None in all but the main
            process.

        Raises:
            ValueError: if an image of the dataset has no prediction.
        """
        self._images.check_complete()
        gathered: List[np.ndarray] = comm.gather(self._confusion)
        if not comm.is_main_process():
            return None
        result = summarize_confusion(np.sum(gathered, axis=0), self._class_names)
        logger.info("Semantic segmentation: mIoU %.3f, pACC %.3f", result["mIoU"], result["pACC"])
        logger.info("IoU and accuracy by class:\n%s", tabulate_classes(result, self._class_names))
        if np.isnan(result["pACC"]):
            logger.warning("pACC is NaN: no pixel of the ground truth has a class")
        return OrderedDict(sem_seg=result)


def _largest_class(scores: Tensor) -> Tensor:
    """``scores.argmax(dim=0)``, several times as fast on a CPU."""
    if scores.dtype == torch.float64 or not scores.is_floating_point() or scores.numel() == 0:
        return scores.argmax(dim=0)
    height, width = scores.shape[1:]
    return resample_argmax(scores[None], (height, width), (1.0, 1.0))[0]


def tabulate_classes(result: Mapping[str, float], class_names: Sequence[str]) -> str:
    """A line for each class: its IoU, and the part of its pixels that was found, in percent."""
    rows = [[name, result[f"IoU-{name}"], result[f"ACC-{name}"]] for name in class_names]
    headers = ["class", "IoU", "accuracy"]
    return tabulate(rows, headers=headers, tablefmt="pipe", floatfmt=".2f")


def summarize_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> Dict[str, float]:
    """
    Metrics of a confusion matrix, in percent; see :meth:`SemanticEvaluator.evaluate`.

    Args:
        confusion: (C + 1, C + 1) counts of pixels, predicted class by true class, void last.
        class_names: C names.
    """
    # Pixels without a true class are not evaluated; those predicted as void are errors.
    evaluated = confusion[:, :-1].astype(np.float64)
    hits = np.diagonal(evaluated)
    num_true = evaluated.sum(0)
    num_predicted = evaluated[:-1].sum(1)
    has_truth = num_true > 0
    union = num_true + num_predicted - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = np.where(has_truth, hits / union, np.nan)
        accuracy = np.where(has_truth, hits / num_true, np.nan)
        frequency = num_true / num_true.sum()
        result = {
            "mIoU": 100 * np.nansum(iou) / np.count_nonzero(union),
            "fwIoU": 100 * np.nansum(iou * frequency) if has_truth.any() else np.nan,
            "mACC": 100 * np.nansum(accuracy) / np.count_nonzero(has_truth),
            "pACC": 100 * hits.sum() / num_true.sum(),
        }
    result.update({f"IoU-{name}": 100 * value for name, value in zip(class_names, iou)})
    result.update({f"ACC-{name}": 100 * value for name, value in zip(class_names, accuracy)})
    return {name: float(value) for name, value in result.items()}
