"""Predictions in the formats of the servers that score test sets: COCO and Cityscapes."""

import contextlib
import itertools
import json
import logging
import os
from typing import Any, Dict, Mapping, Sequence

from detectron2.data import DatasetCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator
from detectron2.utils import comm

from ..structures import check_distinct_stems, claim_output, write_json
from .cityscapes import CityscapesLabelWriter
from .label_readers import reads_labels
from .panoptic import PanopticQualityEvaluator
from .staging import Staging

logger = logging.getLogger(__name__)


def _check_stems(dataset_name: str) -> None:
    if dataset_name in DatasetCatalog.list():
        check_distinct_stems(d["file_name"] for d in DatasetCatalog.get(dataset_name))


class PanopticSubmission(PanopticQualityEvaluator):
    """
    Writes COCO's panoptic results: a folder of PNGs and a JSON file of the same name beside it.

    Both servers take it; zip the two. Needs no ground truth. Several processes may write to one
    file system; the JSON is written by the main process. Both appear when all images are done, in
    place of those of a run before.
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
        self._dataset_name = dataset_name
        self._staging = Staging(os.path.join(output_dir, name))

    def reset(self) -> None:
        """
        Raises:
            ValueError: if two images of the dataset would have one PNG, or if what stands at the
                place of the JSON file is no submission.
        """
        super().reset()
        self._owners: Dict[str, str] = {}
        self._check_earlier()
        _check_stems(self._dataset_name)
        self._staging.clear()

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """As :meth:`PanopticQualityEvaluator.process`; the PNGs are written at once."""
        num_before = len(self._predictions)
        super().process(inputs, outputs)
        for sample, prediction in zip(inputs, self._predictions[num_before:]):
            png = prediction["file_name"]
            claim_output(self._owners, png, sample["file_name"], "the prediction")
            with open(os.path.join(self._staging.path, png), "wb") as f:
                f.write(prediction.pop("png_string"))

    def evaluate(self) -> Dict[str, Any]:
        """
        Put the PNGs into their folder and write the JSON file.

        Returns:
            nothing: there are no scores.

        Raises:
            ValueError: if two images, of two processes, have one PNG.
        """
        predictions = list(itertools.chain(*comm.all_gather(self._predictions)))
        owners: Dict[str, str] = {}
        for prediction in predictions:
            owner = f"image {prediction['image_id']!r}"
            claim_output(owners, prediction["file_name"], owner, "the prediction")
        if comm.is_main_process():
            # First of all: a JSON must not name what is of another run, or not there.
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{self._staging.folder}.json")
        comm.synchronize()
        self._staging.publish()
        comm.synchronize()
        if comm.is_main_process():
            annotations = [
                {**prediction, "segments_info": [_strip(s) for s in prediction["segments_info"]]}
                for prediction in predictions
            ]
            write_json(f"{self._staging.folder}.json", {"annotations": annotations})
            logger.info(
                "Wrote %d panoptic predictions to %s", len(annotations), self._staging.folder
            )
        return {}

    def _check_earlier(self) -> None:
        """That what stands at the place of the JSON file is a submission, which is replaced."""
        path = f"{self._staging.folder}.json"
        if not os.path.exists(path):
            return
        try:
            with open(path, encoding="utf-8") as f:
                content = json.load(f)
            is_submission = all("file_name" in item for item in content["annotations"])
            reason = "" if is_submission else "an annotation without file_name"
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            reason = str(error) or repr(error)
        if reason:
            raise ValueError(
                f"{path} must be a submission of a run before, which is replaced, got another or a "
                f"damaged file ({reason}); move it away"
            )


def _strip(segment: Mapping[str, Any]) -> Dict[str, int]:
    return {"id": int(segment["id"]), "category_id": int(segment["category_id"])}


class _IntoFolder:
    """Makes an evaluator of Cityscapes write to a folder that stays, when all images are done."""

    def __init__(self, dataset_name: str, output_dir: str):
        """
        Args:
            dataset_name: its metadata name the classes.
            output_dir: where the files go, named after the images as the server wants it.
        """
        super().__init__(dataset_name)  # type: ignore[call-arg]
        self._dataset_name = dataset_name
        self._staging = Staging(output_dir)
        self._temp_dir = self._staging.path

    def reset(self) -> None:
        """
        Raises:
            ValueError: if two images of the dataset would have files of one name.
        """
        _check_stems(self._dataset_name)
        self._staging.clear()

    def evaluate(self) -> Dict[str, Any]:
        """Put the files of all processes into the folder. There are no scores: {} is returned."""
        comm.synchronize()
        self._staging.publish()
        comm.synchronize()
        logger.info("Wrote predictions to %s", self._staging.folder)
        return {}


class CityscapesSemanticSubmission(_IntoFolder, CityscapesLabelWriter):
    """Writes a PNG of Cityscapes' label ids (not train ids) for each image: zip the folder."""


class CityscapesInstanceSubmission(_IntoFolder, CityscapesInstanceEvaluator):
    """Writes a text file and the masks of its instances for each image: zip the folder."""
