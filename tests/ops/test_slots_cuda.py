"""The CUDA kernel of mask slots gives the reference's numbers, whatever its threads' schedule."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_schedules import FLOATS, assert_equal, few, schedules, to_device
from operator_inputs import make_slots

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

SLOT_OPTIONS = {
    "thing_ids": (0, 2),
    "label_divisor": 2000,
    "is_mask_wise": True,
    "class_thresholds": (0.5, 0.3),
    "mask_threshold": 0.4,
    "overlap_threshold": 0.5,
    "rank_weights": (1.0, 1.0),
    "area_limits": (0, 0),
}


def assert_slots_equal(device, monkeypatch, inputs, options):
    expected = reference.panoptic_from_slots(*inputs, **options)
    tensors = to_device(device, *inputs)
    for _ in schedules(device, monkeypatch):
        *maps, segments, segment_slot = ops.panoptic_from_slots(*tensors, **options)
        *their_maps, their_segments, their_slot = expected
        # Floats too: exponentials are spelled out, sums are of integers or in a fixed order.
        assert_equal(maps, their_maps)
        assert_equal((*segments, segment_slot), (*their_segments, their_slot))
    assert_equal(tensors, inputs)
    return expected


def slot_sizes(map_size, kind):
    """Output size and scale; a kind is how neighbours lie in the map."""
    height, width = map_size
    size, scale = {
        "stride 4": ((4 * height - 3, 4 * width - 3), (0.25, 0.25)),
        "full": (map_size, (1.0, 1.0)),
        # Of four neighbours some lie in one map pixel, some in the next.
        "larger": ((4 * height + 4, 5 * width), None),
        "smaller": ((4 * height - 3, max(width // 2, 1)), None),
        "part": ((2 * height, 3 * width - 1), (0.3, 0.33)),
    }[kind]
    if scale is None:
        scale = tuple(
            float(torch.tensor((low - 1) / (high - 1) if high > 1 else 0.0))
            for low, high in zip(map_size, size)
        )
    return {"size": size, "scale": scale}


@settings(few, max_examples=100)
@given(
    num_images=st.integers(0, 2),
    num_slots=st.sampled_from([1, 2, 11, 40]),
    num_classes=st.sampled_from([1, 3, 40]),
    map_size=st.tuples(st.integers(1, 7), st.integers(1, 24)),
    kind=st.sampled_from(["stride 4", "full", "larger", "smaller", "part"]),
    is_mask_wise=st.booleans(),
    mask_threshold=st.sampled_from([0.334, 0.4, 0.7]),
    class_threshold=st.sampled_from([0.0, 0.6, 0.95, 1.1]),
    overlap_threshold=st.sampled_from([0.0, 0.3, 0.8]),
    rank_weights=st.sampled_from([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.7)]),
    area_limits=st.sampled_from([(0, 0), (5, 20)]),
    is_rounded=st.booleans(),
    is_strided=st.booleans(),
    dtype=st.sampled_from([*FLOATS, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_slots(
    kernel_device, monkeypatch, num_images, num_slots, num_classes, map_size, kind,
    class_threshold, is_rounded, is_strided, dtype, seed, **options
):  # fmt: skip
    masks, class_logits = make_slots(
        num_images, num_slots, num_classes, map_size, seed=seed, is_rounded=is_rounded, dtype=dtype
    )
    if is_strided:
        masks = masks.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        class_logits = class_logits.transpose(1, 2).contiguous().transpose(1, 2)
    options.update(
        slot_sizes(map_size, kind), channel_to_class=tuple(range(num_classes)), label_divisor=1000,
        thing_ids=range(seed % (num_classes + 1)),
        class_thresholds=(class_threshold, class_threshold / 2),
    )  # fmt: skip
    assert_slots_equal(kernel_device, monkeypatch, [masks, class_logits], options)


@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_many_slots_of_many_classes(kernel_device, monkeypatch, is_mask_wise):
    masks, class_logits = make_slots(1, 1024, 60, (3, 6))
    # Each pixel of the map is another slot's, sure of a class; these are mixed up.
    for pixel in range(18):
        masks[0, 1023 - 57 * pixel, pixel // 6, pixel % 6] += 60.0
    class_logits[0, torch.arange(1024), torch.arange(1024) % 60] += 25.0
    channels = [(1023 + 119 * channel) % 1024 for channel in range(60)]
    options = {
        **SLOT_OPTIONS, **slot_sizes((3, 6), "stride 4"), "channel_to_class": channels,
        "thing_ids": range(0, 1024, 2), "is_mask_wise": is_mask_wise, "label_divisor": 2**21,
    }  # fmt: skip
    expected = assert_slots_equal(kernel_device, monkeypatch, [masks, class_logits], options)
    assert (expected.segments.area > 0).sum() == 18


def test_slots_that_overlap_everywhere_are_pasted_in_their_order(kernel_device, monkeypatch):
    # 20 masks in pairs that tie; each also shares an edge with the next pair. Equal classes: ranks
    # by the mean of the masks alone, and by the slot where that ties.
    masks = torch.full((1, 20, 3, 30), -30.0)
    for slot in range(20):
        masks[0, slot, :, 3 * (slot // 2) : 3 * (slot // 2) + 3] = 10.0
    class_logits = torch.tensor([9.0, 0.0, 0.0, 0.0]).expand(1, 20, 4).contiguous()
    options = {
        **SLOT_OPTIONS, **slot_sizes((3, 30), "stride 4"), "channel_to_class": (0, 1, 2),
        "overlap_threshold": 0.0,
    }  # fmt: skip
    expected = assert_slots_equal(kernel_device, monkeypatch, [masks, class_logits], options)
    assert (expected.segments.area > 0).sum() == 10


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_slots_that_are_not_finite_give_labels_that_exist(kernel_device, value, is_mask_wise):
    masks, class_logits = make_slots(1, 6, 2, (5, 30))
    masks[0, ::2, 1:4, 3:20] = value
    class_logits[0, 1] = value
    options = {
        **SLOT_OPTIONS, **slot_sizes((5, 30), "stride 4"), "channel_to_class": (0, 2),
        "is_mask_wise": is_mask_wise,
    }  # fmt: skip
    result = ops.panoptic_from_slots(*to_device(kernel_device, masks, class_logits), **options)
    allowed = {-1, *result.segments.panoptic_label.flatten().tolist()}
    assert set(result.panoptic_map.flatten().tolist()) <= allowed
    assert result.slot_map.min() >= -1 and result.slot_map.max() < 6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mask_logits": torch.zeros(1, 1025, 1, 1)}, "1 to 1024 slots"),
        ({"mask_logits": torch.zeros(1, 1, 1, 1).expand(2**16, 2, 1, 1)}, "at most 65535 images"),
        ({"mask_logits": torch.zeros(1, 1, 1, 1).expand(1, 2, 2**16, 2**15)}, r"2\*\*31 pixels"),
        ({"size": (2**16, 2**15)}, r"size must be .* 2\*\*31 - 1 pixels"),
        ({"scale": (1e30, 1.0)}, r"scale must be .* less than 2\*\*31"),
        ({"channel_to_class": (0, 1024)}, "on a GPU at most 1024 classes, got 1025"),
        ({"rank_weights": (float("inf"), 0.0)}, "rank_weights must be two finite numbers"),
        ({"thing_ids": (2,)}, r"thing_ids must be in \[0, 2\), got 2"),
        ({"label_divisor": 2}, "label_divisor must be more than the 2 slots, got 2"),
        ({"mask_threshold": 0.3}, "mask_threshold .* got 0.3"),
    ],
)
def test_slots_beyond_the_limits_are_refused(kernel_device, change, message):
    arguments = {
        "mask_logits": torch.zeros(1, 2, 4, 4), "channel_to_class": (0, 1), "thing_ids": (0,),
        "size": (4, 4), "scale": (1.0, 1.0), **change,
    }  # fmt: skip
    masks = arguments.pop("mask_logits")
    class_logits = torch.zeros(1, 1, 1).expand(*masks.shape[:2], 3)
    # Views of one number stay that on a GPU.
    masks, class_logits = (
        tensor.flatten()[0].to(kernel_device).expand(tensor.shape)
        if 0 in tensor.stride() else tensor.to(kernel_device)
        for tensor in (masks, class_logits)
    )  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        torch.ops.deeplab2_d2.panoptic_from_slots(
            masks, class_logits, **{**SLOT_OPTIONS, **arguments}
        )
