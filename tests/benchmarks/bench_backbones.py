"""Every backbone at 513 x 1025, batch 1: parameters, multiply-adds, time, memory."""

import argparse
from typing import Any, Dict, Iterator

import torch
from measuring import measure
from network_costs import backbone_config, backbone_costs
from paper_networks import NETWORKS

from deeplab2_d2.backbones import backbone_names, build_backbone_by_name
from deeplab2_d2.layers import Norm

_OUTPUT_STRIDE = 16

# Rows of the table that differ from others by their name alone, and what the config sets.
_ALIASES = ("swidernet",)


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """
    One row a backbone. ``--quick`` takes three of them and smaller images.

    docs/backbones.md explains where the papers' costs differ from ours by more than 1 %.
    """
    height, width = (129, 257) if args.quick else (513, 1025)
    names = ("resnet50", "max_deeplab_tiny", "resnet_tiny") if args.quick else backbone_names()
    for name in names:
        if name in _ALIASES:
            continue
        torch.manual_seed(0)
        backbone = build_backbone_by_name(name, norm=Norm("BN"), output_stride=_OUTPUT_STRIDE)
        backbone = backbone.to(args.device).eval()
        images = torch.randn(1, 3, height, width, device=args.device)

        def forward() -> None:
            with torch.inference_mode():
                backbone(images)

        cfg = backbone_config(name, _OUTPUT_STRIDE)
        text = _words(*backbone_costs(cfg, (height, width)))
        yield {
            "name": f"{name}, {height}x{width}, stride {_OUTPUT_STRIDE}: {text}{_paper(name)}",
            "measurement": measure(forward, repeats=args.repeats, device=args.device),
        }


def _words(parameters: int, multiply_adds: int) -> str:
    return f"{parameters / 1e6:.1f} M, {multiply_adds / 1e9:.1f} B M-Adds"


def _paper(name: str) -> str:
    """The first whole network with the backbone of which a paper states the costs, and these."""
    for network in NETWORKS:
        if network.config().MODEL.DEEPLAB2.BACKBONE.NAME == name:
            parameters = f"{network.parameters} M, " if network.parameters else ""
            height, width = network.size
            return (
                f" (with heads at {height}x{width}: {_words(*network.count())}; the paper: "
                f"{parameters}{network.multiply_adds} B, {network.source})"
            )
    return ""
