"""Predictions in the formats of the servers that score test sets: COCO and Cityscapes."""

import itertools
import json
import logging
import os
from typing import Any, Dict, Mapping, Sequence

from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from detectron2.utils import comm

from .panoptic import PanopticQualityEvaluator

logger = logging.getLogger(__name__)


class PanopticSubmission(PanopticQualityEvaluator):
    """
    Writes COCO's panoptic results: a folder of PNGs and a JSON file of the same name beside it.

    Both servers take it; zip the two. Needs no ground truth. Several processes may write to one
    file system; the JSON is written by the main process.
    """

    def __init__(self, dataset_name: str, output_dir: str, *, name: str):
        """
        Args:
            dataset_name: its metadata map contiguous ids to those of the server.
            output_dir: where folder and file go.
            name: of both. COCO asks for ``panoptic_<split>_<method>_results``, for example
                ``panoptic_test-dev2017_deeplab2_results``.

        Raises:
            ImportError: if panopticapi is not installed.
        """
        super().__init__(dataset_name)
        self._folder = os.path.join(output_dir, name)

    def reset(self) -> None:
        super().reset()
        os.makedirs(self._folder, exist_ok=True)

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """As :meth:`PanopticQualityEvaluator.process`; the PNGs are written at once."""
        num_before = len(self._predictions)
        super().process(inputs, outputs)
        for prediction in self._predictions[num_before:]:
            with open(os.path.join(self._folder, prediction["file_name"]), "wb") as f:
                f.write(prediction.pop("png_string"))

    def evaluate(self) -> Dict[str, Any]:
        """Write the JSON file. There are no scores: the result is empty."""
        gathered = comm.gather(self._predictions)
        if comm.is_main_process():
            annotations = [
                {**prediction, "segments_info": [_strip(s) for s in prediction["segments_info"]]}
                for prediction in itertools.chain(*gathered)
            ]
            with open(self._folder + ".json", "w") as f:
                json.dump({"annotations": annotations}, f)
            logger.info("Wrote %d panoptic predictions to %s", len(annotations), self._folder)
        return {}


def _strip(segment: Mapping[str, Any]) -> Dict[str, int]:
    return {"id": int(segment["id"]), "category_id": int(segment["category_id"])}


class _IntoFolder:
    """Makes an evaluator of Cityscapes write to a folder that stays."""

    def __init__(self, dataset_name: str, output_dir: str):
        """
        Args:
            dataset_name: its metadata name the classes.
            output_dir: where the files go, named after the images as the server wants it.
        """
        super().__init__(dataset_name)  # type: ignore[call-arg]
        self._temp_dir = output_dir

    def reset(self) -> None:
        os.makedirs(self._temp_dir, exist_ok=True)

    def evaluate(self) -> Dict[str, Any]:
        """Wait for all processes. There are no scores: the result is empty."""
        comm.synchronize()
        logger.info("Wrote predictions to %s", self._temp_dir)
        return {}


class CityscapesSemanticSubmission(_IntoFolder, CityscapesSemSegEvaluator):
    """Writes a PNG of Cityscapes' label ids (not train ids) for each image: zip the folder."""


class CityscapesInstanceSubmission(_IntoFolder, CityscapesInstanceEvaluator):
    """Writes a text file and the masks of its instances for each image: zip the folder."""
