"""Backbones that were trained on ImageNet: MOAT's checkpoints by name, ConvNeXt's saved alone."""

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
import torch
from bundle_writer import write_bundle, write_checkpoint
from torch import nn

from deeplab2_d2.backbones import MOATS, build_backbone_by_name
from deeplab2_d2.checkpoint import compare_deeplab2_shapes, load_deeplab2_weights
from deeplab2_d2.checkpoint.deeplab2_checkpoint import DeepLab2Checkpoint
from deeplab2_d2.checkpoint.load import find_parameter
from deeplab2_d2.layers import Norm

Shapes = Dict[str, Tuple[int, ...]]


class Alone(nn.Module):
    """A backbone under the name that it has in a model."""

    def __init__(self, name: str, **keys: object):
        super().__init__()
        self.backbone = build_backbone_by_name(name, norm=Norm("BN"), **keys)


def norm(scope: str, channels: int, *, is_batch: bool = True) -> Shapes:
    words = ["gamma", "beta"] + (["moving_mean", "moving_variance"] if is_batch else [])
    return {f"{scope}/{word}": (channels,) for word in words}


def moat_variables(name: str, *, has_positions: bool) -> Shapes:
    """What DeepLab2's code of MOAT creates, under the names that it looks for in a checkpoint."""
    spec = MOATS[name]
    first, second = spec.stem
    shapes: Shapes = {
        "moat/stem/conv_0/kernel": (3, 3, 3, first),
        "moat/stem/conv_0/bias": (first,),
        "moat/stem/conv_1/kernel": (3, 3, first, second),
        "moat/stem/conv_1/bias": (second,),
        **norm("moat/stem/norm_0", first),
        **norm("moat/final_layer_norm", spec.channels[-1], is_batch=False),
        "moat/logits_head/kernel": (1, 1, spec.channels[-1], 1000),
        "moat/logits_head/bias": (1000,),
    }
    channels = second
    for stage, (width, blocks) in enumerate(zip(spec.channels, spec.num_blocks)):
        for block in range(blocks):
            scope = f"moat/block_{stage:02d}_{block:02d}"
            shapes.update(moat_block(scope, channels, width, stage, has_positions))
            channels = width
    return shapes


def moat_block(scope: str, channels: int, width: int, stage: int, has_positions: bool) -> Shapes:
    inner = 4 * width
    shapes: Shapes = {
        **norm(f"{scope}/pre_norm", channels),
        f"{scope}/expand_conv/kernel": (1, 1, channels, inner),
        **norm(f"{scope}/expand_norm", inner),
        f"{scope}/depthwise_conv/depthwise_kernel": (3, 3, inner, 1),
        **norm(f"{scope}/depthwise_norm", inner),
        f"{scope}/shrink_conv/kernel": (1, 1, inner, width),
        f"{scope}/shrink_conv/bias": (width,),
    }
    if channels != width:
        shapes[f"{scope}/shortcut_conv/kernel"] = (1, 1, channels, width)
        shapes[f"{scope}/shortcut_conv/bias"] = (width,)
    if stage < 2:
        squeezed = width // 4
        shapes[f"{scope}/se/reduce_conv2d/kernel"] = (1, 1, inner, squeezed)
        shapes[f"{scope}/se/reduce_conv2d/bias"] = (squeezed,)
        shapes[f"{scope}/se/expand_conv2d/kernel"] = (1, 1, squeezed, inner)
        shapes[f"{scope}/se/expand_conv2d/bias"] = (inner,)
        return shapes
    heads = width // 32
    for part in "qkv":
        shapes[f"{scope}/attention/{part}/weight"] = (width, heads, 32)
        shapes[f"{scope}/attention/{part}/bias"] = (heads, 32)
    shapes[f"{scope}/attention/o/weight"] = (heads, 32, width)
    shapes[f"{scope}/attention/o/bias"] = (width,)
    if has_positions:
        side = 2 * (14 if stage == 2 else 7) - 1
        shapes[f"{scope}/attention/relative_position_embedding"] = (heads, side, side)
    return {**shapes, **norm(f"{scope}/attention_norm", width, is_batch=False)}


@pytest.mark.parametrize("name", list(MOATS))
@pytest.mark.parametrize("has_positions", [True, False], ids=["positions", "no_pe"])
def test_every_variable_of_a_moat_but_its_classifier_has_a_place(name, has_positions):
    with torch.device("meta"):
        model = Alone(name, POSITIONS=has_positions)
    report = compare_deeplab2_shapes(moat_variables(name, has_positions=has_positions), model)
    assert not report.missing and not report.mismatched, report.table(10)
    assert sorted(report.unused) == [
        f"classifier.{part}.{tensor}"
        for part in ("logits", "norm")
        for tensor in ("bias", "weight")
    ]


def test_of_a_moat_the_averages_are_read(tmp_path: Path):
    name = "moat/block_00_00/expand_norm/gamma"
    values = {name: np.full(3, 1.0, np.float32), "global_step": np.array(7)}
    values[f"{name}/ExponentialMovingAverage"] = np.full(3, 2.0, np.float32)
    values["moat/block_00_00/expand_norm/moving_mean"] = np.full(3, 5.0, np.float32)
    write_bundle(tmp_path / "model.ckpt", values)
    checkpoint = DeepLab2Checkpoint(tmp_path / "model.ckpt")
    assert {key: float(checkpoint[key][0]) for key in checkpoint} == {
        name: 2.0,
        "moat/block_00_00/expand_norm/moving_mean": 5.0,
    }
    parameter = find_parameter(name)
    assert parameter is not None and parameter.name == "backbone.blocks.0.0.expand_norm.weight"


def convnext_keys(num_blocks: List[int]) -> List[str]:
    """The object graph of DeepLab2's ConvNeXt, as the reference's kMaX-DeepLab has it."""
    keys = []
    for index in range(4):
        for layer, words in enumerate(
            (["kernel", "bias"], ["gamma", "beta"])[:: 1 if not index else -1]
        ):
            keys += [f"downsample_layers/{index}/layer_with_weights-{layer}/{w}" for w in words]
        for block in range(num_blocks[index]):
            scope = f"stages/{index}/layer_with_weights-{block}"
            keys.append(f"{scope}/layer_scale")
            keys += [f"{scope}/norm/{word}" for word in ("gamma", "beta")]
            for layer in ("depthwise_conv", "pointwise_conv1", "pointwise_conv2"):
                keys += [f"{scope}/{layer}/{word}" for word in ("kernel", "bias")]
    return keys


def test_a_convnext_that_was_saved_alone_is_a_backbone(tmp_path: Path):
    model = Alone("convnext_tiny", width_multiplier=1 / 12)
    names = {key: find_parameter(key) for key in convnext_keys([3, 3, 9, 3])}
    state = model.state_dict()
    assert {p.name for p in names.values() if p is not None} == set(state)
    values = {}
    for number, (key, parameter) in enumerate(names.items()):
        shape = tuple(state[parameter.name].shape)
        # Kernels are the only ones of another layout.
        if key.endswith("kernel"):
            shape = tuple(np.moveaxis(np.empty(shape), (0, 1), (-1, -2)).shape)
        elif key.endswith("layer_scale"):
            shape = (1, 1, 1, *shape)
        values[key] = np.full(shape, number, np.float32)
    write_checkpoint(tmp_path, values, "ckpt-1")
    report = load_deeplab2_weights(model, DeepLab2Checkpoint(tmp_path))
    assert report.is_complete
    for number, parameter in enumerate(names.values()):
        assert (model.state_dict()[parameter.name] == number).all()
