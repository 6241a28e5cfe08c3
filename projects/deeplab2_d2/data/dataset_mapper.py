"""From a dataset dict of Detectron2 to what the model takes."""

from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from ..structures import read_panoptic_png
from .augmentation import (
    PanopticAugInput,
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
    ResizeToRange,
)
from .autoaugment import AutoAugment
from .copy_paste import PADDING, LabeledImage, PanopticCopyPaste
from .layers import Layer
from .metadata import training_metadata
from .reading import read_image
from .resizing import Size
from .segment_map import SegmentTable, build_segment_map

# What says which image a training sample is of.
_HANDED_THROUGH = ("file_name", "image_id", "sequence", "frame")


class Targets(Protocol):
    """What a sample teaches."""

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The entries of a sample, in the frame of the crop."""
        ...


class TargetGenerator(Protocol):
    """From a segment map (see :func:`build_segment_map`) and its table to targets."""

    def __call__(
        self, segment_map: np.ndarray, segments: SegmentTable, *, source: str
    ) -> Targets: ...


class PanopticDatasetMapper:
    """
    Read an image and its panoptic annotation, augment both, and make the targets.

    Works on the dicts of any dataset that is registered with panoptic annotations (``file_name``,
    ``pan_seg_file_name``, ``segments_info``; metadata ``thing_dataset_id_to_contiguous_id``,
    ``stuff_classes``, ``ignore_label``, ``label_divisor``).

    A training sample has, all in the frame of the crop (H, W):

    * ``image``: (3, H, W) float32, 0 to 255, channels as ``image_format`` says;
    * what the target generator makes, and the layers;
    * ``file_name``, ``image_id``, ``sequence`` and ``frame``, as far as the dict has them, and
      ``height``, ``width`` of the image on disk.

    A test sample has the dict's own entries, ``height`` and ``width`` of the image on disk, and
    ``image``: (3, h, w) float32, resized but not padded, and the layers that are images.

    Args:
        is_train: training or test samples.
        augmentations: applied in this order; they may ask for ``image`` and ``rng``.
        image_format: one that ``detection_utils.read_image`` knows, such as "RGB".
        target_generator: from segment map and table to targets, see :class:`TargetGenerator`; None
            for test samples.
        num_classes, thing_ids, label_divisor: of the dataset; see :func:`build_segment_map`.
        copy_paste: pastes segments of a second image over each training sample; None for none.
        paste_augmentations: applied to that image instead of ``augmentations``.
        layers: maps that are read and transformed as the image is.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        target_generator: Optional[TargetGenerator] = None,
        num_classes: int = 0,
        thing_ids: Sequence[int] = (),
        label_divisor: int = 1000,
        copy_paste: Optional[PanopticCopyPaste] = None,
        paste_augmentations: Sequence[T.Augmentation] = (),
        layers: Sequence[Layer] = (),
    ):
        if is_train and target_generator is None:
            raise ValueError("target_generator must be given where is_train is True, got None")
        if layers and copy_paste is not None:
            raise ValueError(
                "copy_paste must be None (config key INPUT.DEEPLAB2.COPY_PASTE.SCALE 0) with "
                f"layers {[layer.name for layer in layers]}, into which nothing is pasted"
            )
        self.is_train = is_train
        self.layers = tuple(layers)
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.target_generator = target_generator
        self.num_classes = num_classes
        self.thing_ids = frozenset(thing_ids)
        self.label_divisor = label_divisor
        self.copy_paste = copy_paste
        self.paste_augmentations = T.AugmentationList(list(paste_augmentations))

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        is_train: bool = True,
        build_targets: Optional[Callable[[CfgNode, int], TargetGenerator]] = None,
        layers: Sequence[Layer] = (),
    ) -> Dict[str, Any]:
        """
        Reads INPUT.* and the metadata of the first of DATASETS.TRAIN.

        Args:
            build_targets: config and ignore label to the target generator; needed in training.
            layers: see the class.
        """
        if not is_train:
            augmentations: List[T.Augmentation] = [
                ResizeToRange(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
            ]
            return {
                "is_train": False,
                "augmentations": augmentations,
                "image_format": cfg.INPUT.FORMAT,
                "layers": [layer for layer in layers if layer.kind == "image"],
            }
        if build_targets is None:
            raise ValueError("build_targets must be given where is_train is True, got None")
        classes = training_metadata(cfg.DATASETS.TRAIN)
        return {
            "is_train": True,
            "augmentations": build_train_augmentations(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "target_generator": build_targets(cfg, classes.ignore_label),
            "num_classes": classes.num_classes,
            "thing_ids": classes.thing_ids,
            "label_divisor": classes.label_divisor,
            "layers": layers,
            **_copy_paste_arguments(cfg),
        }

    @property
    def needs_partner(self) -> bool:
        """Whether a call needs a second image, to paste from."""
        return self.copy_paste is not None

    def __call__(
        self,
        dataset_dict: Dict[str, Any],
        rng: Optional[np.random.Generator] = None,
        partner: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """
        Args:
            dataset_dict: one image, in Detectron2's format; not changed.
            rng: where the augmentations draw from. None: a new generator from numpy's global
                state, which Detectron2's own loaders seed in each worker.
            partner: the image to paste from, where the mapper needs one.

        Returns:
            a sample; see the class.

        Raises:
            FileNotFoundError: if image or panoptic PNG do not exist.
            ValueError: if one of them cannot be read, if their sizes differ, if the PNG does not
                fit ``segments_info``, or if a partner is needed and missing.
        """
        if rng is None:
            rng = np.random.default_rng(np.random.randint(2**31, size=4))
        if not self.is_train:
            return self._test_sample(dataset_dict)
        labeled, (height, width), transforms = self._augment(dataset_dict, self.augmentations, rng)
        if self.copy_paste is not None:
            if partner is None:
                raise ValueError(
                    "partner must be given for copy-paste; deeplab2_d2.data.build_train_loader does"
                )
            source, _, _ = self._augment(partner, self.paste_augmentations, rng)
            labeled = self.copy_paste(labeled, source, rng)
        assert self.target_generator is not None
        targets = self.target_generator(
            labeled.segment_map, labeled.segments, source=dataset_dict["file_name"]
        ).tensors()
        sample: Dict[str, Any] = {"height": height, "width": width}
        sample.update({k: dataset_dict[k] for k in _HANDED_THROUGH if k in dataset_dict})
        sample["image"] = _to_tensor(labeled.image)
        sample.update(targets)
        sample.update(self._read_layers(dataset_dict, transforms, (height, width)))
        return sample

    def _read_layers(
        self, dataset_dict: Dict[str, Any], transforms: T.TransformList, size: Size
    ) -> Dict[str, torch.Tensor]:
        return {
            layer.name: layer.read(
                dataset_dict, transforms, size=size, image_format=self.image_format
            )
            for layer in self.layers
        }

    def _test_sample(self, dataset_dict: Dict[str, Any]) -> Dict[str, Any]:
        image = read_image(dataset_dict["file_name"], self.image_format)
        height, width = image.shape[:2]
        aug_input = PanopticAugInput(image)
        transforms = self.augmentations(aug_input)
        sample = {"height": height, "width": width, "image": _to_tensor(aug_input.image)}
        layers = self._read_layers(dataset_dict, transforms, (height, width))
        return {**dataset_dict, **sample, **layers}

    def _augment(
        self, dataset_dict: Dict[str, Any], augmentations: T.Augmentation, rng: np.random.Generator
    ) -> Tuple[LabeledImage, Size, T.TransformList]:
        """Read and augment an image with its segments; also its size on disk, and what was done."""
        image = read_image(dataset_dict["file_name"], self.image_format)
        segment_map, segments = self._read_segments(dataset_dict, image)
        aug_input = PanopticAugInput(image, segment_map, rng)
        transforms = augmentations(aug_input)
        labeled = LabeledImage(aug_input.image, aug_input.sem_seg, segments)
        return labeled, image.shape[:2], transforms

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


def build_train_augmentations(
    cfg: CfgNode, *, scale_factor: float = 1.0, segment_pad_value: int = 0
) -> List[T.Augmentation]:
    """
    The augmentations of training, in DeepLab2's order.

    Args:
        cfg: INPUT.CROP.SIZE, INPUT.RANDOM_FLIP and INPUT.DEEPLAB2.*.
        scale_factor: factor on both ends of the random scale.
        segment_pad_value: label of padding in the segment map.

    Raises:
        ValueError: if a key has a value that it must not have.
    """
    node = cfg.INPUT.DEEPLAB2
    augmentations: List[T.Augmentation] = []
    if any(node.RESIZE_RANGE):
        augmentations.append(ResizeToRange(*node.RESIZE_RANGE))
    min_scale, max_scale, step = node.SCALES
    augmentations.append(RandomScale(min_scale * scale_factor, max_scale * scale_factor, step))
    if node.AUTOAUGMENT:
        augmentations.append(AutoAugment(*node.AUTOAUGMENT))
    crop_size = tuple(cfg.INPUT.CROP.SIZE)
    augmentations.append(RandomCropOrPad(crop_size, segment_pad_value=segment_pad_value))
    if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "none"):
        raise ValueError(
            f"INPUT.RANDOM_FLIP must be 'horizontal' or 'none', got {cfg.INPUT.RANDOM_FLIP!r}"
        )
    if cfg.INPUT.RANDOM_FLIP == "horizontal":
        augmentations.append(RandomHorizontalFlip())
    return augmentations


def _copy_paste_arguments(cfg: CfgNode) -> Dict[str, Any]:
    node = cfg.INPUT.DEEPLAB2.COPY_PASTE
    if node.SCALE <= 0:
        return {}
    thing, stuff, void = node.PASTED
    return {
        "copy_paste": PanopticCopyPaste(thing=thing, stuff=stuff, void=void),
        "paste_augmentations": build_train_augmentations(
            cfg, scale_factor=node.SCALE, segment_pad_value=PADDING
        ),
    }


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
