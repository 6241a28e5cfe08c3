"""One call of each operator: inputs by seed, and a function from them to output tensors."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence

import torch
from operator_inputs import make_prediction, make_slots
from torch import Tensor

from deeplab2_d2 import ops
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers

LABEL_OPTIONS: Dict[str, Any] = {"label_divisor": 1000, "stuff_area_limit": 20}
POSTPROCESSING_OPTIONS: Dict[str, Any] = {
    "thing_ids": (2, 3, 4), "nms_kernel": 7, "top_k_centers": 100, **LABEL_OPTIONS
}  # fmt: skip


@dataclass(frozen=True)
class OperatorCase:
    """
    Attributes:
        operators: names of those that are called, in `torch.ops.deeplab2_d2`.
        make: seed to input tensors, on the CPU.
        run: input tensors to output tensors, with fixed shapes; calls the public function.
        has_cuda: whether it has a CUDA kernel.
    """

    operators: Sequence[str]
    make: Callable[[int], List[Tensor]]
    run: Callable[..., Sequence[Tensor]]
    has_cuda: bool = True


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _heatmap(seed: int) -> List[Tensor]:
    return [make_prediction(2, 1, (33, 41), 12, seed=seed)["center_heatmap"][:, 0]]


def _find_centers(heatmap: Tensor) -> Sequence[Tensor]:
    options = {"threshold": 0.1, "nms_kernel": 7, "top_k": 9}
    return ops.find_centers(heatmap, (129, 161), (0.25, 0.25), **options)


def _semantic(seed: int) -> List[Tensor]:
    return [torch.randn(2, 5, 9, 13, generator=_generator(seed))]


def _resample(maps: Tensor) -> Sequence[Tensor]:
    frame = ((33, 47), (0.25, 0.25))
    return [ops.resample_aligned(maps, *frame), ops.resample_argmax(maps, *frame)]


def _photo(seed: int) -> List[Tensor]:
    return [255 * torch.rand(9, 13, 3, generator=_generator(seed))]


def _resize_window(image: Tensor) -> Sequence[Tensor]:
    return [ops.resize_window(image, (17, 21), (-2, 3, 15, 20), fill=127.5)]


def _grouping(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    centers = 60 * torch.rand(2, 9, 2, generator=generator)
    counts = torch.randint(1, 10, (2,), generator=generator).int()
    return [centers, counts, 20 * torch.randn(2, 2, 50, 70, generator=generator)]


def _group_pixels(centers: Tensor, counts: Tensor, offsets: Tensor) -> Sequence[Tensor]:
    return [ops.group_pixels(centers, counts, offsets)]


def _merging(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    semantic = torch.randint(-1, 5, (2, 50, 70), generator=generator).int()
    instance = torch.randint(10, (2, 50, 70), generator=generator).int()
    return [semantic, instance, torch.rand(2, 9, generator=generator)]


def _merge_panoptic(semantic: Tensor, instance: Tensor, scores: Tensor) -> Sequence[Tensor]:
    panoptic, segments = ops.merge_panoptic(
        semantic, instance, scores, num_classes=5, thing_ids=(2, 3, 4), **LABEL_OPTIONS
    )
    return [panoptic, *segments[:5]]


def _maps(seed: int) -> List[Tensor]:
    return list(make_prediction(2, 5, (33, 41), 12, seed=seed).values())


def _postprocess(logits: Tensor, heatmap: Tensor, offsets: Tensor) -> Sequence[Tensor]:
    frames = Frames.unpadded((129, 161))
    *fields, segments = panoptic_from_centers(
        logits, heatmap, offsets, frames, **POSTPROCESSING_OPTIONS
    )
    return [*fields, *segments]


def _slots(seed: int) -> List[Tensor]:
    # Scaled, so that a few slots are sure and their masks overlap.
    masks, class_logits = make_slots(2, 21, 4, (33, 41), seed=seed)
    return [3 * masks, 2 * class_logits]


def _panoptic_from_slots(is_mask_wise: bool) -> Callable[..., Sequence[Tensor]]:
    def run(mask_logits: Tensor, class_logits: Tensor) -> Sequence[Tensor]:
        *fields, segments, segment_slot = ops.panoptic_from_slots(
            mask_logits, class_logits, channel_to_class=(0, 1, 2, 3), thing_ids=(1, 3),
            size=(129, 161), scale=(0.25, 0.25), label_divisor=1000, is_mask_wise=is_mask_wise,
            class_thresholds=(0.5, 0.4), mask_threshold=0.4, overlap_threshold=0.5,
            rank_weights=(1.0, 0.5), area_limits=(10, 30),
        )  # fmt: skip
        return [*fields, *segments, segment_slot]

    return run


def _loss(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    labels = torch.randint(4, (2, 65, 97), generator=generator)
    labels[:, ::7] = 255
    logits = torch.randn(2, 4, 17, 25, generator=generator)
    return [logits, labels, torch.rand(2, 65, 97, generator=generator)]


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Sequence[Tensor]:
    return [ops.upsampled_cross_entropy(logits, labels, weights, ignore_label=255)]


def _cross_entropy_gradient(logits: Tensor, labels: Tensor, weights: Tensor) -> Sequence[Tensor]:
    backward = torch.ops.deeplab2_d2.upsampled_cross_entropy_backward
    return [backward(weights, logits, labels, weights, scale=[0.25, 0.25], ignore_label=255)]


def _label_pairs(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    return [1000 * torch.randint(-1, 9, (60, 80), generator=generator) for _ in range(2)]


def _label_overlap(first: Tensor, second: Tensor) -> Sequence[Tensor]:
    return ops.label_overlap(first, second, max_pairs=200)


def _costs(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    costs = torch.randn(3, 9, 13, generator=generator)
    return [costs, torch.rand(3, 9, generator=generator) < 0.8]


def _assign(costs: Tensor, has_row: Tensor) -> Sequence[Tensor]:
    return [ops.linear_assignment(costs, has_row=has_row)]


def _segments(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    segment_map = torch.randint(5, (40, 60), generator=generator).int()
    is_instance = torch.tensor([True, True, False, True])
    return [segment_map, torch.arange(4), is_instance, torch.zeros(4, dtype=torch.bool)]


def _targets(segment_map: Tensor, *flags: Tensor) -> Sequence[Tensor]:
    return list(
        ops.panoptic_targets(
            segment_map, *flags, torch.ones(3, 3), window_before=1, ignore_label=255,
            small_instance_area=500, small_instance_weight=3.0,
        )
    )  # fmt: skip


def _scores(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    image = torch.randint(256, (3, 20, 30), generator=generator, dtype=torch.uint8)
    return [torch.randn(5, 20, 30, generator=generator), image]


def _dense_crf(logits: Tensor, image: Tensor) -> Sequence[Tensor]:
    marginals = ops.dense_crf(
        logits, image, num_iterations=2, w1=4.0, theta_alpha=9.0, theta_beta=20.0, w2=3.0,
        theta_gamma=2.0, normalization="after",
    )  # fmt: skip
    return [marginals]


def _sequences(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    sizes = [(2, 32, 3, 11), (32,), (32,), (3, 2), (2,), (21, 4), (21, 4), (21, 8)]
    return [0.5 * torch.randn(size, generator=generator) for size in sizes]


def _attention_moments(raw: Tensor, scale: Tensor, shift: Tensor, *_: Tensor) -> Sequence[Tensor]:
    return ops.attention_moments(raw, scale, shift, num_heads=2, key_depth=8)


def _axial_attention(*tensors: Tensor) -> Sequence[Tensor]:
    options = {"value_depth": 16, "retrieve_content": True, "span": 9}
    return [ops.axial_attention(*tensors, **options)]


def _feature_maps(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    sizes = [(2, 20, 9, 13), (20, 5, 5), (20,)]
    return [torch.randn(size, generator=generator) for size in sizes]


def _depthwise_convolution(*tensors: Tensor) -> Sequence[Tensor]:
    options = {"stride": (1, 2), "padding": (4, 2), "dilation": (2, 1), "activation": "hard_swish"}
    return [ops.depthwise_convolution(*tensors, **options)]


def _feature_maps_and_kernels(seed: int) -> List[Tensor]:
    generator = _generator(seed)
    sizes = [(2, 20, 9, 13), (24, 20, 3, 3), (24,)]
    return [torch.randn(size, generator=generator) for size in sizes]


def _winograd_convolution(*tensors: Tensor) -> Sequence[Tensor]:
    return [ops.winograd_convolution(*tensors, dilation=2, activation="hard_swish")]


def _sequences_with_gradient(seed: int) -> List[Tensor]:
    grad = torch.randn(2, 32, 3, 11, generator=_generator(seed + 1))
    return [grad, *_sequences(seed)]


def _axial_attention_gradient(grad: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
    backward = torch.ops.deeplab2_d2.axial_attention_backward
    return backward(grad, *tensors, value_depth=16, retrieve_content=True, reach=4)


CASES: Dict[str, OperatorCase] = {
    "find_centers": OperatorCase(["find_centers"], _heatmap, _find_centers),
    "resampling": OperatorCase(["resample_aligned", "resample_argmax"], _semantic, _resample),
    "resize_window": OperatorCase(["resize_window"], _photo, _resize_window, has_cuda=False),
    "group_pixels": OperatorCase(["group_pixels"], _grouping, _group_pixels),
    "merge_panoptic": OperatorCase(["merge_panoptic"], _merging, _merge_panoptic),
    "fused_path": OperatorCase(["find_centers", "panoptic_from_logits"], _maps, _postprocess),
    "slots_pixel_wise": OperatorCase(["panoptic_from_slots"], _slots, _panoptic_from_slots(False)),
    "slots_mask_wise": OperatorCase(["panoptic_from_slots"], _slots, _panoptic_from_slots(True)),
    "cross_entropy": OperatorCase(["upsampled_cross_entropy"], _loss, _cross_entropy),
    "cross_entropy_gradient": OperatorCase(
        ["upsampled_cross_entropy_backward"], _loss, _cross_entropy_gradient
    ),
    "label_overlap": OperatorCase(["label_overlap"], _label_pairs, _label_overlap),
    "linear_assignment": OperatorCase(["linear_assignment"], _costs, _assign),
    "panoptic_targets": OperatorCase(["panoptic_targets"], _segments, _targets, has_cuda=False),
    "dense_crf": OperatorCase(["dense_crf"], _scores, _dense_crf, has_cuda=False),
    "attention_moments": OperatorCase(
        ["attention_moments"], _sequences, _attention_moments, has_cuda=False
    ),
    "axial_attention": OperatorCase(["axial_attention"], _sequences, _axial_attention),
    "axial_attention_gradient": OperatorCase(
        ["axial_attention_backward"], _sequences_with_gradient, _axial_attention_gradient
    ),
    "depthwise_convolution": OperatorCase(
        ["depthwise_convolution"], _feature_maps, _depthwise_convolution, has_cuda=False
    ),
    "winograd_convolution": OperatorCase(
        ["winograd_convolution"], _feature_maps_and_kernels, _winograd_convolution, has_cuda=False
    ),
}
