"""
Post-processing on a GPU, from stride 4: captured in a CUDA graph, against Detectron2's function;
MaX-DeepLab's against plain PyTorch.

How the cost grows with the size of the image, the instances and the batch. Detectron2's function
gets what it takes: logits, heatmap and offsets that PyTorch has upsampled, which is timed with it.
"""

from typing import Any, Callable, Dict, Iterator, Tuple, TypeVar

import torch
import torch.nn.functional as F
from bench_postprocessing import OPTIONS, THINGS
from bench_slots import make_inputs, name_of, post_process
from measuring import Measurement, measure
from operator_inputs import differences, make_prediction
from torch import Tensor

from deeplab2_d2.ops import use_reference
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers
from deeplab2_d2.structures import Prediction

Size = Tuple[int, int]
FULL: Size = (1025, 2049)
Output = TypeVar("Output")


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    if args.device != "cuda":
        return
    for with_scores in (False, True):
        yield _row(args, FULL, with_scores=with_scores)
    yield _row(args, FULL, dtype=torch.float16)
    for mode in ("pixelwise", "maskwise"):
        for dtype in (torch.float32, torch.bfloat16):
            yield _slots_row(args, (641, 641), mode, dtype=dtype)
    if args.quick:
        return
    for mode in ("pixelwise", "maskwise"):
        yield _slots_row(args, (641, 641), mode, output_size=(480, 640))
        yield _slots_row(args, (1025, 1025), mode)
    for size in ((513, 513), (1025, 1025), (2049, 2049), (2049, 4097), (4097, 4097)):
        yield _row(args, size)
    for num_instances in (1, 100, 400):
        yield _row(args, FULL, num_instances=num_instances)
    for num_images in (2, 4, 8):
        yield _row(args, FULL, num_images=num_images)


def _row(
    args: Any,
    size: Size,
    *,
    num_instances: int = 40,
    num_images: int = 1,
    with_scores: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Dict[str, Any]:
    low = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    maps = make_prediction(num_images, 19, low, num_instances, noise=0.3, dtype=dtype)
    prediction = {name: field.cuda() for name, field in maps.items()}
    replay, panoptic = capture(prediction, size, with_scores)
    replay()
    check_regions(panoptic[0], detectron2(prediction, size)[0])
    words = f"{num_images} x {size[0]}x{size[1]}x19, {num_instances} instances, {dtype}"
    peer = measure(lambda: detectron2(prediction, size), repeats=3, device="cuda")
    return {
        "name": f"captured post-processing, {words}{', with scores' if with_scores else ''}",
        "measurement": _measure(replay, args.repeats),
        "peer": "Detectron2, upsampling included",
        "peer_seconds": peer.seconds,
    }


def _measure(replay: Callable[[], None], repeats: int) -> Measurement:
    return measure(replay, repeats=repeats, warmups=5, device="cuda")


def capture(
    prediction: Prediction, size: Size, with_scores: bool
) -> Tuple[Callable[[], None], Tensor]:
    """A function that runs all of post-processing on the GPU, and the panoptic map it fills."""
    options = {**OPTIONS, "nms_kernel": 13, "top_k_centers": 400}

    def run() -> Tensor:
        return panoptic_from_centers(
            **prediction, frames=Frames.unpadded(size), with_probability=with_scores, **options
        ).panoptic_map

    return captured(run)


def captured(run: Callable[[], Output]) -> Tuple[Callable[[], None], Output]:
    """A function that runs all of `run` on the GPU, and the output that it fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()
    return graph.replay, output


def _slots_row(
    args: Any,
    size: Size,
    mode: str,
    *,
    output_size: Size = (0, 0),
    dtype: torch.dtype = torch.float32,
) -> Dict[str, Any]:
    output_size = output_size if any(output_size) else size
    inputs = make_inputs(size, "cuda", dtype)

    def run() -> Any:
        return post_process(inputs, size, mode, output_size=output_size)

    reference = use_reference()(run)
    replay, ours = captured(run)
    replay()
    different = differences(ours, reference())
    if different:
        raise RuntimeError(f"the kernels differ from the reference: {different}")
    return {
        "name": f"captured {name_of(size, mode, output_size)}, {dtype}",
        "measurement": _measure(replay, args.repeats),
        "peer": "plain PyTorch",
        "peer_seconds": measure(reference, repeats=1, device="cuda").seconds,
    }


def detectron2(prediction: Prediction, size: Size) -> Tensor:
    """(N, H, W) panoptic maps by Detectron2's Panoptic-DeepLab project, image by image."""
    from detectron2.projects.panoptic_deeplab.post_processing import get_panoptic_segmentation

    results = []
    for logits, heatmap, offsets in zip(*prediction.values()):
        maps = (
            F.interpolate(field[None].float(), size, mode="bilinear", align_corners=True)[0]
            for field in (logits, heatmap, 4 * offsets)
        )
        logits, heatmap, offsets = maps
        result, _ = get_panoptic_segmentation(
            logits.argmax(dim=0, keepdim=True), heatmap, offsets, thing_ids=THINGS,
            label_divisor=1000, stuff_area=2048, void_label=-1, threshold=0.1, nms_kernel=13,
            top_k=400,
        )  # fmt: skip
        results.append(result[0])
    return torch.stack(results)


def check_regions(ours: Tensor, theirs: Tensor) -> None:
    """Equal regions: Detectron2 numbers instances otherwise, and resolves near-ties otherwise."""
    pairs = torch.stack((ours.flatten().long(), theirs.flatten().long()), dim=1)
    unique, counts = torch.unique(pairs, dim=0, return_counts=True)
    largest: Dict[int, int] = {}
    for (label, _), count in zip(unique.tolist(), counts.tolist()):
        largest[label] = max(largest.get(label, 0), count)
    different = 1 - sum(largest.values()) / ours.numel()
    if different > 1e-2:
        raise RuntimeError(f"{100 * different:.2f} % of the pixels differ from Detectron2's")
