"""
Our targets, resizing and augmentation for the cases of ``parity/targets``.

DeepLab2's label (class x divisor + instance) is taken apart into a segment map and a table, goes
through the package's own augmentations and generators, and is put together again.
"""

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
from fvcore.transforms.transform import PadTransform, Transform

from deeplab2_d2.data.augmentation import (
    MEAN_PIXEL,
    AlignedResizeTransform,
    PanopticAugInput,
    RandomCropOrPad,
    RandomHorizontalFlip,
    RandomScale,
)
from deeplab2_d2.data.resizing import size_in_range
from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.data.targets import PanopticTargetGenerator

Arrays = Mapping[str, np.ndarray]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    ports = {
        "data.sample_generator.PanopticSampleGenerator": _sample,
        "data.preprocessing.preprocess_utils.resize_to_range": _resize_to_range,
        "data.preprocessing.input_preprocessing.preprocess_image_and_label": _preprocess_eval,
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
    return [AlignedResizeTransform(old_size, size), PadTransform(*padding, pad_value=MEAN_PIXEL)]


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


class _Labels:
    """The distinct labels of a sample as a segment table, in the order of their first pixels."""

    def __init__(self, params: Dict[str, Any], maps: List[np.ndarray]):
        divisor, ignore = params["panoptic_label_divisor"], params["ignore_label"]
        self.void = ignore * divisor
        values, first = np.unique(np.concatenate([m.ravel() for m in maps]), return_index=True)
        values = values[np.argsort(first)]
        self.values = values[values // divisor != ignore]
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
        return self.table.look_up(self.values.astype(np.int32), self.void)[segment_map]

    def is_crowd(self, segment_map: np.ndarray) -> np.ndarray:
        return self.table.look_up(self.table.is_crowd.astype(np.uint8), 0)[segment_map]

    def semantic(self, segment_map: np.ndarray, ignore: int) -> np.ndarray:
        return self.table.look_up(self.table.category_ids, ignore)[segment_map].astype(np.int32)


def _augment(params: Dict[str, Any], aug_input: PanopticAugInput) -> None:
    """Apply the augmentations of training in place."""
    scales = [params.get(f"{end}_scale_factor", 1.0) for end in ("min", "max")]
    RandomScale(*scales, params.get("scale_factor_step_size", 0))(aug_input)
    RandomCropOrPad(params["crop_size"])(aug_input)
    RandomHorizontalFlip(1.0 if params["flip"] else 0.0)(aug_input)


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


def _sample(params: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    if params["frames"]:
        return None
    labels = _Labels(params, [arrays["in/label"]])
    image = arrays["in/image"].astype(np.float32)
    aug_input = PanopticAugInput(
        image, labels.segment_map(arrays["in/label"]), np.random.default_rng(0)
    )
    outputs: Dict[str, np.ndarray] = {}
    if params["is_training"]:
        _augment(params, aug_input)
    else:
        sizes = {"min_resize_value": None, "max_resize_value": None, **params}
        resize, pad = _eval_transforms(sizes, image.shape[:2])
        aug_input.transform(resize)
        outputs["out/resized_image"] = aug_input.image
        aug_input.transform(pad)
        outputs.update(_raw_outputs(params, labels, arrays))
    outputs["out/image"] = aug_input.image
    outputs.update(_target_outputs(params, labels, aug_input.sem_seg))
    return outputs


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
    return outputs
