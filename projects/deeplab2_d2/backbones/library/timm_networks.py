"""timm's networks: built, asked for their strides, and refused where they cannot be had."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import torch
from detectron2.layers import ShapeSpec
from torch import nn

from .geometry import find_grid
from .meta import without_numbers
from .network import FEATURE_NAMES, REFUSALS, Grid, LibraryNetwork, Shapes
from .pyramid import PyramidBody, SimpleFeaturePyramid

_KEY = "MODEL.DEEPLAB2.TIMM.NAME"
_STRIDE_KEY = "MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE"
_ALL = ("res2", "res3", "res4", "res5")
# What lets a network take images of other sizes than it was made for.
_SIZE_OPTIONS: Tuple[Dict[str, Any], ...] = (
    {},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)
# Of a plain vision transformer, in pixels; its map is made to have stride 16.
_PATCHES = (14, 16)
# Branches that see each other in every fusion do not tell the stages: by the parts of a network.
_BRANCHED_STAGES = (
    ("conv1", "bn1", "conv2", "bn2"),
    ("layer1",),
    ("transition1", "stage2"),
    ("transition2", "stage3"),
    ("transition3", "stage4", "incre_modules"),
)


def import_timm() -> ModuleType:
    """
    Raises:
        ImportError: saying what to install.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError("backbones of timm need it: pip install 'timm>=1.0'") from error
    return timm


@dataclass(frozen=True)
class _Plan:
    """
    How a network is built.

    Attributes:
        options: for timm.
        indices: of timm's features.
        shapes: of each feature its name, channels and stride.
        grid: of the maps.
        patch: side of a plain vision transformer's patches; 0 for a network with stages.
        is_channels_last: the maps are (N, H, W, C).
    """

    options: Mapping[str, Any]
    indices: Tuple[int, ...]
    shapes: Tuple[Tuple[str, int, int], ...]
    grid: Grid
    patch: int = 0
    is_channels_last: bool = False


def build_timm_network(
    name: str,
    *,
    output_stride: int,
    in_channels: int,
    out_features: Sequence[str] = (),
    drop_path_keep_prob: float = 1.0,
    use_checkpoint: bool = False,
    pyramid_channels: int = 256,
) -> LibraryNetwork:
    """
    A network of timm, with random weights.

    Args:
        name: timm's, with or without a tag.
        output_stride: of the last feature: 8, 16 or 32.
        in_channels: of the images.
        out_features: of res1 to res5; none = all there are.
        drop_path_keep_prob: of the last block in training.
        use_checkpoint: compute inner values again in backward.
        pyramid_channels: of the features on a plain vision transformer.

    Raises:
        ImportError: without timm.
        ValueError: for a name that timm has not, a network without features of strides 4 to 32, or
            not with this output stride; naming the network and what it offers.
    """
    timm = import_timm()
    if not timm.is_model(name):
        near = get_close_matches(name.partition(".")[0], timm.list_models(), n=5)
        raise ValueError(
            f"config key {_KEY} must be one of timm's names (timm.list_models()), such as {near}, "
            f"got {name!r}"
        )
    plan = _plan(name, output_stride, in_channels)
    kept = _kept(name, [feature for feature, *_ in plan.shapes], out_features)
    options = dict(plan.options)
    if drop_path_keep_prob < 1.0:
        options["drop_path_rate"] = 1.0 - drop_path_keep_prob
    shapes = {
        feature: ShapeSpec(channels=channels, stride=stride)
        for feature, channels, stride in plan.shapes
        if feature in kept
    }
    body: Any
    if plan.patch:
        model = _transformer(name, in_channels, options)
        width = int(model.num_features)
        pyramid = SimpleFeaturePyramid(width, pyramid_channels, list(shapes), output_stride)
        body, network = PyramidBody(model, pyramid), model
        shapes = {
            feature: ShapeSpec(channels=pyramid_channels, stride=shape.stride)
            for feature, shape in shapes.items()
        }
    else:
        indices = [index for index, row in zip(plan.indices, plan.shapes) if row[0] in kept]
        body = network = _features(name, in_channels, {**options, "out_indices": indices})
    if use_checkpoint:
        network.set_grad_checkpointing(True)
    return LibraryNetwork(
        body=body,
        shapes=shapes,
        grid=plan.grid,
        is_channels_last=plan.is_channels_last,
        mean=tuple(network.pretrained_cfg["mean"]),
        std=tuple(network.pretrained_cfg["std"]),
        title=f"timm's {name}",
        all_shapes=partial(_all_shapes, name, in_channels),
        stage_parts=_stage_parts(body),
        new_parts=("body.pyramid.",) if plan.patch else (),
    )


def _kept(name: str, names: List[str], out_features: Sequence[str]) -> List[str]:
    unknown = [feature for feature in out_features if feature not in names]
    if unknown:
        raise ValueError(
            f"config key MODEL.DEEPLAB2.TIMM.OUT_FEATURES must be of {names} for timm's {name}, "
            f"got {unknown}"
        )
    return [feature for feature in names if not out_features or feature in out_features]


def _features(name: str, in_channels: int, options: Mapping[str, Any]) -> Any:
    return import_timm().create_model(name, features_only=True, in_chans=in_channels, **options)


def _transformer(name: str, in_channels: int, options: Mapping[str, Any]) -> Any:
    """A plain vision transformer up to its last norm."""
    model = import_timm().create_model(name, num_classes=0, in_chans=in_channels, **options)
    model.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
    return model


def _all_shapes(name: str, in_channels: int) -> Shapes:
    with without_numbers():
        model = import_timm().create_model(name, in_chans=in_channels)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@lru_cache(maxsize=32)
def _plan(name: str, output_stride: int, in_channels: int) -> _Plan:
    try:
        with without_numbers():
            body = _features(name, in_channels, {})
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"config key {_KEY}: timm's {name} offers no features (features_only): {error}"
        ) from error
    strides = [int(stride) for stride in body.feature_info.reduction()]
    if len(set(strides)) == 1 and len(strides) > 1:
        return _plan_of_transformer(name, output_stride, in_channels)
    rows = {
        FEATURE_NAMES[stride]: (index, int(channels), min(stride, output_stride))
        for index, stride, channels in zip(
            body.feature_info.out_indices, strides, body.feature_info.channels()
        )
        if stride in FEATURE_NAMES
    }
    if not set(_ALL) <= set(rows):
        raise ValueError(
            f"config key {_KEY} must be of a network with features of strides 4, 8, 16 and 32, got "
            f"timm's {name}, which has {strides}"
        )
    options: Dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    indices = tuple(index for index, *_ in rows.values())
    shapes = tuple((key, channels, stride) for key, (_, channels, stride) in rows.items())
    wanted = [stride for *_, stride in shapes]
    for size_option in _SIZE_OPTIONS:
        found = {**options, **size_option}
        try:
            if found:
                with without_numbers():
                    body = _features(name, in_channels, {**found, "out_indices": indices})
        except REFUSALS as error:
            if not size_option:
                raise ValueError(
                    f"config key {_STRIDE_KEY} must be 32 for timm's {name}, which has features of "
                    f"strides {strides} and no atrous form, got {output_stride}"
                ) from error
            continue
        is_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")
        grid = find_grid(body.eval(), wanted, is_channels_last=is_last, in_channels=in_channels)
        if grid is not None:
            return _Plan(found, indices, shapes, grid, is_channels_last=is_last)
    raise ValueError(
        f"config key {_KEY} must be of a network that takes images of any size, got timm's {name}, "
        f"whose features are not of strides {wanted} at any size that was tried"
    )


def _plan_of_transformer(name: str, output_stride: int, in_channels: int) -> _Plan:
    stride = max(16, output_stride)
    for option in _SIZE_OPTIONS:
        try:
            with without_numbers():
                model = _transformer(name, in_channels, option).eval()
                patch = int(model.patch_embed.patch_size[0])
                if patch not in _PATCHES:
                    break
            with torch.device("meta"), torch.no_grad():
                side = stride * patch // 16
                model(torch.zeros(1, in_channels, side, 2 * side))
        except REFUSALS:
            continue
        shapes = tuple(
            (feature, 0, min(feature_stride, output_stride))
            for feature_stride, feature in FEATURE_NAMES.items()
            if feature in _ALL
        )
        grid = Grid(stride, stride // 3, (patch, 16))
        return _Plan(option, (), shapes, grid, patch)
    raise ValueError(
        f"config key {_KEY} must be of a network with stages, or a plain vision transformer with "
        f"patches of {list(_PATCHES)} pixels that takes images of any size, got timm's {name}"
    )


def _stage_parts(body: nn.Module) -> Tuple[Tuple[str, ...], ...]:
    """Parts of the stages of a network whose features do not follow one from another."""
    if isinstance(body, PyramidBody):
        model: Any = body.model
        num_blocks = len(model.blocks)
        inner = [name for name, _ in model.named_children()] + [
            name for name, _ in model.named_parameters(recurse=False)
        ]
        stem = [name for name in inner if name not in ("blocks", "norm")]
        ends = [num_blocks * quarter // 4 for quarter in range(5)]
        stages = [[f"blocks.{index}" for index in range(a, b)] for a, b in zip(ends, ends[1:])]
        stages[-1].append("norm")
        return tuple(tuple(f"model.{part}" for part in parts) for parts in (stem, *stages))
    children = {name for name, _ in body.named_children()}
    if {part for parts in _BRANCHED_STAGES for part in parts} <= children:
        return _BRANCHED_STAGES
    return ()
