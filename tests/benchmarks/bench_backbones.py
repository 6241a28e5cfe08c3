"""Every backbone at 513 x 1025, batch 1: parameters, multiply-adds, time, memory."""

import argparse
from typing import Any, Dict, Iterator

import torch
from measuring import measure
from torch.utils.flop_counter import FlopCounterMode

from deeplab2_d2.backbones import BACKBONE_NAMES, MOBILE_NETWORKS, build_backbone_by_name
from deeplab2_d2.layers import Norm

_OUTPUT_STRIDE = 16

# Rows of the table that differ from others by their name alone, and what the config sets.
_WIDTHS = {"axial_resnet_s": 0.5, "axial_deeplab_s": 0.5}
_ALIASES = ("swidernet",)


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """One row a backbone. ``--quick`` takes three of them and smaller images."""
    height, width = (129, 257) if args.quick else (513, 1025)
    names = ("resnet50", "mobilenet_v3_small", "resnet_tiny") if args.quick else BACKBONE_NAMES
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

        parameters = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
        text = f"{parameters:.1f} M, {multiply_adds(name, height, width) / 1e9:.1f} B M-Adds"
        yield {
            "name": f"{name}, {height}x{width}, stride {_OUTPUT_STRIDE}: {text}",
            "measurement": measure(forward, repeats=args.repeats, device=args.device),
        }


def multiply_adds(name: str, height: int, width: int) -> int:
    """Of one image: convolutions and matrix products, counted without computing them."""
    with torch.device("meta"):
        backbone = (
            build_backbone_by_name(
                name,
                norm=Norm("BN"),
                output_stride=_OUTPUT_STRIDE,
                width_multiplier=_WIDTHS.get(name, 1.0),
            )
            .eval()
            .requires_grad_(False)
        )
        images = torch.zeros(1, 3, height, width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(images)
    return counter.get_total_flops() // 2
