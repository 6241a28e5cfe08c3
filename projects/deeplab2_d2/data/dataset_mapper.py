"""From a dataset dict of Detectron2 to what the model takes."""

import contextlib
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple, Union

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from .augmentation import PanopticAugInput, ResizeToRange, build_train_augmentations
from .copy_paste import PADDING, LabeledImage, PanopticCopyPaste
from .foreign_transforms import apply_to_map
from .frame_pairs import FrameTargetGenerator, has_other_frame, join_segments
from .layers import Layer
from .metadata import training_metadata
from .reading import read_image
from .resizing import Size
from .scale_and_crop import join_scales_and_crops
from .seeding import global_states
from .segment_map import SegmentTable, read_segments

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


AnyTargetGenerator = Union[TargetGenerator, FrameTargetGenerator]


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
        augmentations: applied in this order; they may ask for ``image`` and ``rng``. Detectron2's
            do, too: their transforms see uint8 images, and what they draw follows from ``rng``. A
            random scale and the crop after it are computed as one.
        image_format: "RGB" or "BGR".
        target_generator: from segment map and table to targets, see :class:`TargetGenerator`, or
            from those of two frames, see :class:`FrameTargetGenerator`; None for test samples.
        num_classes, thing_ids, label_divisor, ignore_label: of the dataset; see
            :func:`read_segments`.
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
        target_generator: Optional[AnyTargetGenerator] = None,
        num_classes: int = 0,
        thing_ids: Sequence[int] = (),
        label_divisor: int = 1000,
        ignore_label: int = 255,
        copy_paste: Optional[PanopticCopyPaste] = None,
        paste_augmentations: Sequence[T.Augmentation] = (),
        layers: Sequence[Layer] = (),
    ):
        if is_train and target_generator is None:
            raise ValueError("target_generator must be given where is_train is True, got None")
        is_of_pairs = isinstance(target_generator, FrameTargetGenerator)
        if copy_paste is not None and (layers or is_of_pairs):
            raise ValueError(
                "copy_paste must be None (config key INPUT.DEEPLAB2.COPY_PASTE.SCALE 0) with pairs "
                f"of frames and with layers, into which nothing is pasted, got layers "
                f"{[layer.name for layer in layers]}"
            )
        self.is_train = is_train
        self.layers = tuple(layers)
        self.augmentations = T.AugmentationList(join_scales_and_crops(augmentations))
        self.image_format = image_format
        self.target_generator = target_generator
        self.num_classes = num_classes
        self.thing_ids = frozenset(thing_ids)
        self.label_divisor = label_divisor
        self.ignore_label = ignore_label
        self.copy_paste = copy_paste
        self.paste_augmentations = T.AugmentationList(join_scales_and_crops(paste_augmentations))

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        is_train: bool = True,
        build_targets: Optional[Callable[[CfgNode, int], AnyTargetGenerator]] = None,
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
            "ignore_label": classes.ignore_label,
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
    ) -> Optional[Dict[str, Any]]:
        """
        Args:
            dataset_dict: one image, in Detectron2's format; not changed.
            rng: where the augmentations draw from. None: a new generator from numpy's global
                state, which Detectron2's own loaders seed in each worker.
            partner: the image to paste from, where the mapper needs one.

        Returns:
            a sample, see the class; None of a frame that training leaves out, see
            :class:`FrameTargetGenerator`.

        Raises:
            FileNotFoundError: if image or panoptic PNG do not exist.
            ValueError: if one of them cannot be read, if their sizes differ, if the PNG does not
                fit ``segments_info``, if a partner is needed and missing, or if pairs of frames
                are wanted and the image is no frame of a video or lacks its tracks.
        """
        if rng is None:
            rng = np.random.default_rng(np.random.randint(2**31, size=4))
        if not self.is_train:
            return self._test_sample(dataset_dict)
        if self._is_left_out(dataset_dict):
            return None
        labeled, size, transforms = self._augment(dataset_dict, self.augmentations, rng)
        if self.copy_paste is not None:
            if partner is None:
                raise ValueError(
                    "partner must be given for copy-paste; deeplab2_d2.data.build_train_loader does"
                )
            source, _, _ = self._augment(partner, self.paste_augmentations, rng)
            labeled = self.copy_paste(labeled, source, rng)
        targets = self._make_targets(dataset_dict, labeled, size, transforms, rng)
        sample: Dict[str, Any] = {"height": size[0], "width": size[1]}
        sample.update({k: dataset_dict[k] for k in _HANDED_THROUGH if k in dataset_dict})
        sample["image"] = _to_tensor(labeled.image)
        sample.update(targets.tensors())
        sample.update(self._read_layers(dataset_dict, transforms, size))
        return sample

    def _is_left_out(self, dataset_dict: Dict[str, Any]) -> bool:
        generator = self.target_generator
        return (
            isinstance(generator, FrameTargetGenerator)
            and not has_other_frame(dataset_dict, generator.other_frame)
            and generator.is_other_needed
        )

    def _make_targets(
        self,
        dataset_dict: Dict[str, Any],
        labeled: LabeledImage,
        size: Size,
        transforms: T.TransformList,
        rng: np.random.Generator,
    ) -> Targets:
        generator, (_, segment_map, segments) = self.target_generator, labeled
        assert generator is not None
        source = dataset_dict["file_name"]
        if not isinstance(generator, FrameTargetGenerator):
            return generator(segment_map, segments, source=source)
        other, other_map = generator.other_frame, segment_map
        if has_other_frame(dataset_dict, other):
            other_map, other_segments = self._read_segments(dataset_dict, size, f"{other}_")
            other_map, segments = join_segments(
                segments,
                dataset_dict["segments_info"],
                other_map,
                other_segments,
                dataset_dict[f"{other}_segments_info"],
                source=dataset_dict["pan_seg_file_name"],
                other_source=dataset_dict[f"{other}_pan_seg_file_name"],
            )
            other_map = apply_to_map(transforms, other_map)
        return generator(segment_map, segments, other_map, source=source, rng=rng)

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
        self,
        dataset_dict: Dict[str, Any],
        augmentations: T.AugmentationList,
        rng: np.random.Generator,
    ) -> Tuple[LabeledImage, Size, T.TransformList]:
        """Read and augment an image with its segments; also its size on disk, and what was done."""
        image = read_image(dataset_dict["file_name"], self.image_format)
        segment_map, segments = self._read_segments(dataset_dict, image.shape[:2])
        aug_input = PanopticAugInput(image, segment_map, rng)
        # Detectron2's own draw from global states.
        is_ours = all(type(a).__module__.startswith(__package__) for a in augmentations.augs)
        with contextlib.nullcontext() if is_ours else global_states(rng):
            transforms = augmentations(aug_input)
        labeled = LabeledImage(aug_input.image, aug_input.sem_seg, segments)
        return labeled, image.shape[:2], transforms

    def _read_segments(
        self, dataset_dict: Dict[str, Any], size: Size, of: str = ""
    ) -> Tuple[np.ndarray, SegmentTable]:
        return read_segments(
            dataset_dict,
            size,
            num_classes=self.num_classes,
            thing_ids=self.thing_ids,
            label_divisor=self.label_divisor,
            ignore_label=self.ignore_label,
            of=of,
        )


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
