"""COCO's mask AP on any panoptic dataset."""

import logging
import os
import tempfile
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ..structures import (
    DatasetClasses,
    check_instance_masks,
    check_instances_json,
    read_json_object,
    read_panoptic_png,
    write_json,
)
from .label_readers import reads_labels
from .seen_images import SeenImages

logger = logging.getLogger(__name__)


class PanopticInstanceEvaluator(COCOEvaluator):
    """
    ``COCOEvaluator`` for datasets of Detectron2's panoptic kind.

    Detectron2's assumes that things are the first contiguous ids and that ``thing_classes`` lists
    them only, and its fast implementation needs the compiled extension. Here ids may be any, and
    the official pycocotools computes the scores. The ground truth is the metadata's ``json_file``
    (instance annotations) where it exists, otherwise the thing segments of the panoptic PNGs.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: Optional[str] = None,
        *,
        tasks: Sequence[str] = ("segm",),
        max_dets_per_image: Optional[int] = None,
    ):
        """
        Args:
            dataset_name: registered panoptic dataset.
            output_dir: where predictions are kept; None = not kept.
            tasks: of "segm" and "bbox".
            max_dets_per_image: number of instances of an image that count, those of the highest
                scores; None = 100.

        Raises:
            ValueError: if a mask of the ground truth cannot be read.
        """
        metadata = MetadataCatalog.get(dataset_name)
        categories = _thing_categories(dataset_name)
        # The base class wants things numbered from 0, in the order of their ids in the dataset.
        self._thing_index = {contiguous: i for i, contiguous in enumerate(categories)}
        with tempfile.TemporaryDirectory(prefix="instances_") as folder:
            json_file = metadata.get("json_file")
            has_json = bool(json_file) and PathManager.isfile(json_file)
            if not has_json:
                json_file = os.path.join(folder, "instances.json")
                _write_instances(dataset_name, json_file)
            # Before pycocotools, which believes what it reads.
            content = read_json_object(json_file)
            check_instances_json(content, json_file)
            check_instance_masks(content, json_file)
            name = f"{dataset_name}_as_instances"
            MetadataCatalog.pop(name, None)
            MetadataCatalog.get(name).set(
                json_file=json_file,
                thing_classes=[entry["name"] for entry in categories.values()],
                thing_dataset_id_to_contiguous_id={
                    entry["id"]: i for i, entry in enumerate(categories.values())
                },
            )
            super().__init__(
                name,
                tasks=tuple(tasks),
                output_dir=output_dir,
                max_dets_per_image=max_dets_per_image,
                use_fast_impl=False,
            )
        for annotation in self._coco_api.dataset["annotations"]:
            # What its scoring asks for, and many files leave out.
            annotation.setdefault("iscrowd", 0)
            if "area" not in annotation and annotation["image_id"] in self._coco_api.imgs:
                rle = self._coco_api.annToRLE(annotation)
                annotation["area"] = float(mask_util.area(rle))
        # Of the JSON that is made here, only the main process has the content.
        image_ids = self._coco_api.getImgIds()
        if not has_json:
            image_ids = [record["image_id"] for record in DatasetCatalog.get(dataset_name)]
        self._images = SeenImages(image_ids, dataset_name)

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self._images.reset()

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``: ``pred_masks``, ``pred_boxes``, ``scores`` and
                contiguous ``pred_classes``.

        Raises:
            ValueError: if a predicted class is not a thing, or an image has come before.
        """
        for sample in inputs:
            self._images.add(sample["image_id"])
        renumbered = [{"instances": self._renumber(output["instances"])} for output in outputs]
        super().process(inputs, renumbered)

    def evaluate(self, img_ids: Any = None) -> Any:
        """
        Returns:
            ``{"segm": {"AP": ..., "AP50": ..., ...}}`` in percent; NaN where there is nothing to
            measure, nothing at all for a dataset without things. None in all but the main process.

        Raises:
            ValueError: if an image has no prediction.
        """
        if img_ids is None:
            self._images.check_complete()
        if self._thing_index:
            return super().evaluate(img_ids)
        if not comm.is_main_process():
            return None
        logger.warning("AP is not measured: the dataset has no class that is a thing")
        return {}

    def _renumber(self, instances: Instances) -> Instances:
        classes = instances.pred_classes.tolist()
        wrong = sorted(set(classes) - set(self._thing_index))
        if wrong:
            raise ValueError(
                f"pred_classes must be contiguous ids of things, got {wrong}; things are "
                f"{sorted(self._thing_index)}"
            )
        # A shallow copy: the outputs belong to the caller.
        copy = Instances(instances.image_size, **instances.get_fields())
        copy.pred_classes = torch.tensor(
            [self._thing_index[index] for index in classes], dtype=torch.int64
        )
        return copy


def _thing_categories(dataset_name: str) -> Dict[int, Dict[str, Any]]:
    """Entries of the things, by contiguous id, in the order of their ids in the dataset."""
    classes = DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name))
    things = [(k, entry) for k, entry in classes.categories.items() if entry["isthing"]]
    return dict(sorted(things, key=lambda thing: thing[1]["id"]))


def _write_instances(dataset_name: str, file_name: str) -> None:
    """COCO instance annotations of a panoptic dataset; without content where nothing is scored."""
    categories = _thing_categories(dataset_name)
    content: Dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": entry["id"], "name": entry["name"]} for entry in categories.values()],
    }
    if comm.is_main_process():
        to_dataset_id = {contiguous: entry["id"] for contiguous, entry in categories.items()}
        for record in DatasetCatalog.get(dataset_name):
            _add_image(content, record, to_dataset_id)
    write_json(file_name, content)


def _add_image(
    content: Dict[str, Any], record: Mapping[str, Any], to_dataset_id: Mapping[int, int]
) -> None:
    segment_ids = read_panoptic_png(record["pan_seg_file_name"])
    height, width = segment_ids.shape
    content["images"].append({"id": record["image_id"], "height": height, "width": width})
    for segment in record["segments_info"]:
        if segment["category_id"] not in to_dataset_id:
            continue
        mask = np.asfortranarray(segment_ids == segment["id"], dtype=np.uint8)
        encoded = mask_util.encode(mask)
        content["annotations"].append(
            {
                "id": len(content["annotations"]) + 1,
                "image_id": record["image_id"],
                "category_id": to_dataset_id[segment["category_id"]],
                "iscrowd": int(segment.get("iscrowd", 0)),
                "area": int(mask_util.area(encoded)),
                "bbox": mask_util.toBbox(encoded).tolist(),
                "segmentation": {
                    "size": [height, width],
                    "counts": encoded["counts"].decode("ascii"),
                },
            }
        )
