"""OANet's merge of instances and stuff: ours against Detectron2's, results compared first."""

from typing import Any, Dict, Iterator, Tuple

import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Instances
from measuring import measure
from torch import Tensor

from deeplab2_d2.models.oanet import merge_instances_and_stuff

NUM_STUFF = 53


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    size = (200, 333) if args.quick else (800, 1333)
    instances, semantic_map = make_inputs(size, 100, args.device)
    options = {"stuff_ids": range(1, NUM_STUFF + 1), "stuff_area_limit": 4096}

    def theirs() -> Any:
        return combine_semantic_and_instance_outputs(instances, semantic_map, 0.5, 4096, 0.5)

    def ours(**changed: Any) -> Any:
        return merge_instances_and_stuff(instances, semantic_map, **{**options, **changed})

    (our_map, our_segments), (their_map, their_segments) = ours(), theirs()
    if not torch.equal(our_map, their_map) or our_segments != their_segments:
        raise RuntimeError("the merge differs from Detectron2's")
    peer = measure(theirs, repeats=args.repeats, device=args.device).seconds
    ranks = torch.rand(100, generator=torch.Generator().manual_seed(2)).to(args.device)
    for words, changed in (
        ("stuff by class", {}),
        ("by rank, stuff by area", {"rank_scores": ranks, "is_stuff_connected": True}),
    ):
        yield {
            "name": f"merge of 100 instances, {size[0]}x{size[1]}, {words}",
            "measurement": measure(
                lambda: ours(**changed), repeats=args.repeats, device=args.device
            ),
            "peer": "Detectron2",
            "peer_seconds": peer,
        }


def make_inputs(size: Tuple[int, int], count: int, device: str) -> Tuple[Instances, Tensor]:
    """Ellipses of 5 to 50 % of the sides, distinct scores from 0.5, and patches of stuff."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask in masks:
        y, x, tall, wide = torch.rand(4, generator=generator).tolist()
        radii = (0.025 + 0.225 * tall, 0.025 + 0.225 * wide)
        mask.copy_(((rows - y) / radii[0]) ** 2 + ((columns - x) / radii[1]) ** 2 < 1)
    instances = Instances(size)
    instances.pred_masks = masks.to(device)
    scores = 0.5 + 0.5 * (torch.randperm(count, generator=generator) + 1) / (count + 1)
    instances.scores = scores.to(device)
    instances.pred_classes = torch.randint(0, 80, (count,), generator=generator).to(device)
    patches = torch.randint(0, NUM_STUFF + 1, (1, 1, 13, 20), generator=generator).float()
    semantic_map = torch.nn.functional.interpolate(patches, size, mode="nearest")[0, 0].long()
    return instances, semantic_map.to(device)
