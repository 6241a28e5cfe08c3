"""Centers of a heatmap by window and kind of map, against the reference, results compared first."""

from typing import Any, Dict, Iterator

import torch
from measuring import measure
from operator_inputs import make_prediction

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

# Of an untrained network the map is a plateau: every pixel is the largest of its window.
KINDS = ("usual", "constant")


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    size = (257, 513) if args.quick else (1025, 2049)
    low = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    usual = make_prediction(1, 19, low, 40, noise=0.3)["center_heatmap"][:, 0]
    maps = dict(zip(KINDS, (usual, torch.ones_like(usual))))
    for kind in KINDS:
        for nms_kernel in (13, 41, 101):
            yield _row(args, kind, maps[kind].to(args.device), size, nms_kernel)


def _row(args: Any, kind: str, heatmap: Any, size: Any, nms_kernel: int) -> Dict[str, Any]:
    options = {"threshold": 0.1, "nms_kernel": nms_kernel, "top_k": 200}

    def ours() -> Any:
        return ops.find_centers(heatmap, size, (0.25, 0.25), **options)

    def peer() -> Any:
        return reference.find_centers(heatmap, size, (0.25, 0.25), **options)

    for left, right in zip(ours(), peer()):
        if not torch.equal(left, right):
            raise RuntimeError(f"centers of the {kind} map, window of {nms_kernel}, are others")
    return {
        "name": f"centers, {kind} map, {size[0]}x{size[1]}, window of {nms_kernel}",
        "measurement": measure(ours, repeats=args.repeats, device=args.device),
        "peer": "plain PyTorch",
        "peer_seconds": measure(peer, repeats=1, warmups=0, device=args.device).seconds,
    }
