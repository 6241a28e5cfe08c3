"""From a dataset dict of Detectron2 to what the model takes."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog, detection_utils
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager

from .augmentation import (
    PanopticAugInput,
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
    ResizeToRange,
)
from .segment_map import SegmentTable, build_segment_map, read_panoptic_png
from .targets import PanopticTargetGenerator, PanopticTargets


class PanopticDeepLabDatasetMapper:
    """
    Read an image and its panoptic annotation, augment both, and make the targets.

    Works on the dicts of any dataset that is registered with panoptic annotations (``file_name``,
    ``pan_seg_file_name``, ``segments_info``; metadata ``thing_dataset_id_to_contiguous_id``,
    ``stuff_classes``, ``ignore_label``, ``label_divisor``).

    A training sample has, all in the frame of the crop (H, W):

    * ``image``: (3, H, W) float32, 0 to 255, channels as ``image_format`` says;
    * ``sem_seg``: (H, W) int64; ``sem_seg_weights``: (H, W) float32;
    * ``center_heatmap``: (1, H, W), ``center_weights``: (H, W), ``center_offsets``: (2, H, W)
      ``(dy, dx)`` in pixels of the crop, ``offset_weights``: (H, W), all float32; absent in
      semantic-only mode; see :class:`PanopticTargets`;
    * ``file_name``, ``image_id``, and ``height``, ``width`` of the image on disk.

    A test sample has the dict's own entries, ``height`` and ``width`` of the image on disk, and
    ``image``: (3, h, w) float32, resized but not padded.

    Args:
        is_train: training or test samples.
        augmentations: applied in this order; they may ask for ``image`` and ``rng``.
        image_format: one that ``detection_utils.read_image`` knows, such as "RGB".
        target_generator: from segment map and table to targets; None for test samples.
        num_classes, thing_ids, label_divisor: of the dataset; see :func:`build_segment_map`.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        target_generator: Optional[PanopticTargetGenerator] = None,
        num_classes: int = 0,
        thing_ids: Sequence[int] = (),
        label_divisor: int = 1000,
    ):
        if is_train and target_generator is None:
            raise ValueError("target_generator must be given where is_train is True, got None")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.target_generator = target_generator
        self.num_classes = num_classes
        self.thing_ids = frozenset(thing_ids)
        self.label_divisor = label_divisor

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> Dict[str, Any]:
        """Reads INPUT.* and the metadata of the first of DATASETS.TRAIN."""
        if not is_train:
            augmentations: List[T.Augmentation] = [
                ResizeToRange(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
            ]
            return {
                "is_train": False,
                "augmentations": augmentations,
                "image_format": cfg.INPUT.FORMAT,
            }
        node = cfg.INPUT.DEEPLAB2
        metadata = training_metadata(cfg.DATASETS.TRAIN)
        return {
            "is_train": True,
            "augmentations": build_train_augmentations(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "target_generator": PanopticTargetGenerator(
                ignore_label=metadata["ignore_label"],
                sigma=node.SIGMA,
                small_instance_area=node.SMALL_INSTANCE_AREA,
                small_instance_weight=node.SMALL_INSTANCE_WEIGHT,
                ignore_crowd_in_semantic=node.IGNORE_CROWD_IN_SEMANTIC,
                has_instances=cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED,
            ),
            "num_classes": metadata["num_classes"],
            "thing_ids": metadata["thing_ids"],
            "label_divisor": metadata["label_divisor"],
        }

    def __call__(
        self, dataset_dict: Dict[str, Any], rng: Optional[np.random.Generator] = None
    ) -> Dict[str, Any]:
        """
        Args:
            dataset_dict: one image, in Detectron2's format; not changed.
            rng: where the augmentations draw from. None: a new generator from numpy's global
                state, which Detectron2's own loaders seed in each worker.

        Returns:
            a sample; see the class.

        Raises:
            FileNotFoundError: if image or panoptic PNG do not exist.
            ValueError: if one of them cannot be read, if their sizes differ, or if the PNG does
                not fit ``segments_info``.
        """
        if rng is None:
            rng = np.random.default_rng(np.random.randint(2**31, size=4))
        image = read_image(dataset_dict["file_name"], self.image_format)
        sample = {"height": image.shape[0], "width": image.shape[1]}
        if not self.is_train:
            aug_input = PanopticAugInput(image, rng=rng)
            self.augmentations(aug_input)
            return {**dataset_dict, **sample, "image": _to_tensor(aug_input.image)}

        assert self.target_generator is not None
        segment_map, segments = self._read_segments(dataset_dict, image)
        aug_input = PanopticAugInput(image, segment_map, rng)
        self.augmentations(aug_input)
        targets = self.target_generator(aug_input.sem_seg, segments)
        sample.update({k: dataset_dict[k] for k in ("file_name", "image_id") if k in dataset_dict})
        sample["image"] = _to_tensor(aug_input.image)
        sample.update(_target_tensors(targets))
        return sample

    def _read_segments(
        self, dataset_dict: Dict[str, Any], image: np.ndarray
    ) -> Tuple[np.ndarray, SegmentTable]:
        for key in ("pan_seg_file_name", "segments_info"):
            if key not in dataset_dict:
                raise ValueError(
                    f"dataset dict of {dataset_dict['file_name']} must have {key!r}; is the "
                    f"dataset registered with panoptic annotations?"
                )
        png = dataset_dict["pan_seg_file_name"]
        ids = read_panoptic_png(png)
        if ids.shape != image.shape[:2]:
            raise ValueError(
                f"panoptic PNG {png} has size {ids.shape[0]} x {ids.shape[1]}, but its image "
                f"{dataset_dict['file_name']} has {image.shape[0]} x {image.shape[1]}"
            )
        return build_segment_map(
            ids,
            dataset_dict["segments_info"],
            num_classes=self.num_classes,
            thing_ids=self.thing_ids,
            label_divisor=self.label_divisor,
            source=png,
        )


def build_train_augmentations(cfg: CfgNode) -> List[T.Augmentation]:
    """The augmentations of training, in DeepLab2's order, from INPUT.* of a config."""
    node = cfg.INPUT.DEEPLAB2
    augmentations: List[T.Augmentation] = []
    if node.MIN_SIZE_TRAIN > 0 or node.MAX_SIZE_TRAIN > 0:
        augmentations.append(ResizeToRange(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN))
    augmentations.append(RandomScale(node.MIN_SCALE, node.MAX_SCALE, node.SCALE_STEP))
    augmentations.append(RandomCropOrPad(tuple(cfg.INPUT.CROP.SIZE)))
    if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "none"):
        raise ValueError(
            f"INPUT.RANDOM_FLIP must be 'horizontal' or 'none', got {cfg.INPUT.RANDOM_FLIP!r}"
        )
    if cfg.INPUT.RANDOM_FLIP == "horizontal":
        augmentations.append(RandomHorizontalFlip())
    return augmentations


def training_metadata(names: Sequence[str]) -> Dict[str, Any]:
    """
    What the targets need of the metadata of the training datasets.

    Args:
        names: of registered datasets, at least one; all with the same classes.

    Returns:
        ``num_classes``, ``thing_ids`` (sorted contiguous ids), ``ignore_label``,
        ``label_divisor``.

    Raises:
        ValueError: if a dataset has no panoptic metadata, or differs from the first.
    """
    if not names:
        raise ValueError("DATASETS.TRAIN must name at least one dataset, got none")
    results = [_panoptic_metadata(name) for name in names]
    for name, result in zip(names[1:], results[1:]):
        if result != results[0]:
            raise ValueError(
                f"DATASETS.TRAIN must have the same classes throughout, but {name} has {result} "
                f"and {names[0]} has {results[0]}"
            )
    return results[0]


def _panoptic_metadata(name: str) -> Dict[str, Any]:
    metadata = MetadataCatalog.get(name)
    keys = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
    missing = [k for k in (*keys, "stuff_classes", "label_divisor") if not hasattr(metadata, k)]
    if missing:
        raise ValueError(
            f"dataset {name} must be registered with panoptic metadata; it lacks "
            f"{', '.join(missing)}"
        )
    things = metadata.thing_dataset_id_to_contiguous_id.values()
    stuff = metadata.stuff_dataset_id_to_contiguous_id.values()
    return {
        "num_classes": len(set(things) | set(stuff)),
        "thing_ids": sorted(things),
        "ignore_label": metadata.get("ignore_label", 255),
        "label_divisor": metadata.label_divisor,
    }


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """
    Read an image.

    Args:
        file_name: by any path that Detectron2's ``PathManager`` opens.
        image_format: "RGB", "BGR", ... of ``detection_utils.read_image``.

    Returns:
        (H, W, 3) float32, 0 to 255.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image that can be read.
    """
    if not PathManager.isfile(file_name):
        raise FileNotFoundError(f"image {file_name} does not exist")
    try:
        image = detection_utils.read_image(file_name, format=image_format)
    except OSError as error:
        raise ValueError(f"image {file_name} cannot be read: {error}") from error
    return image.astype(np.float32)


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _target_tensors(targets: PanopticTargets) -> Dict[str, torch.Tensor]:
    arrays = {
        "sem_seg": targets.sem_seg,
        "sem_seg_weights": targets.sem_seg_weights,
        "center_heatmap": None if targets.center_heatmap is None else targets.center_heatmap[None],
        "center_weights": targets.center_weights,
        "center_offsets": targets.center_offsets,
        "offset_weights": targets.offset_weights,
    }
    return {k: torch.from_numpy(v) for k, v in arrays.items() if v is not None}
