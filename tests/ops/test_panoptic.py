"""The fused path equals its steps in plain PyTorch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_inputs import differences, make_prediction

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers
from deeplab2_d2.structures import ClassMap

needs_extension = pytest.mark.skipif(
    not ops.has_extension(), reason="the compiled operators are not built"
)


def process(prediction, size, **options):
    options = {
        "input_size": size,
        "image_size": size,
        "output_size": size,
        "thing_ids": (2, 3, 4),
        "label_divisor": 1000,
        "stuff_area_limit": 20,
        "nms_kernel": 5,
        "top_k_centers": 400,
        **options,
    }
    frames = Frames(*(options.pop(f"{name}_size") for name in ("input", "image", "output")))
    return panoptic_from_centers(**prediction, frames=frames, **options)


@needs_extension
@settings(max_examples=60, deadline=None)
@given(
    num_images=st.integers(1, 3),
    map_size=st.tuples(st.integers(1, 9), st.integers(1, 80)),
    kind=st.sampled_from(["stride 4", "full", "resized"]),
    num_instances=st.sampled_from([0, 1, 9, 60]),
    top_k=st.sampled_from([-1, 1, 5, 400]),
    noise=st.sampled_from([0.0, 0.5, 5.0]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    with_probability=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_kernels_equal_the_reference(
    num_images, map_size, kind, num_instances, top_k, noise, dtype, with_probability, seed
):
    prediction = make_prediction(
        num_images, 6, map_size, num_instances, seed=seed, noise=noise, dtype=dtype
    )
    height, width = (4 * side - 3 for side in map_size)
    size = (height, width) if kind != "full" else map_size
    options = {"top_k_centers": top_k, "with_probability": with_probability}
    if kind == "resized":
        options["image_size"] = (max(height - 2, 1), max(width - 1, 1))
        options["output_size"] = (height + 7, max(width // 2, 1))
    before = [maps.clone() for maps in prediction.values()]
    ours = process(prediction, size, **options)
    with ops.use_reference():
        theirs = process(prediction, size, **options)
    assert differences(ours, theirs) == {}
    for maps, copy in zip(prediction.values(), before):
        assert torch.equal(maps, copy)


@pytest.mark.usefixtures("both_ways")
def test_channel_that_stands_for_void_stays_void():
    # Channel 0 wins on the left, channel 2 (class 1) on the right.
    logits = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]], [[1.0, 2.0]]]])
    prediction = make_prediction(1, 3, (1, 2), 0)
    prediction = {**prediction, "semantic_logits": logits}
    result = process(
        prediction,
        (1, 2),
        class_map=ClassMap((-1, 0, 1)),
        thing_ids=(),
        stuff_area_limit=0,
    )
    assert result.semantic_map.tolist() == [[[-1, 1]]]
    assert result.panoptic_map.tolist() == [[[-1, 1000]]]


@pytest.mark.usefixtures("both_ways")
def test_class_probability_is_the_mean_of_the_segments_class_where_outvoted_too():
    # One instance of three pixels; class 2 wins twice, class 3 once.
    logits = torch.full((1, 4, 1, 3), -30.0)
    logits[0, 2] = torch.tensor([[2.0, 2.0, 0.0]])
    logits[0, 3] = torch.tensor([[0.0, 0.0, 1.0]])
    heatmap = torch.tensor([[[[0.5, 0.0, 0.0]]]])
    prediction = {
        "semantic_logits": logits,
        "center_heatmap": heatmap,
        "center_offsets": torch.zeros(1, 2, 1, 3),
    }
    result = process(prediction, (1, 3), thing_ids=(2, 3))
    assert result.panoptic_map.tolist() == [[[2001, 2001, 2001]]]
    two, one = torch.tensor([2.0, -1.0]).sigmoid().tolist()
    # Exponentials and 2**-24 as the unit of sums.
    assert result.segments.class_probability[0, 0].item() == pytest.approx(
        (2 * two + one) / 3, abs=1e-6
    )


@needs_extension
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_number_of_threads_changes_nothing(num_threads):
    prediction = make_prediction(2, 6, (33, 41), 12)
    expected = process(prediction, (129, 161))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        ours = process(prediction, (129, 161))
    finally:
        torch.set_num_threads(before)
    assert differences(ours, expected, tolerance=0.0) == {}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"center_offsets": torch.zeros(1, 2, 3, 3)}, r"center_offsets must be \(1, 2, 4, 4\)"),
        ({"num_centers": torch.zeros(2, dtype=torch.int32)}, r"num_centers must be \(1,\)"),
        ({"thing_ids": (9,)}, r"thing_ids must be in \[0, 3\), got 9"),
        ({"label_divisor": 1}, "label_divisor must be at least 2"),
        ({"size": (0, 4)}, "size must be"),
        ({"scale": (-1.0, 1.0)}, r"scale must be at least 0 and .* got \(-1.0, 1.0\)"),
        ({"scale": (1.0, 1e30)}, r"positions less than 2\*\*31, got .* a size of \(4, 4\)"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {
        "semantic_logits": torch.zeros(1, 3, 4, 4),
        "center_offsets": torch.zeros(1, 2, 4, 4),
        "centers": torch.zeros(1, 5, 2),
        "center_scores": torch.zeros(1, 5),
        "num_centers": torch.zeros(1, dtype=torch.int32),
        "channel_to_class": (0, 1, 2),
        "thing_ids": (2,),
        "size": (4, 4),
        "scale": (1.0, 1.0),
        "offset_scale": (1.0, 1.0),
        "label_divisor": 1000,
        "stuff_area_limit": 0,
    }
    with pytest.raises(ValueError, match=message):
        ops.panoptic_from_logits(**{**arguments, **change})


@needs_extension
def test_operator_is_registered_as_torch_expects():
    torch.library.opcheck(
        torch.ops.deeplab2_d2.panoptic_from_logits.default,
        (
            torch.randn(2, 4, 5, 7), torch.randn(2, 2, 5, 7), torch.rand(2, 3, 2),
            torch.rand(2, 3), torch.tensor([3, 1], dtype=torch.int32),
        ),
        {
            "channel_to_class": [-1, 0, 1, 2], "thing_ids": [2], "size": [17, 25],
            "scale": [0.25, 0.25], "offset_scale": [4.0, 4.0], "label_divisor": 100,
            "stuff_area_limit": 3, "with_probability": True,
        },
    )  # fmt: skip


@needs_extension
@pytest.mark.slow
def test_post_processing_compiles_without_a_graph_break():
    prediction = make_prediction(1, 6, (9, 13), 3)

    def run(logits, heatmap, offsets):
        return process(dict(zip(prediction, (logits, heatmap, offsets))), (33, 49)).panoptic_map

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    maps = tuple(prediction.values())
    assert torch.equal(compiled(*maps), run(*maps))


def test_reference_of_a_map_is_the_reference_of_its_blocks():
    # More pixels than are worked on at a time.
    logits = torch.randn(1, 2, 40, 9)
    whole = reference.resample_aligned(logits, (157, 33), (0.25, 0.25))
    parts = [
        reference.resample_aligned(logits, (157, 33), (0.25, 0.25), rows=rows)
        for rows in ((0, 100), (100, 157))
    ]
    assert torch.equal(whole, torch.cat(parts, dim=2))
