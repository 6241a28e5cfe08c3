"""Post-processing: ours against Detectron2's Panoptic-DeepLab project, results compared first."""

from typing import Any, Dict, Iterator

import torch
from measuring import measure
from operator_inputs import make_prediction

from deeplab2_d2.ops import resample_aligned
from deeplab2_d2.postprocessing import Frames, panoptic_from_centers, panoptic_from_frame_pair
from deeplab2_d2.structures import identity_class_map

THINGS = tuple(range(11, 19))
OPTIONS: Dict[str, Any] = {
    "thing_ids": THINGS,
    "label_divisor": 1000,
    "stuff_area_limit": 2048,
    "center_threshold": 0.1,
    "nms_kernel": 7,
    "top_k_centers": 200,
}


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    size = (257, 513) if args.quick else (1025, 2049)
    yield from _full_resolution(args, size, 40)
    yield from _from_stride_4(args, size, 40)
    yield _frame_pair(args, size, 40)
    if not args.quick:
        for num_instances in (1, 100, 400):
            yield from _from_stride_4(args, size, num_instances)
        for other in ((513, 513), (2049, 2049), (4097, 4097)):
            yield from _from_stride_4(args, other, 40)
        for num_images in (2, 8):
            yield from _from_stride_4(args, (513, 1025), 40, num_images)


def _inputs(args: Any, size: Any, num_instances: int, num_images: int = 1) -> Any:
    low = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    prediction = make_prediction(num_images, 19, low, num_instances, noise=0.3)
    return {name: maps.to(args.device) for name, maps in prediction.items()}


def _full_resolution(args: Any, size: Any, num_instances: int) -> Iterator[Dict[str, Any]]:
    # Only after our package has made Detectron2 importable.
    from detectron2.projects.panoptic_deeplab.post_processing import get_panoptic_segmentation

    maps = _inputs(args, size, num_instances)
    logits, heatmap, offsets = (
        resample_aligned(m, size, (0.25, 0.25)) * factor
        for m, factor in zip(maps.values(), (1.0, 1.0, 4.0))
    )

    def ours() -> Any:
        return panoptic_from_centers(
            logits, heatmap, offsets, Frames.unpadded(size), with_probability=False, **OPTIONS
        )

    def peer() -> Any:
        # It changes its inputs.
        return get_panoptic_segmentation(
            logits[0].argmax(dim=0, keepdim=True), heatmap[0].clone(), offsets[0],
            thing_ids=THINGS, label_divisor=1000, stuff_area=2048, void_label=-1, threshold=0.1,
            nms_kernel=7, top_k=200,
        )[0]  # fmt: skip

    _check_equal(ours().panoptic_map, peer(), size)
    peer_seconds = measure(peer, repeats=1, warmups=0, device=args.device).seconds
    yield {
        "name": f"post-processing from full resolution, {_words(size)}, {num_instances} instances",
        "measurement": measure(ours, repeats=args.repeats, device=args.device),
        "peer": "Detectron2",
        "peer_seconds": peer_seconds,
    }


def _check_equal(ours: torch.Tensor, theirs: torch.Tensor, size: Any) -> None:
    """Equal regions: Detectron2 numbers instances otherwise, and resolves near-ties otherwise."""
    pairs = torch.stack((ours.flatten().long(), theirs.flatten().long()), dim=1)
    unique, counts = torch.unique(pairs, dim=0, return_counts=True)
    largest: Dict[int, int] = {}
    for (label, _), count in zip(unique.tolist(), counts.tolist()):
        largest[label] = max(largest.get(label, 0), count)
    different = 1 - sum(largest.values()) / (size[0] * size[1])
    if different > 1e-3:
        raise RuntimeError(f"{100 * different:.2f} % of the pixels differ from Detectron2's")


def _from_stride_4(
    args: Any, size: Any, num_instances: int, num_images: int = 1
) -> Iterator[Dict[str, Any]]:
    prediction = _inputs(args, size, num_instances, num_images)
    options = {**OPTIONS, "nms_kernel": 13, "top_k_centers": 400}

    def ours(with_probability: bool) -> Any:
        return panoptic_from_centers(
            **prediction,
            frames=Frames.unpadded(size),
            with_probability=with_probability,
            **options,
        )

    def plain_copy() -> Any:
        maps = [maps + 0 for maps in prediction.values()]
        outputs = [torch.empty_like(ours_once.panoptic_map).fill_(1) for _ in range(3)]
        return maps, outputs

    ours_once = ours(False)
    copy_seconds = measure(plain_copy, repeats=args.repeats, device=args.device).seconds
    for with_probability in (False, True):
        yield {
            "name": f"post-processing from stride 4, {num_images} x {_words(size)}, "
            f"{num_instances} instances{', with scores' if with_probability else ''}",
            "measurement": measure(
                lambda: ours(with_probability), repeats=args.repeats, device=args.device
            ),
            "peer": "copy of its inputs and outputs",
            "peer_seconds": copy_seconds,
        }


def _frame_pair(args: Any, size: Any, num_instances: int) -> Dict[str, Any]:
    """Two frames with the labels of one, beside one frame alone, both with scores."""
    first, second = (_inputs(args, size, num_instances) for _ in range(2))
    pair = {**first, "next_semantic_logits": second["semantic_logits"]}
    pair["next_center_offsets"] = second["center_offsets"]
    frames, classes = Frames.unpadded(size), identity_class_map(19)

    def both() -> Any:
        return panoptic_from_frame_pair(pair, frames, class_map=classes, **OPTIONS)

    def one() -> Any:
        return panoptic_from_centers(**first, frames=frames, **OPTIONS)

    return {
        "name": f"post-processing of a pair of frames, {_words(size)}, {num_instances} instances",
        "measurement": measure(both, repeats=args.repeats, device=args.device),
        "peer": "one frame",
        "peer_seconds": measure(one, repeats=args.repeats, device=args.device).seconds,
    }


def _words(size: Any) -> str:
    return f"{size[0]}x{size[1]}x19"
