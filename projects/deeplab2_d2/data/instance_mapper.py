"""Detectron2's mapper for Mask R-CNN with the panoptic annotation beside the instances."""

import contextlib
import copy
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances

from ..structures import mask_fault
from .metadata import training_metadata
from .reading import read_image_bytes
from .seeding import global_states
from .segment_map import read_segments

_HANDED_THROUGH = ("file_name", "image_id")
# Of a dataset dict, what a test sample has not.
_LEFT_OUT = ("annotations", "sem_seg_file_name")
# Label maps are resized as bytes, as Detectron2 does it.
_MOST_CLASSES = 255


class InstancePanopticMapper(DatasetMapper):
    """
    Read an image, its panoptic map and its instances, and transform all three alike.

    Works on the dicts of datasets that are registered with both (``<name>_instances``; see
    :func:`register_panoptic_dataset`). Augmentations are those of Detectron2's R-CNN configs:
    INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN, MIN_SIZE_TRAIN_SAMPLING, RANDOM_FLIP and CROP.

    A training sample has, in the frame (H, W) after the transform:

    * ``image``: (3, H, W) uint8, channels as ``image_format`` says;
    * ``sem_seg``: (H, W) int64, contiguous classes of the panoptic map, the ignore label where it
      is unlabeled or has a crowd;
    * ``instances``: ``gt_boxes``, ``gt_masks`` (BitMasks, which may overlap, also of no instance)
      and ``gt_classes``, places of the classes among the things, from 0; crowds and what the
      transform left nothing of are not there;
    * ``file_name``, ``image_id``, and ``height``, ``width`` of the image on disk.

    A test sample is Detectron2's: the dict without its annotations, and ``image``.

    Args:
        is_train: training or test samples.
        augmentations: applied in this order; they may draw from global states, which are seeded.
        image_format: "BGR" or "RGB".
        num_classes, thing_ids, label_divisor, ignore_label: of the dataset; needed in training.
        recompute_boxes: boxes around the transformed masks, for augmentations that crop; else the
            annotation's boxes are transformed.
        skips_empty: leave out images without an instance that is no crowd.
    """

    needs_partner = False

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        num_classes: int = 0,
        thing_ids: Sequence[int] = (),
        label_divisor: int = 1000,
        ignore_label: int = 255,
        recompute_boxes: bool = False,
        skips_empty: bool = False,
    ):
        if is_train and not 0 < len(thing_ids) <= num_classes <= _MOST_CLASSES:
            raise ValueError(
                f"thing_ids and num_classes must be 1 <= things <= classes <= {_MOST_CLASSES}, "
                f"got {len(thing_ids)} things of {num_classes} classes"
            )
        super().__init__(
            is_train,
            augmentations=list(augmentations),
            image_format=image_format,
            use_instance_mask=True,
            instance_mask_format="bitmask",
            recompute_boxes=recompute_boxes,
        )
        self.num_classes = num_classes
        self.thing_ids = frozenset(thing_ids)
        self.label_divisor = label_divisor
        self.ignore_label = ignore_label
        self.skips_empty = skips_empty

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> Dict[str, Any]:
        """
        Reads INPUT.*, as Detectron2 does, DATALOADER.FILTER_EMPTY_ANNOTATIONS and the metadata of
        DATASETS.TRAIN.
        """
        detectron2 = DatasetMapper.from_config(cfg, is_train)
        arguments = {key: detectron2[key] for key in ("is_train", "augmentations", "image_format")}
        if not is_train:
            return arguments
        classes = training_metadata(cfg.DATASETS.TRAIN)
        return {
            **arguments,
            "num_classes": classes.num_classes,
            "thing_ids": classes.thing_ids,
            "label_divisor": classes.label_divisor,
            "ignore_label": classes.ignore_label,
            "recompute_boxes": cfg.INPUT.CROP.ENABLED,
            "skips_empty": cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        }

    def __call__(
        self,
        dataset_dict: Dict[str, Any],
        rng: Optional[np.random.Generator] = None,
        partner: Optional[Dict[str, Any]] = None,
    ) -> Optional[Dict[str, Any]]:
        """
        Args:
            dataset_dict: one image, in Detectron2's format; not changed.
            rng: where the augmentations draw from. None: numpy's global state, which Detectron2's
                own loaders seed in each worker.
            partner: not used.

        Returns:
            a sample, see the class; None of an image that training leaves out.

        Raises:
            FileNotFoundError: if image or panoptic PNG do not exist.
            ValueError: if one of them cannot be read, if the size of the panoptic map or of a mask
                is not the image's, if a class of an instance is no thing, if the PNG does not fit
                ``segments_info``, or if the dict has no instances.
        """
        with contextlib.nullcontext() if rng is None else global_states(rng):
            if not self.is_train:
                return self._test_sample(dataset_dict)
            return self._train_sample(dataset_dict)

    def _test_sample(self, dataset_dict: Dict[str, Any]) -> Dict[str, Any]:
        # As Detectron2's, but for the reading.
        sample = {k: v for k, v in dataset_dict.items() if k not in _LEFT_OUT}
        image = read_image_bytes(sample["file_name"], self.image_format)
        detection_utils.check_image_size(sample, image)
        aug_input = T.AugInput(image)
        self.augmentations(aug_input)
        sample["image"] = torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        return sample

    def _train_sample(self, dataset_dict: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        file_name = dataset_dict["file_name"]
        if "annotations" not in dataset_dict:
            raise ValueError(
                f"dataset dict of {file_name} must have 'annotations', the instances; a dataset "
                f"<name> that is registered with an instances JSON has them as <name>_instances"
            )
        if self.skips_empty and all(a.get("iscrowd", 0) for a in dataset_dict["annotations"]):
            return None
        image = read_image_bytes(file_name, self.image_format)
        detection_utils.check_image_size({**dataset_dict}, image)
        size = image.shape[:2]
        self._check_annotations(dataset_dict["annotations"], size, file_name)
        aug_input = T.AugInput(image, sem_seg=self._read_classes(dataset_dict, size))
        transforms = self.augmentations(aug_input)
        # Detectron2's own method replaces the annotations and transforms them in place.
        sample = {"annotations": copy.deepcopy(dataset_dict["annotations"])}
        self._transform_annotations(sample, transforms, aug_input.image.shape[:2])
        sample.update({k: dataset_dict[k] for k in _HANDED_THROUGH if k in dataset_dict})
        sample["height"], sample["width"] = size
        sample["image"] = torch.from_numpy(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        sample["sem_seg"] = torch.from_numpy(aug_input.sem_seg.astype(np.int64))
        return sample

    def _check_annotations(
        self, annotations: Sequence[Dict[str, Any]], size: Tuple[int, int], file_name: str
    ) -> None:
        for k, annotation in enumerate(annotations):
            wrong = mask_fault(annotation.get("segmentation"), size)
            if annotation.get("segmentation") is None:
                wrong = "it must have a mask, 'segmentation', got none"
            if not 0 <= annotation["category_id"] < len(self.thing_ids):
                wrong = (
                    f"category_id must be the place of a class among the {len(self.thing_ids)} "
                    f"things, got {annotation['category_id']}"
                )
            if wrong:
                raise ValueError(f"{file_name}: annotation {annotation.get('id', k)}: {wrong}")

    def _read_classes(self, dataset_dict: Dict[str, Any], size: Tuple[int, int]) -> np.ndarray:
        """(H, W) uint8, contiguous classes of the panoptic map."""
        segment_map, segments = read_segments(
            dataset_dict,
            size,
            num_classes=self.num_classes,
            thing_ids=self.thing_ids,
            label_divisor=self.label_divisor,
        )
        classes = np.where(segments.is_crowd, self.ignore_label, segments.category_ids)
        return segments.look_up(classes.astype(np.uint8), self.ignore_label)[segment_map]

    def _transform_annotations(
        self, dataset_dict: Dict[str, Any], transforms: T.TransformList, image_shape: Any
    ) -> None:
        """Detectron2's, but an image without instances has masks as well."""
        if not all(a.get("iscrowd", 0) for a in dataset_dict["annotations"]):
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            return
        del dataset_dict["annotations"]
        instances: Instances = detection_utils.annotations_to_instances([], image_shape)
        instances.gt_masks = BitMasks(torch.zeros(0, *image_shape, dtype=torch.bool))
        dataset_dict["instances"] = instances
