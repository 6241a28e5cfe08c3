"""Mask slots to panoptic labels: the kernels equal plain PyTorch, and both the rules."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_inputs import differences, make_slots

from deeplab2_d2 import ops
from deeplab2_d2.ops.reference.exponential import (
    exp_nonpositive,
    exp_nonpositive_double,
    log_positive,
)

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)

OPTIONS = {
    "channel_to_class": (0, 1),
    "thing_ids": (0,),
    "label_divisor": 10,
    "is_mask_wise": False,
    "class_thresholds": (0.7, 0.7),
    "mask_threshold": 0.4,
    "overlap_threshold": 0.5,
    "rank_weights": (1.0, 0.0),
    "area_limits": (0, 0),
}


def aligned_scale(map_size, size):
    """As FrameGeometry: a quotient rounded to float32."""
    return tuple(
        torch.tensor((low - 1) / (high - 1)).item() if high > 1 else 0.0
        for low, high in zip(map_size, size)
    )


def run(mask_logits, class_logits, **changes):
    size = tuple(mask_logits.shape[2:])
    options = {**OPTIONS, "size": size, **changes}
    options.setdefault("scale", aligned_scale(mask_logits.shape[2:], options["size"]))
    return ops.panoptic_from_slots(mask_logits, class_logits, **options)


def class_logits_of(*probabilities):
    """(1, S, 3): each slot's channel 0, channel 1 and void with these probabilities."""
    return torch.tensor(probabilities, dtype=torch.float32).log()[None]


@pytest.mark.usefixtures("both_ways")
def test_pixel_wise_takes_the_largest_logit_if_class_and_pixel_are_confident():
    # Slot 0 is a thing, slot 1 stuff; slot 2 is a thing too, but its class is not confident.
    class_logits = class_logits_of((0.9, 0.05, 0.05), (0.05, 0.8, 0.15), (0.6, 0.1, 0.3))
    masks = torch.tensor(
        # Pixel 2 is slot 2's: void. Pixel 3 is a tie: the first, with probability 1 / 2.
        [[[5.0, 0.0, 0.0, 0.0]], [[0.0, 5.0, 0.0, 0.0]], [[0.0, 0.0, 5.0, -1.0]]]
    )[None]
    result = run(masks, class_logits)
    assert result.panoptic_map.tolist() == [[[1, 10, -1, 1]]]
    assert result.semantic_map.tolist() == [[[0, 1, 0, 0]]]
    # A pixel below a threshold still has a slot: the best of the confident ones.
    assert result.slot_map.tolist() == [[[0, 1, 0, 0]]]
    sure = 1 / (1 + math.exp(-5))
    expected = torch.tensor([[[sure, sure, 0.5, 0.5]]])
    torch.testing.assert_close(result.mask_confidence, expected, rtol=1e-6, atol=0)
    table = result.segments
    # Rows: things of slots 0, 1, 2, then stuff of classes 0, 1.
    assert table.panoptic_label.tolist() == [[1, -1, -1, -1, 10]]
    assert table.area.tolist() == [[2, 0, 0, 0, 1]]
    assert table.box[0, [0, 4]].tolist() == [[0, 0, 1, 4], [0, 1, 1, 2]]
    assert result.segment_slot.tolist() == [[0, -1, -1, -1, 1]]
    assert table.objectness[0, 0].item() == pytest.approx((sure + 0.5) / 2, abs=1e-6)
    assert table.class_probability[0, [0, 4]].tolist() == pytest.approx([0.9, 0.8], abs=1e-6)


@pytest.mark.usefixtures("both_ways")
def test_a_pixel_whose_probability_is_the_threshold_is_void():
    class_logits = class_logits_of((0.9, 0.05, 0.05), (0.9, 0.05, 0.05))
    # Two equal slots: probability 1 / 2 exactly.
    result = run(torch.zeros(1, 2, 1, 1), class_logits, mask_threshold=0.5)
    assert result.panoptic_map.tolist() == [[[-1]]]
    result = run(torch.zeros(1, 2, 1, 1), class_logits, mask_threshold=0.49)
    assert result.panoptic_map.tolist() == [[[1]]]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    "overlap_threshold, expected", [(0.2, [2, 1, 1, 1]), (0.25, [-1, 1, 1, 1])]
)
def test_mask_wise_pastes_what_is_free_unless_that_is_too_little(overlap_threshold, expected):
    # Both masks cover pixels 1 to 3, slot 0 also pixel 0. Slot 1 is more confident: it is first
    # (number 1); of slot 0 a quarter is free.
    masks = torch.zeros(1, 2, 1, 4)
    masks[0, 1, 0, 0] = -20.0
    class_logits = class_logits_of((0.8, 0.1, 0.1), (0.9, 0.05, 0.05))
    result = run(masks, class_logits, is_mask_wise=True, overlap_threshold=overlap_threshold)
    assert result.panoptic_map.tolist() == [[expected]]
    assert result.slot_rank.tolist() == [[1, 0]]
    assert result.slot_map.tolist() == [[[{2: 0, 1: 1, -1: -1}[label] for label in expected]]]


@pytest.mark.usefixtures("both_ways")
def test_masks_are_ordered_by_powers_of_class_and_mean_mask_confidence():
    # Mask means: slot 0 1 / (1 + e^-1) = 0.731 at its pixel, slot 1 1 / (1 + e^-3) = 0.953.
    masks = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]]]])
    class_logits = class_logits_of((0.9, 0.05, 0.05), (0.8, 0.1, 0.1))

    def ranks(class_weight, mask_weight):
        result = run(
            masks, class_logits, is_mask_wise=True,
            rank_weights=(class_weight, mask_weight),
        )  # fmt: skip
        return result.slot_rank.tolist()

    assert ranks(1.0, 0.0) == [[0, 1]]
    assert ranks(0.0, 1.0) == [[1, 0]]
    assert ranks(0.0, 0.0) == [[0, 1]]  # a tie
    # (0.9 / 0.8) ^ a against (0.953 / 0.731) ^ b: 0.118 a against 0.265 b.
    assert ranks(1.0, 0.4) == [[0, 1]]
    assert ranks(1.0, 0.5) == [[1, 0]]


@pytest.mark.usefixtures("both_ways")
def test_a_class_that_is_impossible_is_last_in_the_order():
    # Of slot 0, void is e^200 times as probable as the best class: in float32 that is 0.
    class_logits = torch.tensor([[[0.0, -9.0, 200.0], [3.0, -9.0, 9.0], [0.0, -9.0, 4.0]]])
    result = run(torch.zeros(1, 3, 2, 2), class_logits, is_mask_wise=True)
    assert result.class_confidence[0, 0] == 0.0
    assert result.slot_rank.tolist() == [[2, 1, 0]]


@pytest.mark.usefixtures("both_ways")
def test_slots_of_one_stuff_class_join_and_count_together_for_the_limit():
    # Stuff (class 1) in slots 0 and 1, two pixels and one; a thing of two pixels in slot 2.
    masks = torch.full((1, 3, 1, 5), -9.0)
    for pixel, slot in enumerate((0, 0, 1, 2, 2)):
        masks[0, slot, 0, pixel] = 9.0
    class_logits = class_logits_of((0.05, 0.9, 0.05), (0.1, 0.8, 0.1), (0.9, 0.05, 0.05))
    kept = run(masks, class_logits, area_limits=(2, 3))
    assert kept.panoptic_map.tolist() == [[[10, 10, 10, 3, 3]]]
    assert kept.segments.area.tolist() == [[0, 0, 2, 0, 3]]
    # The mean over the pixels of the slots' confidences, and the slot of the most pixels.
    assert kept.segments.class_probability[0, 4].item() == pytest.approx(2.6 / 3, abs=1e-6)
    assert kept.segment_slot.tolist() == [[-1, -1, 2, -1, 0]]
    smaller = run(masks, class_logits, area_limits=(3, 4))
    assert smaller.panoptic_map.tolist() == [[[-1, -1, -1, -1, -1]]]
    assert smaller.segments.area.sum() == 0
    assert smaller.segments.box.abs().sum() == 0
    assert smaller.slot_map.tolist() == kept.slot_map.tolist()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_without_a_confident_slot_all_is_void_but_the_semantic_map(is_mask_wise):
    masks, class_logits = make_slots(2, 5, 3, (4, 5))
    result = run(
        masks, class_logits, channel_to_class=(0, 1, 2), is_mask_wise=is_mask_wise,
        class_thresholds=(1.1, 1.1),
    )  # fmt: skip
    assert torch.equal(result.panoptic_map, torch.full_like(result.panoptic_map, -1))
    assert torch.equal(result.slot_map, torch.full_like(result.slot_map, -1))
    assert result.mask_confidence.abs().sum() == 0
    assert result.segments.area.sum() == 0
    best = class_logits[:, :, :-1].argmax(dim=2)
    assert torch.equal(
        result.semantic_map.flatten(1).long(), best.gather(1, masks.argmax(dim=1).flatten(1))
    )


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    num_images=st.integers(0, 2),
    num_slots=st.sampled_from([1, 2, 3, 11]),
    num_classes=st.sampled_from([1, 2, 5]),
    map_size=st.tuples(st.integers(1, 7), st.integers(1, 24)),
    kind=st.sampled_from(["stride 4", "full", "resized"]),
    is_mask_wise=st.booleans(),
    mask_threshold=st.sampled_from([0.334, 0.4, 0.5, 0.7]),
    class_threshold=st.sampled_from([0.0, 0.6, 0.95]),
    overlap_threshold=st.sampled_from([0.0, 0.3, 0.8]),
    rank_weights=st.sampled_from([(0.0, 0.0), (1.0, 0.0), (0.5, 0.7), (1.0, 1.0)]),
    area_limits=st.sampled_from([(0, 0), (5, 20)]),
    is_rounded=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_kernels_equal_the_reference(
    num_images, num_slots, num_classes, map_size, kind, is_rounded, dtype, seed, class_threshold,
    **options
):  # fmt: skip
    masks, class_logits = make_slots(
        num_images, num_slots, num_classes, map_size, seed=seed, is_rounded=is_rounded, dtype=dtype
    )
    size = tuple(4 * side - 3 for side in map_size)
    if kind != "stride 4":
        size = map_size if kind == "full" else (size[0] + 7, max(size[1] // 2, 1))
    things = range(seed % (num_classes + 1))
    options.update(
        size=size, channel_to_class=tuple(range(num_classes)), thing_ids=tuple(things),
        class_thresholds=(class_threshold, class_threshold / 2), label_divisor=1000,
    )  # fmt: skip
    before = masks.clone(), class_logits.clone()
    ours = run(masks, class_logits, **options)
    with ops.use_reference():
        theirs = run(masks, class_logits, **options)
    # Floats too: exponentials are spelled out, sums are of integers.
    assert differences(ours, theirs, tolerance=0.0) == {}
    assert torch.equal(masks, before[0]) and torch.equal(class_logits, before[1])


@needs_extension
@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_strides_of_the_inputs_and_threads_change_nothing(is_mask_wise):
    masks, class_logits = make_slots(2, 12, 4, (33, 41))
    options = {
        "channel_to_class": (0, 1, 2, 3), "is_mask_wise": is_mask_wise, "size": (129, 161),
        "rank_weights": (1.0, 1.0), "class_thresholds": (0.5, 0.5), "label_divisor": 100,
    }  # fmt: skip
    expected = run(masks, class_logits, **options)
    assert expected.segments.area.sum() > 0
    strided = masks.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    swapped = class_logits.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous() and not swapped.is_contiguous()
    assert differences(run(strided, swapped, **options), expected, tolerance=0.0) == {}
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            ours = run(masks, class_logits, **options)
            assert differences(ours, expected, tolerance=0.0) == {}
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mask_logits": torch.zeros(1, 2, 4)}, r"mask_logits must be \(N, S, h, w\)"),
        ({"mask_logits": torch.zeros(1, 0, 4, 4)}, "mask_logits must have 1 to 1024 slots"),
        ({"mask_logits": torch.zeros(1, 2, 4, 4).int()}, "mask_logits must be float, got"),
        ({"class_logits": torch.zeros(1, 2, 4)}, r"class_logits must be \(1, 2, 3\)"),
        ({"class_logits": torch.zeros(1, 2, 3, device="meta")}, "must be on cpu, got meta"),
        ({"channel_to_class": (1, 1)}, r"channel_to_class must be different ids .* \(1, 1\)"),
        ({"thing_ids": (2,)}, r"thing_ids must be in \[0, 2\), got 2"),
        ({"label_divisor": 2}, "label_divisor must be more than the 2 slots, got 2"),
        ({"size": (0, 4)}, "size must be"),
        ({"is_mask_wise": True, "mask_threshold": 0.3}, "mask_threshold .* 0.334 .* got 0.3"),
        ({"rank_weights": (-1.0, 0.0)}, r"rank_weights must be finite and at least 0, got \(-1"),
        ({"rank_weights": (0.0, math.inf)}, r"rank_weights must be finite .* got \(0.0, inf"),
        ({"scale": (-1.0, 1.0)}, r"scale must be at least 0 and .* got \(-1.0, 1.0\)"),
        ({"scale": (1.0, math.nan)}, "scale must be at least 0"),
        ({"scale": (1.0, 2.0**30)}, r"positions less than 2\*\*31, got .* a size of \(4, 4\)"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"mask_logits": torch.zeros(1, 2, 4, 4), "class_logits": torch.zeros(1, 2, 3)}
    arguments = {**arguments, **OPTIONS, "size": (4, 4), "scale": (1.0, 1.0), **change}
    with pytest.raises(ValueError, match=message):
        ops.panoptic_from_slots(**arguments)


@needs_extension
@pytest.mark.parametrize(
    "change, message",
    [
        ({"mask_logits": torch.zeros(1, 2, 4)}, r"mask_logits must be \(N, S, h, w\).*got \[1, 2"),
        ({"mask_logits": torch.zeros(1, 2000, 1, 1)}, "1 to 1024 slots"),
        ({"class_logits": torch.zeros(1, 2, 4)}, r"class_logits must be \(1, 2, 3\).*\[1, 2, 4\]"),
        ({"class_logits": torch.zeros(1, 2, 3).int()}, "must be float, got float and int"),
        ({"channel_to_class": (0, 0)}, "channel_to_class must be different ids"),
        ({"thing_ids": (2,)}, r"thing_ids must be in \[0, 2\), got 2"),
        ({"label_divisor": 2}, "label_divisor must be more than the 2 slots, got 2"),
        ({"size": (2**16, 2**16)}, "size must be"),
        ({"scale": (-1.0, 1.0)}, "scale must be two numbers of at least 0"),
        ({"is_mask_wise": True, "mask_threshold": 0.3}, "mask_threshold .* got 0.3"),
        ({"scale": (1.0, 2.0**30)}, r"positions less than 2\*\*31, got .* a size of \[4, 4\]"),
        (
            {"rank_weights": (math.nan, 0.0)},
            "rank_weights must be two finite numbers of at least 0",
        ),
        ({"rank_weights": (0.0, math.inf)}, "rank_weights must be two finite numbers"),
    ],
)
def test_the_kernel_checks_its_arguments_itself(change, message):
    arguments = {"mask_logits": torch.zeros(1, 2, 4, 4), "class_logits": torch.zeros(1, 2, 3)}
    arguments = {**arguments, **OPTIONS, "size": (4, 4), "scale": (1.0, 1.0), **change}
    tensors = (arguments.pop("mask_logits"), arguments.pop("class_logits"))
    with pytest.raises(RuntimeError, match=message):
        torch.ops.deeplab2_d2.panoptic_from_slots(*tensors, **arguments)


@needs_extension
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_logits_that_are_not_finite_give_labels_that_exist(value, is_mask_wise):
    # The result is not specified, but it is one: no memory error, no label out of range.
    masks, class_logits = make_slots(1, 6, 2, (5, 30))
    masks[0, ::2, 1:4, 3:20] = value
    class_logits[0, 1] = value
    result = run(masks, class_logits, is_mask_wise=is_mask_wise, size=(17, 117))
    allowed = {-1, *result.segments.panoptic_label.flatten().tolist()}
    assert set(result.panoptic_map.flatten().tolist()) <= allowed
    assert result.slot_map.min() >= -1 and result.slot_map.max() < 6


@needs_extension
@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_operator_is_registered_as_torch_expects(is_mask_wise):
    masks, class_logits = make_slots(2, 5, 3, (5, 7))
    options = {
        **OPTIONS, "channel_to_class": [0, 1, 2], "size": [17, 25], "scale": [0.25, 0.25],
        "is_mask_wise": is_mask_wise, "rank_weights": [1.0, 1.0],
    }  # fmt: skip
    operator = torch.ops.deeplab2_d2.panoptic_from_slots.default
    torch.library.opcheck(operator, (masks, class_logits), options)


class Labels(torch.nn.Module):
    def forward(self, masks, class_logits):
        size, scale = (33, 49), (0.25, 0.25)
        return tuple(
            ops.panoptic_from_slots(masks, class_logits, **OPTIONS, size=size, scale=scale)[:2]
        )


@needs_extension
@pytest.mark.slow
def test_operator_compiles_without_a_graph_break_and_exports():
    inputs = make_slots(1, 6, 2, (9, 13))
    expected = Labels()(*inputs)
    compiled = torch.compile(Labels(), fullgraph=True, backend="aot_eager")
    exported = torch.export.export(Labels(), inputs).module()
    for function in (compiled, exported):
        for ours, theirs in zip(function(*inputs), expected):
            assert torch.equal(ours, theirs)


def test_exponentials_and_logarithms_are_as_close_as_they_say():
    x = torch.linspace(-80.0, 0.0, 100001)
    exact = x.double().exp()
    assert ((exp_nonpositive(x).double() - exact) / exact).abs().max() < 2.6e-7
    x = torch.linspace(-690.0, 0.0, 100001, dtype=torch.float64)
    assert ((exp_nonpositive_double(x) - x.exp()) / x.exp()).abs().max() < 1e-15
    y = torch.rand(100001, dtype=torch.float64) ** 8 + 1e-30
    assert (log_positive(y) - y.log()).abs().max() < 2e-14


@pytest.mark.gpu
@pytest.mark.parametrize("is_mask_wise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(129, 161), (100, 77), (33, 41), (1, 1)])
def test_gpu_equals_the_reference_on_the_cpu(is_mask_wise, dtype, size):
    for seed, is_rounded in enumerate((False, True)):
        masks, class_logits = make_slots(
            2, 21, 4, (33, 41), seed=seed, is_rounded=is_rounded, dtype=dtype
        )
        options = {
            "channel_to_class": (0, 1, 2, 3), "thing_ids": (1, 3), "is_mask_wise": is_mask_wise,
            "size": size, "rank_weights": (1.0, 0.5), "class_thresholds": (0.5, 0.4),
            "label_divisor": 100, "area_limits": (10, 30),
        }  # fmt: skip
        expected = run(False, masks, class_logits, **options)
        ours = run(masks.cuda(), class_logits.cuda(), **options)
        ours = type(ours)(
            *(field.cpu() if torch.is_tensor(field) else field for field in ours[:6]),
            type(ours.segments)(*(column.cpu() for column in ours.segments)),
            ours.segment_slot.cpu(),
        )
        assert differences(ours, expected, tolerance=0.0) == {}


@pytest.mark.gpu
@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_gpu_graph_replays_and_memory_stays_small(is_mask_wise):
    masks, class_logits = (inputs.cuda() for inputs in make_slots(1, 128, 20, (129, 257)))
    options = {
        "channel_to_class": tuple(range(20)), "is_mask_wise": is_mask_wise, "size": (513, 1025),
        "rank_weights": (1.0, 1.0), "label_divisor": 1000, "class_thresholds": (0.3, 0.3),
    }  # fmt: skip
    run(masks, class_logits, **options)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    expected = run(masks, class_logits, **options)
    held = torch.cuda.memory_allocated() - before
    assert torch.cuda.max_memory_allocated() - before - held <= 16 * 2**20
    graph = torch.cuda.CUDAGraph()
    # Capturing fails at any synchronisation with the host.
    with torch.cuda.graph(graph):
        captured = run(masks, class_logits, **options)
    captured.panoptic_map.fill_(-7)
    graph.replay()
    torch.cuda.synchronize()
    assert differences(captured, expected, tolerance=0.0) == {}
