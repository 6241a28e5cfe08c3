"""
MaX-DeepLab's losses: the Hungarian matching, and the whole loss, forward and backward.

Memory of the whole loss is what a call adds to its inputs, so with the gradients of the logits and
features, and it is given as a multiple of the inputs: mask logits, pixel features, class logits,
semantic logits, and the targets as the mapper gives them (at the full resolution).
"""

from typing import Any, Callable, Dict, Iterator, List

import plain_forms
import torch
from measuring import measure
from torch import Tensor

from deeplab2_d2.losses import (
    MaskOutputs,
    MaskTransformerLossOptions,
    build_mask_targets,
    hungarian_matching,
    mask_transformer_losses,
)
from deeplab2_d2.ops import use_reference

IGNORE_LABEL = 255
NUM_THINGS, NUM_CLASSES, NUM_IDS = 80, 133, 128


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    yield matching_row(args)
    yield from loss_rows(args)


def matching_row(args: Any) -> Dict[str, Any]:
    # As of a network that has learned: a good slot for each mask, some fair ones.
    costs = -(torch.rand(8, 128, 128, generator=torch.Generator().manual_seed(0)) ** 8)
    costs = costs.to(args.device)

    def ours() -> Tensor:
        return hungarian_matching(costs)

    def peer() -> Tensor:
        with use_reference():
            return hungarian_matching(costs)

    if not torch.equal(ours(), peer()):
        raise RuntimeError("the assignment differs from SciPy's")
    theirs = measure(peer, repeats=args.repeats, device=args.device)
    return {
        "name": "Hungarian matching, 8 x 128 x 128",
        "measurement": measure(ours, repeats=args.repeats, device=args.device),
        "peer": "SciPy and its transfers",
        "peer_seconds": theirs.seconds,
    }


def loss_rows(args: Any) -> Iterator[Dict[str, Any]]:
    size = 161 if args.quick else 641
    inputs = make_inputs(size, args.device)
    input_bytes = sum(tensor.nbytes for tensor in inputs.values())
    calls = {form: loss_and_gradients(inputs, form) for form in ("lean", "plain")}
    for ours, theirs in zip(calls["lean"](), calls["plain"]()):
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        if difference > 1e-4:
            raise RuntimeError(f"the lean gradient differs from the plain one by {difference:.1e}")
    found = {
        form: measure(call, repeats=args.repeats, device=args.device)
        for form, call in calls.items()
    }
    for form, peer in (("lean", "plain"), ("plain", "lean")):
        peak = found[form].peak_bytes
        memory = "" if peak is None else f", {peak / input_bytes:.2f} of the inputs"
        yield {
            "name": f"whole loss and gradients, 2 x {size} x {size}, {form}{memory}",
            "measurement": found[form],
            "peer": peer,
            "peer_seconds": found[peer].seconds,
        }


def make_inputs(size: int, device: str) -> Dict[str, Tensor]:
    """Outputs of a network, and targets of COCO's shapes: 40 things of 8 x 5 patches on stuff."""
    generator = torch.Generator().manual_seed(0)
    low = (size - 1) // 4 + 1
    features = torch.randn(2, 128, low, low, generator=generator)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    patch = (y * 8 // size) * 5 + x * 5 // size
    in_thing = (y * 8 % size < size // 2) & (x * 5 % size < size // 2)
    classes = torch.full((2, NUM_IDS), -1)
    classes[:, :40] = torch.arange(40)
    semantic = torch.where(in_thing, patch, NUM_THINGS + patch // 5)
    inputs = {
        "mask_logits": 3 * torch.randn(2, NUM_IDS, low, low, generator=generator),
        "class_logits": torch.randn(2, NUM_IDS, NUM_CLASSES + 1, generator=generator),
        "pixel_features": torch.nn.functional.normalize(features, dim=1),
        "semantic_logits": torch.randn(2, NUM_CLASSES + 1, low, low, generator=generator),
        "sem_seg": semantic.expand(2, -1, -1).contiguous(),
        "sem_seg_weights": torch.ones(2, size, size),
        "thing_masks": torch.where(in_thing, patch, -1).int().expand(2, -1, -1).contiguous(),
        "thing_classes": classes,
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def loss_and_gradients(inputs: Dict[str, Tensor], form: str = "lean") -> Callable[[], List[Tensor]]:
    options = MaskTransformerLossOptions()
    names = ("mask_logits", "class_logits", "pixel_features", "semantic_logits")
    outputs = [inputs[name].requires_grad_() for name in names]

    def call() -> List[Tensor]:
        masks, classes, features, semantic = outputs
        targets = build_mask_targets(
            inputs["sem_seg"],
            inputs["thing_masks"],
            inputs["thing_classes"],
            size=(int(masks.shape[2]), int(masks.shape[3])),
            thing_ids=range(NUM_THINGS),
            stuff_ids=range(NUM_THINGS, NUM_CLASSES),
            ignore_label=IGNORE_LABEL,
        )
        given = [MaskOutputs(masks.flatten(2), classes, features.flatten(2))]
        labels, weights = inputs["sem_seg"], inputs["sem_seg_weights"]
        if form == "lean":
            losses, _ = mask_transformer_losses(
                given,
                targets,
                options,
                semantic_logits=semantic,
                semantic_labels=labels,
                semantic_weights=weights,
                ignore_label=IGNORE_LABEL,
            )
        else:
            losses, _ = plain_forms.mask_transformer_losses(
                given,
                targets,
                options,
                semantic,
                labels[:, ::4, ::4],
                weights[:, ::4, ::4],
                IGNORE_LABEL,
            )
        total = torch.stack([loss.mean() for loss in losses.values()]).sum()
        return list(torch.autograd.grad(total, outputs))

    return call
