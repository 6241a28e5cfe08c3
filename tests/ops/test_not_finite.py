"""What is not finite gives what it gives in plain PyTorch: no kernel hides it, none spreads it."""

from dataclasses import dataclass
from typing import Any, Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_schedules import schedules, to_device
from operator_inputs import make_prediction, make_slots
from torch import Tensor

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)
VALUES = [float("nan"), float("inf"), -float("inf")]
# Map and output: stride 4, the same size, larger by no whole factor, smaller, an axis kept, a row.
SIZES = [
    ((5, 7), (17, 25)),
    ((6, 9), (6, 9)),
    ((5, 7), (20, 33)),
    ((9, 5), (4, 3)),
    ((5, 8), (17, 8)),
    ((1, 4), (1, 9)),
]


def frame(sizes):
    """Output size, and the scale that aligns the corners."""
    low, high = sizes
    scale = [(a - 1) / (b - 1) if b > 1 else 0.0 for a, b in zip(low, high)]
    return {"size": high, "scale": tuple(torch.tensor(scale).tolist())}


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        make: sizes and seed to tensors; the first `num_floats` may hold anything.
        run: an implementation (`ops`, or its reference), sizes and tensors to output tensors.
    """

    make: Callable[..., Sequence[Tensor]]
    run: Callable[..., Sequence[Tensor]]
    num_floats: int
    tolerance: float = 0.0
    has_cuda: bool = True


def _heatmap(sizes: Any, seed: int) -> Sequence[Tensor]:
    return [randn(seed, 2, *sizes[0])]


def _find_centers(sizes: Any, heatmap: Tensor) -> Sequence[Tensor]:
    return ops.find_centers(heatmap, **frame(sizes), threshold=0.1, nms_kernel=3, top_k=9)


def _semantic(sizes: Any, seed: int) -> Sequence[Tensor]:
    return [randn(seed, 2, 5, *sizes[0])]


def _resample(sizes: Any, maps: Tensor) -> Sequence[Tensor]:
    return [ops.resample_aligned(maps, **frame(sizes)), ops.resample_argmax(maps, **frame(sizes))]


def _grouping(sizes: Any, seed: int) -> Sequence[Tensor]:
    centers, offsets = 9 * randn(seed, 2, 11, 2), 5 * randn(seed + 1, 2, 2, *sizes[1])
    return [centers, offsets, torch.tensor([11, 7], dtype=torch.int32)]


def _group_pixels(sizes: Any, centers: Tensor, offsets: Tensor, counts: Tensor) -> Sequence[Tensor]:
    return [ops.group_pixels(centers, counts, offsets)]


def _merging(sizes: Any, seed: int) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    semantic = torch.randint(-1, 4, (2, *sizes[1]), generator=generator).int()
    instance = torch.randint(6, (2, *sizes[1]), generator=generator).int()
    return [randn(seed, 2, 5), semantic, instance]


def _merge_panoptic(sizes: Any, scores: Tensor, semantic: Tensor, instance: Tensor) -> Any:
    panoptic, segments = ops.merge_panoptic(
        semantic, instance, scores,
        num_classes=4, thing_ids=(1, 3), label_divisor=100, stuff_area_limit=3,
    )  # fmt: skip
    return [panoptic, *segments]


def _maps(sizes: Any, seed: int) -> Sequence[Tensor]:
    maps = make_prediction(2, 4, sizes[0], 5, seed=seed)
    centers, scores = 9 * randn(seed, 2, 6, 2).abs(), randn(seed + 1, 2, 6)
    counts = torch.tensor([6, 4], dtype=torch.int32)
    return [maps["semantic_logits"], maps["center_offsets"], centers, scores, counts]


def _panoptic_from_logits(sizes: Any, *tensors: Tensor) -> Sequence[Tensor]:
    *fields, segments = ops.panoptic_from_logits(
        *tensors, channel_to_class=(0, -1, 1, 2), thing_ids=(1, 2), **frame(sizes),
        offset_scale=(3.5, 3.5), label_divisor=100, stuff_area_limit=3,
    )  # fmt: skip
    return [*fields[:3], *segments]


def _slots(sizes: Any, seed: int) -> Sequence[Tensor]:
    masks, class_logits = make_slots(2, 7, 3, sizes[0], seed=seed)
    return [3 * masks, 2 * class_logits]


def _panoptic_from_slots(is_mask_wise: bool) -> Callable[..., Sequence[Tensor]]:
    def run(sizes: Any, masks: Tensor, class_logits: Tensor) -> Sequence[Tensor]:
        *fields, segments, segment_slot = ops.panoptic_from_slots(
            masks, class_logits, channel_to_class=(0, 2, 1), thing_ids=(1,), **frame(sizes),
            label_divisor=100, is_mask_wise=is_mask_wise, class_thresholds=(0.4, 0.3),
            mask_threshold=0.4, overlap_threshold=0.5, rank_weights=(1.0, 0.5), area_limits=(2, 3),
        )  # fmt: skip
        return [*fields, *segments, segment_slot]

    return run


def _loss(sizes: Any, seed: int) -> Sequence[Tensor]:
    low, high = sizes
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (2, *high), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    gradient = randn(seed + 1, 2, *high)
    # Whole rows, too, whose pixels a kernel leaves out.
    gradient *= torch.rand(2, *high, generator=generator) < 0.4
    gradient[0] = 0.0
    return [randn(seed, 2, 4, *low), torch.rand(2, *high, generator=generator), gradient, labels]


def _cross_entropy(sizes: Any, logits: Tensor, weights: Tensor, gradient: Tensor, labels: Tensor):
    leaf = logits.clone().requires_grad_()
    losses = ops.upsampled_cross_entropy(leaf, labels, weights, ignore_label=255)
    return [losses.detach(), *torch.autograd.grad(losses, leaf, gradient)]


def _window(sizes: Any, seed: int) -> Sequence[Tensor]:
    segment_map = torch.randint(4, sizes[1], generator=torch.Generator().manual_seed(seed)).int()
    return [randn(seed, 5, 5).abs(), segment_map]


def _targets(sizes: Any, window: Tensor, segment_map: Tensor) -> Sequence[Tensor]:
    return ops.panoptic_targets(
        segment_map, torch.arange(3), torch.tensor([True, True, False]), torch.zeros(3).bool(),
        window, window_before=2, ignore_label=255, small_instance_area=9,
        small_instance_weight=3.0,
    )  # fmt: skip


CASES = {
    "find_centers": Case(_heatmap, _find_centers, 1),
    "resampling": Case(_semantic, _resample, 1),
    "group_pixels": Case(_grouping, _group_pixels, 2),
    "merge_panoptic": Case(_merging, _merge_panoptic, 1),
    # Exponentials are not the same on every device: tests/operator_inputs.py.
    "panoptic_from_logits": Case(_maps, _panoptic_from_logits, 4, tolerance=2e-6),
    "slots_pixel_wise": Case(_slots, _panoptic_from_slots(False), 2),
    "slots_mask_wise": Case(_slots, _panoptic_from_slots(True), 2),
    # Sums of a few numbers of size 1 to 10, in another order.
    "cross_entropy": Case(_loss, _cross_entropy, 3, tolerance=1e-5),
    "panoptic_targets": Case(_window, _targets, 1, has_cuda=False),
}
random_plants = given(
    sizes=st.sampled_from(SIZES),
    # Values of one kind in one tensor: 0 times infinity and an exponential that is nearly 0 are
    # not worth an equal NaN.
    value=st.sampled_from(VALUES),
    share=st.sampled_from([0.01, 0.05, 0.3, 1.0]),
    which=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
plenty = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def plant(case: Case, sizes: Any, value: float, share: float, which: int, seed: int):
    tensors = list(case.make(sizes, seed))
    planted = tensors[which % case.num_floats]
    generator = torch.Generator().manual_seed(seed + 1)
    planted[torch.rand(planted.shape, generator=generator) < share] = value
    return tensors


def assert_alike(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float) -> None:
    for left, right in zip(ours, theirs):
        assert left.dtype == right.dtype
        torch.testing.assert_close(
            left.cpu(), right, rtol=tolerance, atol=tolerance, equal_nan=True
        )


@needs_extension
@pytest.mark.parametrize("name", CASES)
@plenty
@random_plants
def test_kernel_gives_what_the_reference_gives(name, sizes, value, share, which, seed):
    case = CASES[name]
    tensors = plant(case, sizes, value, share, which, seed)
    ours = case.run(sizes, *tensors)
    with ops.use_reference():
        assert_alike(ours, case.run(sizes, *tensors), case.tolerance)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.has_cuda])
@settings(plenty, max_examples=50)
@random_plants
def test_cuda_kernel_gives_what_the_reference_gives(
    name, kernel_device, monkeypatch, sizes, value, share, which, seed
):
    case = CASES[name]
    tensors = plant(case, sizes, value, share, which, seed)
    with ops.use_reference():
        expected = case.run(sizes, *tensors)
    for _ in schedules(kernel_device, monkeypatch):
        ours = case.run(sizes, *to_device(kernel_device, *tensors))
        assert_alike(ours, expected, case.tolerance)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", VALUES[:2])
def test_logit_of_another_class_is_not_hidden_by_the_loss(value):
    logits = torch.tensor([1.0, value, 2.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    losses = ops.upsampled_cross_entropy(logits, labels, None, ignore_label=255)
    losses.sum().backward()
    assert losses.isnan().all() and logits.grad.isnan().all()


@pytest.mark.usefixtures("both_ways")
def test_class_that_is_masked_by_minus_infinity_has_no_part_in_the_loss():
    logits = torch.tensor([1.0, -float("inf"), 2.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    labels = torch.zeros(1, 3, 3, dtype=torch.int64)
    losses = ops.upsampled_cross_entropy(logits, labels, None, ignore_label=255)
    expected = torch.tensor([1.0, 2.0]).logsumexp(0) - 1.0
    # Only between pixels: 0 times -infinity, at a pixel, is NaN, as in PyTorch.
    torch.testing.assert_close(losses[0, 1, 1], expected)


def test_center_that_is_not_a_number_hides_no_other():
    centers = torch.zeros(1, 3, 2)
    centers[0, 0] = float("nan")
    counts, offsets = torch.tensor([3], dtype=torch.int32), torch.zeros(1, 2, 4, 4)
    for function in (ops.group_pixels, reference.group_pixels):
        assert (function(centers, counts, offsets) == 2).all()
