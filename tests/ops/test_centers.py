"""Centers are found as DeepLab2 finds them, by the reference and by the kernel."""

import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
IMPLEMENTATIONS = [
    pytest.param(reference.find_centers, id="reference"),
    pytest.param(ops.find_centers, id="operator"),
]


def find(function, heatmap, *, threshold=0.1, nms_kernel=3, top_k=4):
    heatmap = torch.as_tensor(heatmap, dtype=torch.float32)[None]
    centers, scores, counts = function(
        heatmap, tuple(heatmap.shape[1:]), (1.0, 1.0),
        threshold=threshold, nms_kernel=nms_kernel, top_k=top_k,
    )  # fmt: skip
    count = int(counts[0])
    assert not centers[0, count:].any() and not scores[0, count:].any()
    return centers[0, :count].tolist(), scores[0, :count].tolist()


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_only_the_largest_of_a_window_above_the_threshold_is_kept(function):
    # 0.375 has 0.5 in its window of 3, and 0.25 has 0.375; 0.0625 is below the threshold.
    centers, scores = find(function, [[0.5, 0.375, 0.25, 0.0, 0.0, 0.0625]])
    assert centers == [[0, 0]] and scores == [0.5]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_even_window_reaches_one_pixel_further_right(function):
    # Window of 2: x .. x + 1. 0.5 at x=1 is hidden by 0.75 at x=2; 0.5 at x=3 is not hidden by it.
    assert find(function, [[0.0, 0.5, 0.75, 0.5]], nms_kernel=2)[0] == [[0, 2], [0, 3]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_equal_values_of_a_window_are_all_kept(function):
    assert find(function, [[0.5, 0.5, 0.0]])[0] == [[0, 0], [0, 1]]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_top_k_prefers_high_scores_then_raster_order_and_returns_raster_order(function):
    row = [0.25, 0.0, 0.5, 0.0, 0.25, 0.0, 0.25, 0.0, 0.75]
    centers, scores = find(function, [row], top_k=3)
    assert centers == [[0, 0], [0, 2], [0, 8]] and scores == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_top_k_of_zero_keeps_all(function):
    heatmap = torch.zeros(1, 9, 9)
    heatmap[0, ::3, ::3] = 0.5
    centers, scores, counts = function(
        heatmap, (9, 9), (1.0, 1.0), threshold=0.1, nms_kernel=3, top_k=0
    )
    assert centers.shape == (1, 9, 2) and counts.tolist() == [9]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_no_center_gives_one_empty_row_when_all_are_kept(function):
    centers, scores, counts = function(
        torch.zeros(2, 3, 3), (3, 3), (1.0, 1.0), threshold=0.1, nms_kernel=3, top_k=-1
    )
    assert centers.tolist() == [[[0, 0]]] * 2 and counts.tolist() == [0, 0]


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_values_that_are_not_positive_are_never_centers(function):
    assert find(function, [[-0.5, 0.0, -0.25]], threshold=-1.0)[0] == []


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 80),
    up=st.sampled_from([1, 2, 4, 3.3]),
    nms_kernel=st.integers(1, 14),
    top_k=st.sampled_from([-1, 1, 3, 400]),
    levels=st.sampled_from([2, 5, 1000]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_the_reference(height, width, up, nms_kernel, top_k, levels, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.randint(-1, levels, (2, height, width), generator=generator) / levels
    heatmap = heatmap.to(dtype)
    size = (int((height - 1) * up) + 1, int((width - 1) * up) + 1)
    scale = tuple(
        float(torch.tensor((low - 1) / (high - 1) if high > 1 else 0.0))
        for low, high in zip((height, width), size)
    )
    before = heatmap.clone()
    options = {"threshold": 0.1, "nms_kernel": nms_kernel, "top_k": top_k}
    ours = ops.find_centers(heatmap, size, scale, **options)
    theirs = reference.find_centers(heatmap, size, scale, **options)
    for left, right in zip(ours, theirs):
        assert torch.equal(left, right)
    assert torch.equal(heatmap, before)


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    nms_kernel=st.sampled_from([1, 2, 3, 8, 31, 64, 10**9]),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_windows_of_any_side_on_plateaus(size, nms_kernel, share, seed):
    generator = torch.Generator().manual_seed(seed)
    heatmap = (torch.rand(1, *size, generator=generator) < share).float()
    heatmap *= torch.randint(1, 4, (1, *size), generator=generator)
    options = {"threshold": 0.1, "top_k": 9}
    ours = ops.find_centers(heatmap, size, (1.0, 1.0), nms_kernel=nms_kernel, **options)
    # The reference's padding is as large as the window.
    side = min(nms_kernel, 81)
    theirs = reference.find_centers(heatmap, size, (1.0, 1.0), nms_kernel=side, **options)
    for left, right in zip(ours, theirs):
        assert torch.equal(left, right)


@needs_extension
def test_time_does_not_grow_with_the_area_of_the_window():
    def seconds(nms_kernel):
        options = {"threshold": 0.1, "nms_kernel": nms_kernel, "top_k": 200}
        times = []
        for _ in range(3):
            start = time.perf_counter()
            ops.find_centers(torch.ones(1, 129, 257), (129, 257), (1.0, 1.0), **options)
            times.append(time.perf_counter() - start)
        return min(times)

    # The sides' ratio is 34, the areas' 1133.
    assert seconds(101) < 100 * seconds(3)


@pytest.mark.parametrize(
    "heatmap, options, message",
    [
        (torch.zeros(1, 1, 4, 4), {}, r"heatmap must be \(N, h, w\), got \(1, 1, 4, 4\)"),
        (torch.zeros(1, 4, 4), {"nms_kernel": 0}, "nms_kernel must be at least 1, got 0"),
        (torch.zeros(1, 4, 4), {"size": (0, 4)}, r"size must be .*, got \(0, 4\)"),
        (torch.zeros(1, 4, 4), {"scale": (math.nan, 1.0)}, "scale must be at least 0"),
        (torch.zeros(1, 4, 4), {"scale": (1e30, 1.0)}, r"positions less than 2\*\*31"),
    ],
)
def test_wrong_arguments_are_named(heatmap, options, message):
    size, scale = options.pop("size", (4, 4)), options.pop("scale", (1.0, 1.0))
    options = {"threshold": 0.1, "nms_kernel": 3, "top_k": 4, **options}
    with pytest.raises(ValueError, match=message):
        ops.find_centers(heatmap, size, scale, **options)


@needs_extension
def test_kernel_refuses_positions_beyond_its_integers():
    with pytest.raises(RuntimeError, match="find_centers: scale must be two numbers"):
        torch.ops.deeplab2_d2.find_centers(
            torch.zeros(1, 4, 4), [4, 4], [1e30, 1.0], threshold=0.1, nms_kernel=3, top_k=4
        )


@needs_extension
def test_kernel_refuses_integers():
    with pytest.raises(RuntimeError, match="heatmap must be float, got"):
        ops.find_centers(
            torch.zeros(1, 4, 4, dtype=torch.int32), (4, 4), (1.0, 1.0),
            threshold=0.1, nms_kernel=3, top_k=4,
        )  # fmt: skip


@needs_extension
def test_operator_is_registered_as_torch_expects():
    torch.library.opcheck(
        torch.ops.deeplab2_d2.find_centers.default,
        (torch.rand(2, 5, 7), [17, 25], [0.25, 0.25]),
        {"threshold": 0.1, "nms_kernel": 3, "top_k": 5},
    )
