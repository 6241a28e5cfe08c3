"""Semantic scores and labels at an image's size: ours against PyTorch's interpolation."""

from typing import Any, Dict, Iterator

import torch
import torch.nn.functional as F
from measuring import measure

from deeplab2_d2.ops import use_reference
from deeplab2_d2.postprocessing import Frames, semantic_labels, semantic_scores
from deeplab2_d2.structures import deeplab2_coco_class_map, identity_class_map


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    coco, cityscapes = deeplab2_coco_class_map(), identity_class_map(19)
    if args.quick:
        yield from _rows(args, Frames((129, 129), (128, 128), (128, 128)), coco)
        return
    yield from _rows(args, Frames((641, 641), (640, 640), (640, 640)), coco)
    # Enlarged by a pixel for the network, as COCO's images are.
    yield from _rows(args, Frames((641, 641), (481, 641), (480, 640)), coco)
    yield from _rows(args, Frames((1025, 2049), (1024, 2048), (1024, 2048)), cityscapes)


def _rows(args: Any, frames: Frames, class_map: Any) -> Iterator[Dict[str, Any]]:
    size = frames.output_size
    low = tuple((side - 1) // 4 + 1 for side in frames.input_size)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, class_map.num_channels, *low, generator=generator).to(args.device)
    classes = logits[:, class_map.num_channels - class_map.num_classes :].contiguous()

    def scores() -> torch.Tensor:
        return semantic_scores(logits, frames, class_map=class_map)

    def labels() -> torch.Tensor:
        return semantic_labels(logits, frames, class_map=class_map)

    def interpolate() -> torch.Tensor:
        return F.interpolate(classes, size=size, mode="bilinear", align_corners=True)

    with use_reference():
        expected = scores()
    if not torch.equal(scores(), expected) or not torch.equal(labels(), expected.argmax(dim=1)):
        raise RuntimeError("scores or labels differ from the reference's")
    del expected
    options: Dict[str, Any] = {"repeats": args.repeats, "device": args.device}
    peer_seconds = measure(interpolate, **options).seconds
    for name, call in (("scores", scores), ("labels", labels)):
        yield {
            "name": f"semantic {name}, {size[0]}x{size[1]}x{class_map.num_classes}, from stride 4",
            "measurement": measure(call, **options),
            "peer": "F.interpolate",
            "peer_seconds": peer_seconds,
        }
