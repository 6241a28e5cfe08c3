"""The CUDA kernels give the reference's integers, whatever the schedule of their threads."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_schedules import FLOATS, assert_equal, few, schedules, to_device
from operator_inputs import differences, make_prediction

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers


@few
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 80),
    up=st.sampled_from([1, 2, 4, 3.3]),
    nms_kernel=st.sampled_from([1, 2, 3, 6, 13, 41]),
    top_k=st.sampled_from([-1, 1, 3, 40, 400]),
    levels=st.sampled_from([1, 2, 5, 1000]),
    dtype=st.sampled_from(FLOATS),
    seed=st.integers(0, 1000),
)
def test_centers(
    kernel_device, monkeypatch, height, width, up, nms_kernel, top_k, levels, dtype, seed
):
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.randint(-1, levels + 1, (2, height, width), generator=generator) / levels
    heatmap = heatmap.to(dtype)
    size = (int((height - 1) * up) + 1, int((width - 1) * up) + 1)
    scale = tuple(
        float(torch.tensor((low - 1) / (high - 1) if high > 1 else 0.0))
        for low, high in zip((height, width), size)
    )
    options = {"threshold": 0.1, "nms_kernel": nms_kernel, "top_k": top_k}
    expected = reference.find_centers(heatmap, size, scale, **options)
    (maps,) = to_device(kernel_device, heatmap)
    for _ in schedules(kernel_device, monkeypatch):
        assert_equal(ops.find_centers(maps, size, scale, **options), expected)
    assert torch.equal(maps.cpu(), heatmap)


def test_centers_of_a_plateau_take_time_by_the_side_of_the_window(kernel_device):
    (heatmap,) = to_device(kernel_device, torch.ones(1, 65, 65))

    def seconds(nms_kernel):
        times = []
        for _ in range(2):
            start = time.perf_counter()
            options = {"threshold": 0.1, "nms_kernel": nms_kernel, "top_k": 4}
            counts = ops.find_centers(heatmap, (65, 65), (1.0, 1.0), **options)[2]
            assert counts.tolist() == [4]  # read, so that a GPU is waited for
            times.append(time.perf_counter() - start)
        return min(times)

    # The sides' ratio is 17, the areas' 289.
    assert seconds(51) < 50 * seconds(3)


@few
@given(
    num_images=st.integers(1, 2),
    height=st.integers(1, 20),
    width=st.integers(1, 70),
    num_rows=st.sampled_from([0, 1, 5, 40, 400]),
    spread=st.sampled_from([0.0, 2.0, 30.0, 1e30]),
    dtype=st.sampled_from(FLOATS),
    is_strided=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_grouping(
    kernel_device, monkeypatch, num_images, height, width, num_rows, spread, dtype, is_strided, seed
):
    generator = torch.Generator().manual_seed(seed)
    # Whole numbers, so that many distances are equal.
    centers = torch.randint(-9, 70, (num_images, num_rows, 2), generator=generator).float()
    counts = torch.randint(num_rows + 1, (num_images,), generator=generator).int()
    shape = (num_images, 2, width, height) if is_strided else (num_images, 2, height, width)
    offsets = (torch.randn(*shape, generator=generator) * spread).round()
    offsets = offsets.clamp(-3e38, 3e38).to(dtype)
    offsets = torch.where(offsets.isfinite(), offsets, 1.0)
    offsets = offsets.transpose(2, 3) if is_strided else offsets
    expected = reference.group_pixels(centers, counts, offsets)
    tensors = to_device(kernel_device, centers, counts, offsets)
    for _ in schedules(kernel_device, monkeypatch):
        assert_equal([ops.group_pixels(*tensors)], [expected])
    assert_equal(tensors, [centers, counts, offsets])


@few
@given(
    size=st.sampled_from([(1, 1), (3, 5), (17, 40)]),
    num_rows=st.sampled_from([0, 1, 7, 600]),
    num_classes=st.sampled_from([1, 3, 133]),
    limit=st.sampled_from([0, 5, 10**6]),
    is_void=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_merge(kernel_device, monkeypatch, size, num_rows, num_classes, limit, is_void, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, (size[0] + 3) // 4, (size[1] + 3) // 4)
    lowest, highest = (-1, 0) if is_void else (-1, num_classes)
    semantic, instance = (
        torch.randint(low, high, shape, generator=generator).int()
        .repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : size[0], : size[1]]
        for low, high in ((lowest, highest), (0, num_rows + 1))
    )  # fmt: skip
    scores = torch.rand(2, num_rows, generator=generator)
    options = {
        "num_classes": num_classes,
        "thing_ids": list(range(num_classes // 2, num_classes)),
        # The largest that num_classes allows, so that labels come close to 2**31.
        "label_divisor": 2**31 // num_classes,
        "stuff_area_limit": limit,
    }
    expected, table = reference.merge_panoptic(semantic, instance, scores, **options)
    tensors = to_device(kernel_device, semantic, instance, scores)
    for _ in schedules(kernel_device, monkeypatch):
        panoptic, segments = ops.merge_panoptic(*tensors, **options)
        assert_equal([panoptic, *segments[:5]], [expected, *table[:5]])


def test_merge_of_more_segments_than_a_block_has_places_for(kernel_device, monkeypatch):
    # 4096 pixels, those of one block, of 500 centers with 5 classes each.
    generator = torch.Generator().manual_seed(0)
    semantic = torch.randint(-1, 5, (1, 64, 64), generator=generator).int()
    instance = torch.randint(501, (1, 64, 64), generator=generator).int()
    scores = torch.rand(1, 500, generator=generator)
    options = {
        "num_classes": 5, "thing_ids": (1, 2, 4), "label_divisor": 1000, "stuff_area_limit": 9
    }  # fmt: skip
    expected, table = reference.merge_panoptic(semantic, instance, scores, **options)
    tensors = to_device(kernel_device, semantic, instance, scores)
    for _ in schedules(kernel_device, monkeypatch):
        panoptic, segments = ops.merge_panoptic(*tensors, **options)
        assert_equal([panoptic, *segments[:5]], [expected, *table[:5]])


def test_probabilities_of_more_segments_than_a_block_has_places_for(kernel_device, monkeypatch):
    # Each pixel points to another of 400 centers, and every class has its pixels outvoted.
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, 5, 48, 48, generator=generator),
        12 * torch.randn(1, 2, 48, 48, generator=generator),
        48 * torch.rand(1, 400, 2, generator=generator),
        torch.rand(1, 400, generator=generator),
        torch.tensor([400], dtype=torch.int32),
    ]
    options = {
        "channel_to_class": (0, 1, -1, 2, 3), "thing_ids": (1, 2, 3), "size": (48, 48),
        "scale": (1.0, 1.0), "offset_scale": (1.0, 1.0), "label_divisor": 1000,
        "stuff_area_limit": 9,
    }  # fmt: skip
    with ops.use_reference():
        expected = ops.panoptic_from_logits(*inputs, **options)
    # Three times the places of a block of 2048 pixels.
    assert (expected.segments.area > 0).sum() > 192
    tensors = to_device(kernel_device, *inputs)
    for _ in schedules(kernel_device, monkeypatch):
        ours = ops.panoptic_from_logits(*tensors, **options)
        segments = type(ours.segments)(*(column.cpu() for column in ours.segments))
        on_cpu = type(ours)(*(field.cpu() for field in ours[:-1]), segments)
        assert differences(on_cpu, expected) == {}


def test_labels_beyond_int32_are_void(kernel_device):
    # 2**32 has the low bits of class 0, and 2**32 + 1 those of the first center.
    semantic = torch.tensor([[[2**32, -(2**32), 1, 1, 1]]], device=kernel_device)
    instance = torch.tensor([[[0, 0, 2**32 + 1, -(2**63), 1]]], device=kernel_device)
    panoptic, _ = ops.merge_panoptic(
        semantic, instance, torch.ones(1, 1, device=kernel_device),
        num_classes=2, thing_ids=(1,), label_divisor=10, stuff_area_limit=0,
    )  # fmt: skip
    assert panoptic.tolist() == [[[-1, -1, -1, -1, 11]]]


@few
@given(
    num_images=st.integers(1, 2),
    map_size=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    num_instances=st.sampled_from([0, 1, 9, 60]),
    top_k=st.sampled_from([-1, 1, 400]),
    noise=st.sampled_from([0.0, 0.5, 5.0]),
    dtype=st.sampled_from(FLOATS),
    is_resized=st.booleans(),
    with_probability=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_fused_path(
    kernel_device, monkeypatch, num_images, map_size, num_instances, top_k, noise, dtype,
    is_resized, with_probability, seed,
):  # fmt: skip
    prediction = make_prediction(
        num_images, 6, map_size, num_instances, seed=seed, noise=noise, dtype=dtype
    )
    height, width = (4 * side - 3 for side in map_size)
    frames = Frames.unpadded((height, width))
    if is_resized:
        frames = Frames(
            (height, width),
            (max(height - 2, 1), max(width - 1, 1)),
            (height + 7, max(width // 2, 1)),
        )
    options = {
        "frames": frames,
        "thing_ids": (2, 3, 4),
        "label_divisor": 1000,
        "stuff_area_limit": 20,
        "nms_kernel": 5,
        "top_k_centers": top_k,
        "with_probability": with_probability,
    }
    with ops.use_reference():
        expected = panoptic_from_centers(**prediction, **options)
    maps = to_device(kernel_device, *prediction.values())
    for _ in schedules(kernel_device, monkeypatch):
        ours = panoptic_from_centers(*maps, **options)
        segments = type(ours.segments)(*(column.cpu() for column in ours.segments))
        on_cpu = type(ours)(*(field.cpu() for field in ours[:-1]), segments)
        assert differences(on_cpu, expected) == {}
    assert_equal(maps, prediction.values())


@few
@given(
    sizes=st.sampled_from(
        [((5, 7), (17, 25)), ((6, 6), (6, 6)), ((5, 7), (20, 33)), ((9, 5), (4, 3)),
         ((1, 4), (1, 9)), ((4, 1), (13, 1)), ((3, 3), (1, 1))]
    ),
    num_classes=st.sampled_from([1, 4, 19]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kept=st.sampled_from([0.0, 0.3, 1.0]),
    is_weighted=st.booleans(),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_cross_entropy_and_its_gradient(
    kernel_device, monkeypatch, sizes, num_classes, dtype, kept, is_weighted, seed
):
    generator = torch.Generator().manual_seed(seed)
    low, high = sizes
    logits = torch.randn(2, num_classes, *low, generator=generator, dtype=dtype)
    labels = torch.randint(num_classes, (2, *high), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    weights = torch.rand(2, *high, generator=generator) if is_weighted else None
    gradient = torch.randn(2, *high, generator=generator, dtype=dtype)
    gradient *= torch.rand(2, *high, generator=generator) < kept

    def run(function, device):
        leaf = logits.clone().to(device).requires_grad_()
        on_device = None if weights is None else weights.to(device)
        losses = function(leaf, labels.to(device), on_device, ignore_label=255)
        (backward,) = torch.autograd.grad(losses, leaf, gradient.to(device))
        return losses.detach().cpu(), backward.cpu()

    expected = run(reference.upsampled_cross_entropy, "cpu")
    # Sums of a few numbers of size 1 to 10, in another order.
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    results = []
    for _ in schedules(kernel_device, monkeypatch):
        results.append(run(ops.upsampled_cross_entropy, kernel_device))
        for ours, theirs in zip(results[-1], expected):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert_equal(results[0], results[1])


@few
@given(
    num_pixels=st.sampled_from([0, 1, 15, 16, 17, 1000, 5000]),
    num_labels=st.sampled_from([1, 3, 100, 10**6]),
    factor=st.sampled_from([1, 1000, 2**31]),
    dtypes=st.tuples(
        *[st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64])] * 2
    ),
    max_pairs=st.sampled_from([1, 3, 40, 5000]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_overlap(
    kernel_device, monkeypatch, num_pixels, num_labels, factor, dtypes, max_pairs, seed
):
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        (torch.randint(-1, num_labels, (num_pixels,), generator=generator) * factor).to(dtype)
        for dtype in dtypes
    )
    expected = reference.label_overlap(first, second, max_pairs=max_pairs)
    tensors = to_device(kernel_device, first, second)
    for _ in schedules(kernel_device, monkeypatch):
        assert_equal(ops.label_overlap(*tensors, max_pairs=max_pairs), expected)


def test_overlap_of_the_least_and_the_greatest_label(kernel_device):
    lowest, highest = -(2**63), 2**63 - 1
    first = torch.tensor([lowest, lowest, highest, -1], device=kernel_device)
    second = torch.tensor([lowest, lowest, lowest, highest], device=kernel_device)
    pairs, counts = ops.label_overlap(first, second, max_pairs=4)
    expected = [[lowest, lowest], [-1, highest], [highest, lowest], [0, 0]]
    assert pairs.tolist() == expected and counts.tolist() == [2, 1, 1, 0]


@pytest.mark.parametrize("name", ["group_pixels", "merge_panoptic", "upsampled_cross_entropy"])
def test_a_map_of_2_to_the_31_pixels_is_refused(kernel_device, name):
    # Views of one number: nothing of that size is ever in memory.
    size = (2**16, 2**15)
    number = torch.zeros((), device=kernel_device)
    operator = getattr(torch.ops.deeplab2_d2, name)
    integers = number.int().expand(1, *size)
    with pytest.raises(RuntimeError, match=r"2\*\*31"):
        if name == "group_pixels":
            operator(number.expand(1, 3, 2), integers[:, 0, 0], number.expand(1, 2, *size))
        elif name == "merge_panoptic":
            operator(
                integers, integers, number.expand(1, 3),
                num_classes=2, thing_ids=[1], label_divisor=9, stuff_area_limit=0,
            )  # fmt: skip
        else:
            operator(
                number.expand(1, 3, 2, 2), number.long().expand(1, *size), None,
                scale=[0.0, 0.0], ignore_label=-1,
            )  # fmt: skip
