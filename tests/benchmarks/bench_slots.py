"""MaX-DeepLab's post-processing: mask slots to panoptic labels, against plain PyTorch."""

from typing import Any, Dict, Iterator, Tuple

import torch
from measuring import measure
from operator_inputs import differences, make_slots
from torch import Tensor

from deeplab2_d2.ops import SlotSegmentation, use_reference
from deeplab2_d2.postprocessing import Frames, SlotOptions, panoptic_from_mask_slots

NUM_SLOTS, NUM_CLASSES, NUM_THINGS = 128, 133, 80
Size = Tuple[int, int]


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    for size in ((161, 161),) if args.quick else ((641, 641), (1025, 1025)):
        for mode in ("pixelwise", "maskwise"):
            yield _row(args, size, mode)
    if not args.quick:
        # Another size than the network's: neighbours lie otherwise in the map.
        yield _row(args, (641, 641), "pixelwise", output_size=(480, 640))


def make_inputs(size: Size, device: str, dtype: torch.dtype = torch.float32) -> Tuple[Tensor, ...]:
    """A batch of one, of which about half of the slots are sure of their class."""
    low = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    masks, class_logits = make_slots(1, NUM_SLOTS, NUM_CLASSES, low, dtype=dtype)
    return (2 * masks).to(device), (2 * class_logits).to(device)


def post_process(
    inputs: Tuple[Tensor, ...], size: Size, mode: str, *, output_size: Size
) -> SlotSegmentation:
    masks, class_logits = inputs
    # With a weight of the masks mask-wise also computes their means.
    options = SlotOptions(mode=mode, mask_weight=1.0)
    return panoptic_from_mask_slots(
        masks, class_logits, Frames(size, size, output_size), thing_ids=range(NUM_THINGS),
        label_divisor=1000, options=options,
    )  # fmt: skip


def name_of(size: Size, mode: str, output_size: Size) -> str:
    resized = "" if size == output_size else f" to {output_size[0]}x{output_size[1]}"
    return f"{mode} map of {NUM_SLOTS} slots, {size[0]}x{size[1]}{resized}"


def _row(args: Any, size: Size, mode: str, output_size: Size = (0, 0)) -> Dict[str, Any]:
    output_size = output_size if any(output_size) else size
    inputs = make_inputs(size, args.device)

    def ours() -> SlotSegmentation:
        return post_process(inputs, size, mode, output_size=output_size)

    reference = use_reference()(ours)
    different = differences(ours(), reference(), tolerance=0.0)
    if different:
        raise RuntimeError(f"the kernels differ from the reference: {different}")
    peer = measure(reference, repeats=1, warmups=0, device=args.device)
    return {
        "name": name_of(size, mode, output_size),
        "measurement": measure(ours, repeats=args.repeats, device=args.device),
        "peer": "plain PyTorch",
        "peer_seconds": peer.seconds,
    }
