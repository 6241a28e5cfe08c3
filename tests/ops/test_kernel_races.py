"""Nothing is left to chance among a CUDA kernel's threads: no memory is used in an open order."""

import re

import emulated_cuda
import kernel_races
import pytest
import torch
from attention_inputs import arguments
from operator_cases import CASES
from operator_inputs import make_prediction, make_slots

from deeplab2_d2 import ops
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers

pytestmark = pytest.mark.slow


def _rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def _keep_all_centers():
    ops.find_centers(_rand(2, 20, 30), (39, 59), (0.5, 0.5), threshold=0.1, nms_kernel=3, top_k=-1)


def _many_centers_a_pixel():
    # More than a block looks at in one round.
    centers, counts = 60 * _rand(1, 600, 2), torch.tensor([600]).int()
    ops.group_pixels(centers, counts, 20 * _rand(1, 2, 17, 40))


def _fused_path():
    panoptic_from_centers(
        **make_prediction(2, 5, (9, 13), 12), frames=Frames.unpadded((33, 49)), thing_ids=(2, 3, 4),
        label_divisor=1000, stuff_area_limit=20, nms_kernel=5, top_k_centers=9,
        with_probability=True,
    )  # fmt: skip


def _slots(masks, class_logits, *, size, scale, is_mask_wise):
    ops.panoptic_from_slots(
        masks, class_logits, channel_to_class=(0, 1, 2), thing_ids=(0, 2), size=size, scale=scale,
        label_divisor=2000, is_mask_wise=is_mask_wise, class_thresholds=(0.5, 0.3),
        mask_threshold=0.4, overlap_threshold=0.5, rank_weights=(1.0, 1.0), area_limits=(0, 0),
    )  # fmt: skip


def _mixed_slots(map_size, size, dtype, is_mask_wise):
    def run():
        # Scaled, so that a few slots are sure and their masks overlap.
        masks, class_logits = make_slots(2, 11, 3, map_size, dtype=dtype)
        scale = [(low - 1) / (high - 1) for low, high in zip(map_size, size)]
        _slots(3 * masks, 2 * class_logits, size=size, scale=scale, is_mask_wise=is_mask_wise)

    return run


def _slots_of_which_half_is_refused():
    # Masks in pairs that tie: of each the second is refused, and the next one pasted.
    masks = torch.full((1, 20, 3, 30), -30.0)
    for slot in range(20):
        masks[0, slot, :, 3 * (slot // 2) : 3 * (slot // 2) + 3] = 10.0
    class_logits = torch.tensor([9.0, 0.0, 0.0, 0.0]).expand(1, 20, 4).contiguous()
    _slots(masks, class_logits, size=(9, 117), scale=(0.25, 0.25), is_mask_wise=True)


def _more_pairs_than_are_allowed():
    first, second = (9 * _rand(2, 4800)).long()
    ops.label_overlap(first, second, max_pairs=3)


def _assignment(*shape):
    return lambda: ops.linear_assignment(_rand(*shape))


def _attention(length, depths, dtype, span):
    def run():
        sizes = {"others": 2, "length": length, "heads": 1, "depths": depths}
        tensors, value_depth = arguments(0, dtype=dtype, **sizes)
        options = {"value_depth": value_depth, "retrieve_content": True, "span": span}
        leaves = [tensor.requires_grad_() for tensor in tensors]
        ops.axial_attention(*leaves, **options).sum().backward()

    return run


def _case(name):
    return lambda: CASES[name].run(*CASES[name].make(0))


CALLS = {
    "find_centers": _case("find_centers"),
    "find_centers_all": _keep_all_centers,
    "group_pixels": _case("group_pixels"),
    "group_pixels_many": _many_centers_a_pixel,
    "merge_panoptic": _case("merge_panoptic"),
    "resampling": _case("resampling"),
    "fused_path": _fused_path,
    # A row of 4 pixels a thread between 2 or 3 columns of the map, or one pixel.
    "slots_quarter": _mixed_slots((5, 9), (17, 33), torch.float32, True),
    "slots_third": _mixed_slots((5, 9), (17, 29), torch.float16, True),
    "slots_full": _mixed_slots((5, 9), (5, 9), torch.bfloat16, True),
    "slots_pixel_wise": _mixed_slots((5, 9), (17, 33), torch.float32, False),
    "slots_refused": _slots_of_which_half_is_refused,
    "cross_entropy": _case("cross_entropy"),
    "cross_entropy_gradient": _case("cross_entropy_gradient"),
    "attention": _attention(11, (2, 3), torch.float64, None),
    # Several tiles, channels in several parts; warps that have nothing to do in a tile.
    "attention_tiles": _attention(70, (33, 40), torch.float32, None),
    "attention_half": _attention(41, (3, 33), torch.bfloat16, 9),
    "label_overlap": _case("label_overlap"),
    "label_overlap_full": _more_pairs_than_are_allowed,
    "linear_assignment": _case("linear_assignment"),
    # State that does not fit into a block's memory; more rows than columns.
    "linear_assignment_large": _assignment(1, 4, 1100),
    "linear_assignment_transposed": _assignment(2, 1100, 4),
}


@pytest.mark.parametrize("schedule", ["", "1", "2"])
@pytest.mark.parametrize("name", CALLS)
def test_kernels_have_no_races(emulated_kernels, monkeypatch, name, schedule):
    monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
    with kernel_races.watch(emulated_cuda.build()) as seen:
        CALLS[name]()
    assert not seen.races, "\n".join(map(str, seen.races))


def test_every_kernel_is_watched(emulated_kernels):
    text = "".join(path.read_text() for path in emulated_cuda.SOURCES.rglob("*.cu*"))
    kernels = re.findall(r"__global__ void\s(?:__launch_bounds__\([^{;]*?\)\s+)?(\w+)\(", text)
    assert len(kernels) == text.count("__global__")
    with kernel_races.watch(emulated_cuda.build()) as seen:
        for call in CALLS.values():
            call()
    # One that is chosen is launched by another name.
    chosen = dict(re.findall(r"auto (\w+) =\s[^;]*?&(\w+_kernel)<", text))
    assert {chosen.get(name, name) for name in seen.kernels} == set(kernels)
