"""
Our targets, resizing and augmentation for the cases of ``parity/targets``.

DeepLab2's label (class x divisor + instance) is taken apart into a segment map and a table, goes
through the package's own augmentations and generators, and is put together again.
"""

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

from deeplab2_d2.data.augmentation import (
    MEAN_PIXEL,
    AlignedResizeTransform,
    MapPadTransform,
    PanopticAugInput,
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
)
from deeplab2_d2.data.autoaugment import apply_operation
from deeplab2_d2.data.copy_paste import PADDING, LabeledImage, PanopticCopyPaste
from deeplab2_d2.data.frame_target_generators import (
    NextFrameTargetGenerator,
    PreviousFrameTargetGenerator,
)
from deeplab2_d2.data.frame_targets import depth_target
from deeplab2_d2.data.mask_targets import thing_id_targets
from deeplab2_d2.data.resizing import size_in_range
from deeplab2_d2.data.scale_and_crop import RandomScaleAndCrop
from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.data.targets import PanopticTargetGenerator

Arrays = Mapping[str, np.ndarray]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    ports = {
        "data.sample_generator.PanopticSampleGenerator": _sample,
        "data.preprocessing.preprocess_utils.resize_to_range": _resize_to_range,
        "data.preprocessing.input_preprocessing.preprocess_image_and_label": _preprocess_eval,
        "data.preprocessing.autoaugment_utils": _autoaugment,
    }
    if case["target"] not in ports:
        return None
    return ports[case["target"]](case["params"], arrays)


def _pair(value: Any) -> Optional[Tuple[int, int]]:
    """DeepLab2's size option (None, one number or two) as (height, width) or None."""
    if value is None:
        return None
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _resize_to_range(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    image, label = arrays["in/image"], arrays["in/label"]
    old_size = image.shape[:2]
    bounds = _pair(params["min_size"]), _pair(params["max_size"]), params["factor"]
    transform = AlignedResizeTransform(old_size, size_in_range(old_size, *bounds))
    return {
        "out/image": transform.apply_image(image),
        "out/label": transform.apply_segmentation(label),
    }


def _eval_transforms(params: Dict[str, Any], old_size: Tuple[int, int]) -> List[Transform]:
    """Resizing into the crop, then padding at the bottom and the right."""
    crop = params["crop_size"]
    min_size, max_size = _pair(params.get("min_resize_value")), _pair(params["max_resize_value"])
    if max_size is None or min(max_size) == 0:
        max_size = tuple(crop)
    size = size_in_range(old_size, min_size, max_size, params.get("resize_factor"))
    padding = (0, 0, crop[1] - size[1], crop[0] - size[0])
    return [AlignedResizeTransform(old_size, size), MapPadTransform(*padding, pad_value=MEAN_PIXEL)]


def _preprocess_eval(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    image = arrays["in/image"].astype(np.float32)
    crop = [params["crop_height"], params["crop_width"]]
    resize, pad = _eval_transforms({**params, "crop_size": crop}, image.shape[:2])
    pad.seg_pad_value = params["ignore_label"]
    resized = resize.apply_image(image)
    return {
        "out/resized_image": resized,
        "out/image": pad.apply_image(resized),
        "out/label": pad.apply_segmentation(resize.apply_segmentation(arrays["in/label"])),
    }


def _autoaugment(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    return {
        output: apply_operation(arrays["in/image"], name, float(level))
        for output in params["arguments"]
        for _, name, level in [output.split("/")]
    }


class _Labels:
    """The distinct labels of one or more frames as a table, in the order of their first pixels."""

    def __init__(self, params: Dict[str, Any], maps: List[np.ndarray]):
        divisor, ignore = params["panoptic_label_divisor"], params["ignore_label"]
        self.void = ignore * divisor
        values, first = np.unique(np.concatenate([m.ravel() for m in maps]), return_index=True)
        values = values[np.argsort(first)]
        self.values = values[values // divisor != ignore].astype(np.int32)
        classes, numbers = self.values // divisor, self.values % divisor
        is_thing = np.isin(classes, params["class_has_instances_list"])
        self.table = SegmentTable(classes.astype(np.int64), is_thing, is_thing & (numbers == 0))

    def segment_map(self, label: np.ndarray) -> np.ndarray:
        order = np.argsort(self.values)
        places = np.searchsorted(self.values[order], label)
        places = np.minimum(places, len(self.values) - 1)
        found = self.values[order][places] == label
        return np.where(found, order[places] + 1, 0).astype(np.int32)

    def label(self, segment_map: np.ndarray) -> np.ndarray:
        return self.table.look_up(self.values, self.void)[segment_map]

    def is_crowd(self, segment_map: np.ndarray) -> np.ndarray:
        return self.table.look_up(self.table.is_crowd.astype(np.uint8), 0)[segment_map]

    def semantic(self, segment_map: np.ndarray, ignore: int) -> np.ndarray:
        return self.table.look_up(self.table.category_ids, ignore)[segment_map].astype(np.int32)


def _augment(params: Dict[str, Any], aug_input: PanopticAugInput, padding: int = 0) -> Transform:
    """Apply the augmentations of training in place; what was applied."""
    scales = [params.get(f"{end}_scale_factor", 1.0) for end in ("min", "max")]
    augmentations = [
        RandomScaleAndCrop(
            RandomScale(*scales, params.get("scale_factor_step_size", 0)),
            RandomCropOrPad(params["crop_size"], segment_pad_value=padding),
        ),
        RandomHorizontalFlip(1.0 if params["flip"] else 0.0),
    ]
    return TransformList([augmentation(aug_input) for augmentation in augmentations])


def _target_generator(params: Dict[str, Any]) -> PanopticTargetGenerator:
    small = params.get("focus_small_instances") or {"threshold": 0, "weight": 1.0}
    return PanopticTargetGenerator(
        ignore_label=params["ignore_label"],
        sigma=params.get("sigma", 8),
        small_instance_area=small["threshold"],
        small_instance_weight=small["weight"],
        # DeepLab2 leaves this to the conversion of a dataset, which came before these labels.
        ignore_crowd_in_semantic=False,
        has_instances=not params.get("only_semantic_annotations", False),
    )


def _sample(params: Dict[str, Any], arrays: Arrays) -> Arrays:
    other = {"prev": "prev", "next+depth": "next", "paste": "paste"}.get(params["frames"])
    names = ["label"] + ([f"{other}_label"] if other in ("prev", "next") else [])
    labels = _Labels(params, [arrays[f"in/{name}"] for name in names])
    aug_input = _aug_input(labels, arrays)
    outputs: Dict[str, np.ndarray] = {}
    if params["is_training"]:
        transform = _augment(params, aug_input)
    else:
        sizes = {"min_resize_value": None, "max_resize_value": None, **params}
        transforms = _eval_transforms(sizes, aug_input.image.shape[:2])
        outputs["out/resized_image"] = transforms[0].apply_image(aug_input.image)
        transform = TransformList(transforms)
        aug_input.transform(transform)
        outputs.update(_raw_outputs(params, labels, arrays))
    if other == "paste":
        labels, aug_input = _paste(params, labels, aug_input, arrays)
    outputs["out/image"] = aug_input.image
    outputs.update(_target_outputs(params, labels, aug_input.sem_seg))
    if other in ("prev", "next"):
        second = _aug_input(labels, arrays, f"{other}_")
        second.transform(transform)
        make = _previous_outputs if other == "prev" else _next_outputs
        outputs.update(make(params, labels, aug_input, second))
    if "depth" in params["frames"]:
        depth = transform.apply_segmentation(arrays["in/depth"][..., 0])
        outputs["out/depth_gt"] = depth_target(depth)[..., None]
    return outputs


def _aug_input(labels: _Labels, arrays: Arrays, prefix: str = "") -> PanopticAugInput:
    segment_map = labels.segment_map(arrays[f"in/{prefix}label"])
    image = arrays[f"in/{prefix}image"].astype(np.float32)
    return PanopticAugInput(image, segment_map, np.random.default_rng(0))


def _paste(
    params: Dict[str, Any], labels: _Labels, base: PanopticAugInput, arrays: Arrays
) -> Tuple[_Labels, PanopticAugInput]:
    source_labels = _Labels(params, [arrays["in/paste_label"]])
    source = _aug_input(source_labels, arrays, "paste_")
    _augment(params, source, PADDING)
    options = params["panoptic_copy_paste_options"]
    kinds = ("thing", "stuff", "void")
    paste = PanopticCopyPaste(**{k: options[f"panoptic_copy_paste_{k}_option"] for k in kinds})
    result = paste(
        LabeledImage(base.image, base.sem_seg, labels.table),
        LabeledImage(source.image, source.sem_seg, source_labels.table),
        np.random.default_rng(0),
    )
    # DeepLab2 numbers what is pasted from the divisor downwards.
    divisor = params["panoptic_label_divisor"]
    numbers = source_labels.values % divisor
    renumbered = np.where(
        numbers == 0, source_labels.values, source_labels.values - 2 * numbers + divisor - 1
    )
    labels.values = np.concatenate([labels.values, renumbered.astype(np.int32)])
    labels.table = result.segments
    return labels, PanopticAugInput(result.image, result.segment_map)


def _previous_outputs(
    params: Dict[str, Any], labels: _Labels, frame: PanopticAugInput, previous: PanopticAugInput
) -> Arrays:
    # The set was made without noise on the previous centers.
    generator = PreviousFrameTargetGenerator(_target_generator(params), noise=None)
    targets = generator(frame.sem_seg, labels.table, previous.sem_seg)
    channels = [frame.image, previous.image]
    if params["is_training"]:
        channels.append(targets.previous_heatmap[..., None])
    return {
        "out/image": np.concatenate(channels, axis=-1),
        "out/frame_offset_gt": targets.frame_offsets.transpose(1, 2, 0),
        "out/frame_regression_loss_weight": targets.frame_offset_weights,
    }


def _next_outputs(
    params: Dict[str, Any], labels: _Labels, frame: PanopticAugInput, following: PanopticAugInput
) -> Arrays:
    generator = NextFrameTargetGenerator(_target_generator(params))
    targets = generator(frame.sem_seg, labels.table, following.sem_seg)
    return {
        "out/image": np.concatenate([frame.image, following.image], axis=-1),
        "out/next_image": following.image,
        "out/next_instance_regression_gt": targets.next_center_offsets.transpose(1, 2, 0),
        "out/next_regression_loss_weight": targets.next_offset_weights,
    }


def _raw_outputs(params: Dict[str, Any], labels: _Labels, arrays: Arrays) -> Arrays:
    """What DeepLab2 keeps for evaluation: the labels as they were read."""
    segment_map = labels.segment_map(arrays["in/label"])
    return {
        "out/size_raw": np.array(arrays["in/image"].shape[:2], np.int32),
        "out/semantic_raw": labels.semantic(segment_map, params["ignore_label"]),
        "out/panoptic_raw": labels.label(segment_map),
        "out/is_crowd_raw": labels.is_crowd(segment_map),
    }


def _target_outputs(
    params: Dict[str, Any], labels: _Labels, segment_map: np.ndarray
) -> Dict[str, np.ndarray]:
    targets = _target_generator(params)(segment_map, labels.table)
    outputs = {
        "out/semantic_gt": targets.sem_seg.astype(np.int32),
        "out/semantic_loss_weight": targets.sem_seg_weights,
        "out/is_crowd_gt": labels.is_crowd(segment_map),
    }
    if targets.center_offsets is not None:
        outputs["out/panoptic_gt"] = labels.label(segment_map)
        outputs["out/center_loss_weight"] = targets.center_weights
        outputs["out/regression_loss_weight"] = targets.offset_weights
        outputs["out/instance_center_gt"] = targets.center_heatmap
        outputs["out/instance_regression_gt"] = targets.center_offsets.transpose(1, 2, 0)
    if params.get("thing_id_mask_annotations"):
        thing_ids, classes = thing_id_targets(segment_map, labels.table, params["max_thing_id"])
        outputs["out/thing_id_mask_gt"], outputs["out/thing_id_class_gt"] = thing_ids, classes
    return outputs
