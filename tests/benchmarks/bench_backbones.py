"""Every backbone at 513 x 1025, batch 1: parameters, multiply-adds, time, memory."""

import argparse
from typing import Any, Callable, Dict, Iterator, Tuple

import torch
from measuring import measure
from network_costs import (
    backbone_config,
    backbone_costs,
    max_deeplab_costs,
    panoptic_deeplab_costs,
)

from deeplab2_d2.backbones import BACKBONE_NAMES, MOBILE_NETWORKS, build_backbone_by_name
from deeplab2_d2.layers import Norm

_OUTPUT_STRIDE = 16

# Rows of the table that differ from others by their name alone, and what the config sets.
_WIDTHS = {"axial_resnet_s": 0.5, "axial_deeplab_s": 0.5}
_ALIASES = ("swidernet",)

# Papers state costs of whole networks: size, parameters in millions and multiply-adds in billions.
# docs/backbones.md explains those that differ by more than 1 %.
_PAPERS: Dict[str, Tuple[Callable[..., Tuple[int, int]], Tuple[int, int], str]] = {
    "resnet50": (panoptic_deeplab_costs, (1025, 2049), "381.4 B (arXiv:1911.10194)"),
    "mobilenet_v3_large": (panoptic_deeplab_costs, (1025, 2049), "54.2 B (arXiv:1911.10194)"),
    "axial_deeplab_l": (panoptic_deeplab_costs, (1025, 1025), "44.9 M, 344 B (arXiv:2012.00759)"),
    "max_deeplab_s": (max_deeplab_costs, (1025, 1025), "61.9 M, 324 B (arXiv:2012.00759)"),
    "max_deeplab_l": (max_deeplab_costs, (1025, 1025), "451 M, 3692 B (arXiv:2012.00759)"),
    "max_deeplab_wide_resnet41": (max_deeplab_costs, (641, 641), "196 M, 746 B (the same)"),
}


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """One row a backbone. ``--quick`` takes three of them and smaller images."""
    height, width = (129, 257) if args.quick else (513, 1025)
    names = ("resnet50", "max_deeplab_tiny", "resnet_tiny") if args.quick else BACKBONE_NAMES
    for name in names:
        if name in _ALIASES:
            continue
        torch.manual_seed(0)
        backbone = build_backbone_by_name(
            name,
            norm=Norm("BN"),
            output_stride=_OUTPUT_STRIDE,
            width_multiplier=_WIDTHS.get(name, 1.0),
            **({} if name in MOBILE_NETWORKS else {"checkpointed_kinds": ()}),
        )
        backbone = backbone.to(args.device).eval()
        images = torch.randn(1, 3, height, width, device=args.device)

        def forward() -> None:
            with torch.inference_mode():
                backbone(images)

        cfg = backbone_config(name, _OUTPUT_STRIDE, WIDTH_MULTIPLIER=_WIDTHS.get(name, 1.0))
        text = _words(*backbone_costs(cfg, (height, width)))
        yield {
            "name": f"{name}, {height}x{width}, stride {_OUTPUT_STRIDE}: {text}{_paper(name)}",
            "measurement": measure(forward, repeats=args.repeats, device=args.device),
        }


def _words(parameters: int, multiply_adds: int) -> str:
    return f"{parameters / 1e6:.1f} M, {multiply_adds / 1e9:.1f} B M-Adds"


def _paper(name: str) -> str:
    """The whole network's costs beside the paper's."""
    if name not in _PAPERS:
        return ""
    costs, size, paper = _PAPERS[name]
    cfg = backbone_config(name, _OUTPUT_STRIDE)
    if name.startswith("axial"):
        for node in (cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER, cfg.MODEL.DEEPLAB2.INSTANCE_DECODER):
            node.ASPP_ONLY_1X1 = True
    found = _words(*costs(cfg, size))
    return f" (with heads at {size[0]}x{size[1]}: {found}; the paper: {paper})"
