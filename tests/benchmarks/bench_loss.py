"""The fused loss against PyTorch's interpolate, cross_entropy and topk, forwards and backwards."""

from typing import Any, Callable, Dict, Iterator

import torch
from measuring import measure
from torch import Tensor

from deeplab2_d2.losses import average_top_k
from deeplab2_d2.ops import reference, upsampled_cross_entropy


def rows(args: Any) -> Iterator[Dict[str, Any]]:
    low, high = ((65, 129), (257, 513)) if args.quick else ((257, 513), (1025, 2049))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 19, *low, generator=generator).to(args.device).requires_grad_()
    labels = torch.randint(19, (1, *high), generator=generator).to(args.device)
    weights = torch.ones(1, *high, device=args.device)

    def run(function: Callable[..., Tensor]) -> Tensor:
        losses = function(logits, labels, weights, ignore_label=255)
        return torch.autograd.grad(average_top_k(losses, 0.2).sum(), logits)[0]

    def ours() -> Tensor:
        return run(upsampled_cross_entropy)

    def peer() -> Tensor:
        return run(reference.upsampled_cross_entropy)

    # Near-ties at the k-th loss may be chosen otherwise: a few pixels of many.
    difference = (ours() - peer()).abs().sum() / peer().abs().sum()
    if difference > 1e-4:
        raise RuntimeError(f"the gradient differs from PyTorch's by {difference:.1e}")
    theirs = measure(peer, repeats=args.repeats, device=args.device)
    memory = "" if theirs.peak_bytes is None else f", {theirs.peak_bytes / 2**20:.0f} MiB"
    yield {
        "name": f"loss and gradient, {high[0]}x{high[1]}x19",
        "measurement": measure(ours, repeats=args.repeats, device=args.device),
        "peer": f"PyTorch{memory}",
        "peer_seconds": theirs.seconds,
    }
