"""How the operators behave on a GPU: no waiting, graphs, streams, memory, sizes beyond 2**31."""

import pytest
import torch
from operator_cases import CASES
from operator_inputs import make_prediction, make_slots

from deeplab2_d2 import ops
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers

pytestmark = pytest.mark.gpu

GPU_CASES = [name for name, case in CASES.items() if case.has_cuda]
MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def kernels_are_required(monkeypatch):
    monkeypatch.setenv("DEEPLAB2_D2_REQUIRE_OPS", "1")


@pytest.fixture(params=GPU_CASES)
def case(request):
    return CASES[request.param]


def on_gpu(tensors):
    return [tensor.cuda() for tensor in tensors]


def assert_equal(ours, theirs):
    """Equal to the last bit; the floats of the CPU's loss and probabilities nearly."""
    for left, right in zip(ours, theirs):
        left, right = left.cpu(), right.cpu()
        if right.dtype.is_floating_point:
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5, equal_nan=True)
        else:
            assert torch.equal(left, right)


def is_same(left, right):
    return torch.equal(left, right) or torch.allclose(left, right, 0, 0, equal_nan=True)


def test_results_are_those_of_the_cpu(case):
    inputs = case.make(0)
    assert_equal(case.run(*on_gpu(inputs)), case.run(*inputs))


def test_two_runs_give_the_same_bits(case):
    inputs = on_gpu(case.make(0))
    expected = case.run(*inputs)
    for _ in range(20):
        assert all(map(is_same, case.run(*inputs), expected))


def test_nothing_waits_for_the_gpu(case):
    inputs = on_gpu(case.make(0))
    case.run(*inputs)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        case.run(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_captured_graph_replays_on_other_inputs(case):
    inputs, others = on_gpu(case.make(0)), on_gpu(case.make(1))
    expected = case.run(*others)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        case.run(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = case.run(*inputs)
    for destination, source in zip(inputs, others):
        destination.copy_(source)
    for _ in range(2):
        graph.replay()
        assert all(map(is_same, outputs, expected))


def test_work_goes_to_the_current_stream(case):
    inputs, others = on_gpu(case.make(0)), on_gpu(case.make(1))
    expected = case.run(*others)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Another stream would read the inputs before they are replaced.
        torch.cuda._sleep(50_000_000)
        for destination, source in zip(inputs, others):
            destination.copy_(source)
        outputs = case.run(*inputs)
    stream.synchronize()
    assert all(map(is_same, outputs, expected))


def test_work_goes_to_the_device_of_the_tensors(case):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    inputs = [tensor.to("cuda:1") for tensor in case.make(0)]
    with torch.cuda.device(0):
        outputs = case.run(*inputs)
    assert all(output.device == torch.device("cuda:1") for output in outputs)
    assert_equal(outputs, case.run(*case.make(0)))


@pytest.mark.parametrize("with_probability", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fused_path_needs_its_outputs_and_16_mebibytes(with_probability, dtype):
    size = (1025, 2049)
    prediction = make_prediction(1, 19, (257, 513), 40, dtype=dtype)
    maps = on_gpu(prediction.values())
    options = {
        "thing_ids": tuple(range(11, 19)), "label_divisor": 1000, "stuff_area_limit": 2048,
        "with_probability": with_probability,
        "frames": Frames.unpadded(size),
    }  # fmt: skip

    def run():
        return panoptic_from_centers(*maps, **options)

    run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    *fields, segments = run()
    needed = torch.cuda.max_memory_allocated() - before
    outputs = sum(tensor.nbytes for tensor in (*fields, *segments))
    assert needed <= outputs + 16 * MEBIBYTE


def slot_options(size, scale, is_mask_wise):
    return {
        "channel_to_class": tuple(range(20)), "thing_ids": tuple(range(8)), "size": size,
        "scale": scale, "label_divisor": 2000, "is_mask_wise": is_mask_wise,
        "class_thresholds": (0.3, 0.3), "mask_threshold": 0.4, "overlap_threshold": 0.5,
        "rank_weights": (1.0, 1.0), "area_limits": (0, 0),
    }  # fmt: skip


@pytest.mark.parametrize("is_mask_wise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_slots_need_their_outputs_and_16_mebibytes(is_mask_wise, dtype):
    inputs = on_gpu(make_slots(1, 128, 20, (257, 513), dtype=dtype))
    options = slot_options((1025, 2049), (0.25, 0.25), is_mask_wise)
    ops.panoptic_from_slots(*inputs, **options)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    *fields, segments, segment_slot = ops.panoptic_from_slots(*inputs, **options)
    needed = torch.cuda.max_memory_allocated() - before
    outputs = sum(tensor.nbytes for tensor in (*fields, *segments, segment_slot))
    assert needed <= outputs + 16 * MEBIBYTE


def test_loss_needs_a_fifth_of_the_memory_of_pytorch():
    logits = torch.randn(1, 19, 257, 513, device="cuda", requires_grad=True)
    labels = torch.randint(19, (1, 1025, 2049), device="cuda")

    def peak(function):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        losses = function(logits, labels, None, ignore_label=255)
        torch.autograd.grad(torch.topk(losses.flatten(), 10**5).values.sum(), logits)
        return torch.cuda.max_memory_allocated() - before

    reference = ops.reference.upsampled_cross_entropy
    assert 5 * peak(ops.upsampled_cross_entropy) <= peak(reference)


def attention_inputs(others, length, heads=8, depths=(16, 32), dtype=torch.float32):
    key_depth, value_depth = depths
    channels = heads * (2 * key_depth + value_depth)
    raw = torch.randn(1, channels, others, length, dtype=dtype, device="cuda")
    sizes = [(channels,), (channels,), (3, heads), (heads,)]
    sizes += [(2 * length - 1, depth) for depth in (key_depth, key_depth, value_depth)]
    parameters = [0.3 * torch.randn(size, device="cuda") for size in sizes]
    options = {"value_depth": heads * value_depth, "retrieve_content": True, "span": None}
    return [raw, *parameters], options


def test_attention_keeps_no_maps_of_all_pairs():
    # Each would be of 2.1 GB.
    tensors, options = attention_inputs(64, 1025)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    output = ops.axial_attention(*leaves, **options)
    grad = torch.randn_like(output)

    def peak(function):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before

    assert peak(lambda: ops.axial_attention(*tensors, **options)) <= output.nbytes + 16 * MEBIBYTE
    backward = peak(lambda: torch.autograd.grad(output, leaves, grad))
    assert backward <= tensors[0].nbytes + 48 * MEBIBYTE


def need_memory(gibibytes):
    free, _ = torch.cuda.mem_get_info()
    if free < gibibytes * 2**30:
        pytest.skip(f"needs a GPU with {gibibytes} GiB free, got {free / 2**30:.0f}")


def test_overlap_of_more_than_2_to_the_31_pixels():
    need_memory(30)
    first = torch.ones(2**31 + 40, dtype=torch.int32, device="cuda")
    second = torch.zeros_like(first)
    second[-33:] = 7
    pairs, counts = ops.label_overlap(first, second, max_pairs=3)
    assert pairs.tolist() == [[1, 0], [1, 7], [0, 0]]
    assert counts.tolist() == [2**31 + 7, 33, 0]


def test_grouping_of_a_batch_of_more_than_2_to_the_31_pixels():
    need_memory(40)
    num_images, size = 3, (2**15, 2**15)
    offsets = torch.zeros(num_images, 2, *size, dtype=torch.float32, device="cuda")
    centers = torch.tensor([[[0.0, 0.0], [2.0**15, 0.0]]], device="cuda").repeat(num_images, 1, 1)
    counts = torch.full((num_images,), 2, dtype=torch.int32, device="cuda")
    nearest = ops.group_pixels(centers, counts, offsets)
    # Rows up to the middle one, which is as far from both, go to the first.
    assert bool((nearest[:, : 2**14 + 1] == 1).all())
    assert bool((nearest[:, 2**14 + 1 :] == 2).all())


@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_slots_of_more_than_2_to_the_31_logits(is_mask_wise):
    need_memory(10)
    side = 1450
    masks = torch.zeros(1, 1024, side, side, dtype=torch.float16, device="cuda")
    assert masks.numel() > 2**31
    # The last slot has the lower right quarter, the first the rest.
    masks[:, 0] = 40.0
    masks[:, 1023, side // 2 :, side // 2 :] = 60.0
    class_logits = torch.zeros(1, 1024, 21, device="cuda")
    class_logits[:, :, 3] = 20.0
    options = slot_options((2 * side, 2 * side), (0.5, 0.5), is_mask_wise)
    panoptic = ops.panoptic_from_slots(masks, class_logits, **options).panoptic_map[0]
    assert bool((panoptic[side + 1 :, side + 1 :] == panoptic[-1, -1]).all())
    assert bool((panoptic[: side - 1] == panoptic[0, 0]).all())
    assert panoptic[0, 0] != panoptic[-1, -1] and panoptic[0, 0] // 2000 == 3


@pytest.mark.parametrize("is_mask_wise", [False, True])
def test_slots_of_a_batch_of_more_than_2_to_the_31_pixels(is_mask_wise):
    need_memory(60)
    num_images, side = 3, 2**15
    masks = torch.zeros(num_images, 2, 2, 2, device="cuda")
    masks[:, 0, :, 0] = masks[:, 1, :, 1] = 1e5
    class_logits = torch.zeros(num_images, 2, 21, device="cuda")
    class_logits[:, 0, 3] = class_logits[:, 1, 4] = 20.0
    # Column 2**14 lies in the middle of the map's two columns: its logits are equal.
    options = slot_options((side, side), (0.0, 2.0**-15), is_mask_wise)
    panoptic = ops.panoptic_from_slots(masks, class_logits, **options).panoptic_map
    left, right = panoptic[..., : 2**14], panoptic[..., 2**14 + 1 :]
    assert bool((left == left[0, 0, 0]).all()) and bool((right == right[0, 0, 0]).all())
    assert left[0, 0, 0] // 2000 == 3 and right[0, 0, 0] // 2000 == 4


def test_label_out_of_range_stops_the_program():
    # In a process of its own: after it the GPU cannot be used.
    import subprocess
    import sys

    code = (
        "import torch, deeplab2_d2; from deeplab2_d2 import ops\n"
        "labels = torch.full((1, 3, 3), 9, device='cuda')\n"
        "ops.upsampled_cross_entropy(torch.zeros(1, 4, 2, 2, device='cuda'), labels, None, "
        "ignore_label=255)\n"
        "torch.cuda.synchronize()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0 and "labels must be in" in result.stderr


def test_attention_of_more_than_2_to_the_31_values():
    need_memory(30)
    tensors, options = attention_inputs(32800, 129, dtype=torch.float16)
    raw, *parameters = tensors
    assert raw.numel() > 2**31
    found = ops.axial_attention(raw, *parameters, **options)
    last = ops.axial_attention(raw[:, :, -3:], *parameters, **options)
    assert torch.equal(found[:, :, -3:], last)
