"""Top-1 and top-5 accuracy of classifiers of images."""

import logging
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

from .label_readers import reads_labels
from .seen_images import SeenImages

logger = logging.getLogger(__name__)

_RANKS = (1, 5)


class ImageClassificationEvaluator(DatasetEvaluator):
    """Accuracy on a dataset whose dicts have ``image_id`` and ``class_id``; of any processes."""

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: registered; see :func:`deeplab2_d2.data.register_image_folder`.
        """
        records = DatasetCatalog.get(dataset_name)
        self._images = SeenImages([record["image_id"] for record in records], dataset_name)
        self._class_ids = {record["image_id"]: record["class_id"] for record in records}
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._images.reset()
        self._num_classes = 0
        # By rank of the true class, from 0.
        self._hits = np.zeros(len(_RANKS), np.int64)

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with the ``image_id`` of an image of the dataset.
            outputs: dicts with ``class_scores``, (C,) of any increasing function of probability.

        Raises:
            ValueError: if scores are not finite or too few for the image's class, or an image comes
                twice or is none of the dataset's.
        """
        for sample, output in zip(inputs, outputs):
            image_id = sample["image_id"]
            self._images.add(image_id)
            rank = _rank(output["class_scores"], self._class_ids[image_id], image_id)
            self._hits += np.array([rank < most for most in _RANKS])
            self._num_classes = len(output["class_scores"])

    def evaluate(self) -> Optional[Dict[str, Dict[str, float]]]:
        """
        Returns:
            ``{"classification": {"top-1": ..., "top-5": ...}}`` in percent; "top-5" only of more
            than five classes. None in all but the main process.

        Raises:
            ValueError: if an image of the dataset has no prediction.
        """
        self._images.check_complete()
        parts = comm.gather((self._hits, self._num_classes))
        if not comm.is_main_process():
            return None
        hits, num_classes = sum(part[0] for part in parts), max(part[1] for part in parts)
        scores = {
            f"top-{most}": float(100.0 * count / len(self._class_ids))
            for most, count in zip(_RANKS, hits)
            if most == 1 or most < num_classes
        }
        text = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        logger.info("Classification of %d images: %s", len(self._class_ids), text)
        return {"classification": scores}


def _rank(scores: Tensor, class_id: int, image_id: Any) -> int:
    """How many classes come before an image's own, ties in the order of their ids."""
    values: List[float] = scores.float().flatten().tolist()
    if class_id >= len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"class_scores of image {image_id} must be finite, a score for each class, got "
            f"{len(values)} for class {class_id} with {values[:3]} ..."
        )
    own = values[class_id]
    return sum(value > own for value in values) + values[:class_id].count(own)
