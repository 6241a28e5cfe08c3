"""Axial attention, forward and backward: the operator, the lean form, the direct formulation."""

import argparse
import contextlib
from dataclasses import replace
from typing import Any, ContextManager, Dict, Iterator
from unittest import mock

import torch
from direct_attention import DirectAxialAttention
from measuring import allocated_peak, measure

from deeplab2_d2 import ops
from deeplab2_d2.backbones import build_backbone_by_name
from deeplab2_d2.layers import AttentionSpec, AxialAttention, Norm, axial_attention

# Channels of the input, the keys and the values, and the stage of Axial-DeepLab-L that has them.
_LAYERS = (
    (256, 128, 256, "stage 3"),
    (512, 256, 512, "stage 4"),
)


def rows(args: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """Of a layer: the operator beside the lean form; lean beside direct; direct. A network."""
    length, others = (33, 17) if args.quick else (129, 65)
    for channels, key_depth, value_depth, stage in _LAYERS:
        found = {}
        for form, kind in (
            ("direct", DirectAxialAttention),
            ("lean", AxialAttention),
            ("operator", AxialAttention),
        ):
            torch.manual_seed(0)
            layer = kind(
                channels,
                key_depth=key_depth,
                value_depth=value_depth,
                spec=AttentionSpec(),
                norm=Norm(),
            )
            layer = layer.to(args.device).train()
            features = torch.randn(1, channels, length, others, device=args.device)
            features.requires_grad_()

            def step() -> None:
                layer(features).square().mean().backward()

            with _form(form):
                measurement = measure(step, repeats=args.repeats, device=args.device)
                if args.device == "cpu":
                    measurement = replace(measurement, peak_bytes=allocated_peak(step))
            found[form] = measurement
        name = f"axial attention of {stage}, {length} x {others}, forward + backward"
        yield {
            "name": f"{name}, operator",
            "measurement": found["operator"],
            "peer": "lean",
            "peer_seconds": found["lean"].seconds,
        }
        yield {
            "name": f"{name}, lean",
            "measurement": found["lean"],
            "peer": "direct",
            "peer_seconds": found["direct"].seconds,
        }
        yield {"name": f"{name}, direct", "measurement": found["direct"]}
    yield _network_row(args)


def _form(form: str) -> ContextManager[Any]:
    """The operator also where the layer takes its lean form by default."""
    if form == "lean":
        return ops.use_reference()
    if form == "operator":
        return mock.patch.object(axial_attention, "_OPERATOR_DEVICES", ("cpu", "cuda"))
    return contextlib.nullcontext()


def _network_row(args: argparse.Namespace) -> Dict[str, Any]:
    """A network of axial attention in evaluation, by the operator and in the lean form."""
    height, width = (129, 257) if args.quick else (513, 1025)
    torch.manual_seed(0)
    backbone = build_backbone_by_name("axial_resnet_s", norm=Norm("BN"), output_stride=16).eval()
    backbone.to(args.device)
    images = torch.randn(1, 3, height, width, device=args.device)

    def forward() -> None:
        with torch.inference_mode():
            backbone(images)

    with _form("operator"):
        measurement = measure(forward, repeats=args.repeats, device=args.device)
    with _form("lean"):
        lean = measure(forward, repeats=args.repeats, device=args.device)
    return {
        "name": f"axial_resnet_s, {height}x{width}, stride 16, operator",
        "measurement": measurement,
        "peer": "lean",
        "peer_seconds": lean.seconds,
    }
