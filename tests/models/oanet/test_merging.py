"""The merge: equal to Detectron2's where it does the same, and its own rules worked by hand."""

import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab2_d2.models.oanet import mask_bounds, merge_instances_and_stuff


def make_instances(masks, scores, classes=None):
    instances = Instances(tuple(masks.shape[1:]))
    instances.pred_masks = masks
    instances.scores = torch.as_tensor(scores, dtype=torch.float32)
    given_classes = range(len(masks)) if classes is None else classes
    instances.pred_classes = torch.tensor(list(given_classes), dtype=torch.int64)
    return instances


@st.composite
def scenes(draw):
    """Instances with distinct scores, some empty or whole, and a map of 5 classes, 0 for things."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 13))
    count, seed = draw(st.integers(0, 8)), draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    density = torch.rand(count, 1, 1, generator=generator) * 1.4 - 0.2
    masks = torch.rand(count, height, width, generator=generator) < density
    scores = (torch.randperm(20, generator=generator)[:count] + 1).float() / 20
    semantic_map = torch.randint(0, 5, (height, width), generator=generator)
    return make_instances(masks, scores), semantic_map


@settings(max_examples=300, deadline=None)
@given(scenes(), st.floats(0, 0.99), st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5, 0.95]))
def test_it_is_detectron2s_merge_without_ranking(scene, overlap, area_limit, score_threshold):
    instances, semantic_map = scene
    expected_map, expected = combine_semantic_and_instance_outputs(
        instances, semantic_map, overlap, area_limit, score_threshold
    )
    panoptic_map, segments = merge_instances_and_stuff(
        instances,
        semantic_map,
        stuff_ids=range(1, 5),
        score_threshold=score_threshold,
        overlap_threshold=overlap,
        stuff_area_limit=area_limit,
    )
    assert panoptic_map.dtype == expected_map.dtype and torch.equal(panoptic_map, expected_map)
    assert segments == expected


def test_the_higher_rank_is_painted_on_top_and_equal_ranks_by_detection():
    # A person of 4x4, a tie of 2x1 in it and a second tie over one pixel of the first.
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0], masks[1, 1:3, 1], masks[2, 2, 1:3] = True, True, True
    instances = make_instances(masks, [0.997, 0.662, 0.7], classes=[0, 27, 27])
    rank_scores = torch.tensor([0.325, 0.878, 0.878])
    panoptic_map, segments = merge_instances_and_stuff(
        instances, torch.zeros(4, 4), stuff_ids=(), rank_scores=rank_scores
    )
    assert panoptic_map.tolist() == [[3, 3, 3, 3], [3, 2, 3, 3], [3, 1, 1, 3], [3, 3, 3, 3]]
    assert [s["instance_id"] for s in segments] == [2, 1, 0]
    assert [round(s["score"], 3) for s in segments] == [0.7, 0.662, 0.997]
    assert [round(s["rank_score"], 3) for s in segments] == [0.878, 0.878, 0.325]
    # Detection scores would leave nothing of the ties.
    _, by_detection = merge_instances_and_stuff(instances, torch.zeros(4, 4), stuff_ids=())
    assert [s["instance_id"] for s in by_detection] == [0]


def test_stuff_is_kept_by_connected_area_or_by_total():
    # Class 7 has 4 + 2 pixels, the two parts touching at no corner; class 9 has 3 along a diagonal.
    semantic_map = torch.tensor([[7, 7, 9, 0], [7, 7, 0, 9], [9, 0, 0, 0], [0, 0, 7, 7]])
    none = make_instances(torch.zeros(0, 4, 4, dtype=torch.bool), [])
    options = {"stuff_ids": (9, 7), "stuff_area_limit": 3}
    connected, segments = merge_instances_and_stuff(
        none, semantic_map, is_stuff_connected=True, **options
    )
    assert connected.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert segments == [{"id": 1, "isthing": False, "category_id": 7, "area": 4}]
    total, segments = merge_instances_and_stuff(none, semantic_map, **options)
    assert total.tolist() == [[1, 1, 2, 0], [1, 1, 0, 2], [2, 0, 0, 0], [0, 0, 1, 1]]
    assert [(s["category_id"], s["area"]) for s in segments] == [(7, 6), (9, 3)]
    # Corners connect: two of 9 and, moved, the third.
    _, segments = merge_instances_and_stuff(
        none, semantic_map, is_stuff_connected=True, stuff_ids=(7, 9), stuff_area_limit=2
    )
    assert [(s["category_id"], s["area"]) for s in segments] == [(7, 6), (9, 2)]


def test_no_segment_is_without_a_pixel_and_ids_pass_a_byte():
    # 300 columns, each an instance, over one that has all 301; one more is empty.
    masks = torch.zeros(302, 2, 301, dtype=torch.bool)
    masks[0] = True
    masks[range(1, 301), :, range(300)] = True
    instances = make_instances(masks, torch.linspace(0.6, 0.9, 302))
    panoptic_map, segments = merge_instances_and_stuff(
        instances,
        torch.full((2, 301), -1),
        stuff_ids=(0,),
        stuff_area_limit=0,
        overlap_threshold=1.0,
    )
    assert [s["instance_id"] for s in segments] == list(range(300, -1, -1))
    assert panoptic_map.tolist() == [[*range(300, 0, -1), 301]] * 2


def test_bounds_are_the_smallest_box():
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[0, 1, 2] = masks[0, 3, 5] = masks[1, 4, 6] = True
    assert mask_bounds(masks).tolist() == [[1, 4, 2, 6], [4, 5, 6, 7], [0, 0, 0, 0]]


def test_sizes_that_differ_are_refused():
    instances = make_instances(torch.ones(1, 3, 4, dtype=torch.bool), [1.0])
    with pytest.raises(ValueError, match=r"pred_masks must be .* \(4, 4\), got \(1, 3, 4\)"):
        merge_instances_and_stuff(instances, torch.zeros(4, 4), stuff_ids=())
    with pytest.raises(ValueError, match=r"rank_scores must be \(1,\)"):
        merge_instances_and_stuff(
            instances, torch.zeros(3, 4), stuff_ids=(), rank_scores=torch.ones(2)
        )
