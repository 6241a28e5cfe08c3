"""
Names and shapes of a state dict of bytedance/kmax-deeplab, by the structure of its public code.

Written by hand from its modules, in their order, without our rules: a function is a class there.
"""

from typing import Dict, Sequence, Tuple

Shapes = Dict[str, Tuple[int, ...]]

CONVNEXTS = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}


def _under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _affine(channels: int) -> Shapes:
    return {"weight": (channels,), "bias": (channels,)}


def _batch_norm(channels: int) -> Shapes:
    moving = {"running_mean": (channels,), "running_var": (channels,), "num_batches_tracked": ()}
    return {**_affine(channels), **moving}


def _conv(
    inner: int,
    outer: int,
    *kernel: int,
    has_norm: bool = True,
    has_bias: bool = False,
    groups: int = 1,
) -> Shapes:
    """ConvBN; ``kernel`` has a number a dimension."""
    shapes: Shapes = {"conv.weight": (outer, inner // groups, *kernel)}
    if has_bias:
        shapes["conv.bias"] = (outer,)
    return {**shapes, **(_under("norm", _batch_norm(outer)) if has_norm else {})}


def resnet50() -> Shapes:
    """Detectron2's: a convolution's norm is inside of it."""

    def conv(inner: int, outer: int, kernel: int) -> Shapes:
        weight: Shapes = {"weight": (outer, inner, kernel, kernel)}
        return {**weight, **_under("norm", _batch_norm(outer))}

    shapes, channels = _under("stem.conv1", conv(3, 64, 7)), 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
        for block in range(blocks):
            name = f"res{stage}.{block}"
            if block == 0:
                shapes.update(_under(name + ".shortcut", conv(channels, 4 * width, 1)))
            shapes.update(_under(name + ".conv1", conv(channels, width, 1)))
            shapes.update(_under(name + ".conv2", conv(width, width, 3)))
            shapes.update(_under(name + ".conv3", conv(width, 4 * width, 1)))
            channels = 4 * width
    return shapes


def convnext(depths: Sequence[int], dims: Sequence[int]) -> Shapes:
    """The stem is convolution and norm, other changes of resolution norm and convolution."""
    shapes: Shapes = {}
    for stage, (depth, width) in enumerate(zip(depths, dims)):
        name = f"downsample_layers.{stage}"
        before, kernel = (3, 4) if stage == 0 else (dims[stage - 1], 2)
        conv, norm = (0, 1) if stage == 0 else (1, 0)
        shapes[f"{name}.{conv}.weight"] = (width, before, kernel, kernel)
        shapes[f"{name}.{conv}.bias"] = (width,)
        shapes.update(_under(f"{name}.{norm}", _affine(width if stage == 0 else before)))
        for block in range(depth):
            part: Shapes = {
                "gamma": (width,),
                "dwconv.weight": (width, 1, 7, 7),
                "dwconv.bias": (width,),
                **_under("norm", _affine(width)),
                "pwconv1.weight": (4 * width, width),
                "pwconv1.bias": (4 * width,),
                "pwconv2.weight": (width, 4 * width),
                "pwconv2.bias": (width,),
            }
            shapes.update(_under(f"stages.{stage}.{block}", part))
    return shapes


def axial_attention(inner: int, key_depth: int, value_depth: int, num_heads: int = 8) -> Shapes:
    """AxialAttention."""
    depth = 2 * key_depth + value_depth
    rows, heads = 2 * 255 - 1, num_heads
    return {
        "qkv_transform.conv.weight": (depth, inner, 1),
        "_query_rpe._embeddings.weight": (rows, key_depth // heads),
        "_key_rpe._embeddings.weight": (rows, key_depth // heads),
        "_value_rpe._embeddings.weight": (rows, value_depth // heads),
        **_under("_batch_norm_qkv", _batch_norm(depth)),
        **_under("_batch_norm_similarity", _batch_norm(3 * heads)),
        **_under("_batch_norm_retrieved_output", _batch_norm(2 * value_depth)),
    }


def pixel_decoder(
    in_channels: Sequence[int],
    widths: Sequence[int] = (512, 256, 128, 64, 32),
    blocks: Sequence[int] = (1, 5, 1, 1, 1),
) -> Shapes:
    """KMaXPixelDecoder: channels of the backbone's features, from stride 32 on."""
    shapes: Shapes = {}
    for stage, inner in enumerate(in_channels):
        width = widths[stage]
        shapes.update(_under(f"_in_norms.{stage}", _affine(inner)))
        channels = width if stage else inner
        for index in range(blocks[stage]):
            part: Shapes = {}
            if stage < 2:
                part.update(_under("_conv1_bn_act", _conv(channels, 2 * width, 1, 1)))
                # The height's reads the block's inner channels, the width's what that returns.
                for axis in ("height", "width"):
                    attention = axial_attention(2 * width, width, 2 * width)
                    part.update(_under(f"_attention._{axis}_axis", attention))
                part.update(_under("_conv3_bn", _conv(2 * width, 4 * width, 1, 1)))
            else:
                part.update(_under("_conv1_bn_act", _conv(channels, width, 1, 1)))
                part.update(_under("_conv2_bn_act", _conv(width, width, 3, 3)))
                part.update(_under("_conv3_bn", _conv(width, 4 * width, 1, 1)))
            if channels != 4 * width:
                part.update(_under("_shortcut", _conv(channels, 4 * width, 1, 1)))
            shapes.update(_under(f"_stages.{stage}._blocks.{index}", part))
            channels = 4 * width
        if stage:
            fuse = f"_resized_fuses.{stage - 1}"
            low = _conv(4 * widths[stage - 1], width, 1, 1)
            shapes.update(_under(fuse + "._conv_bn_low", low))
            if inner != width:
                shapes.update(_under(fuse + "._conv_bn_high", _conv(inner, width, 1, 1)))
    return shapes


def predictor(pixel_channels: int, num_classes: int) -> Shapes:
    """KMaXPredictor; ``num_classes`` with void."""
    depthwise = _conv(pixel_channels, pixel_channels, 5, 5, groups=pixel_channels)
    return {
        **_under("_pixel_space_head_conv0bnact", depthwise),
        **_under("_pixel_space_head_conv1bnact", _conv(pixel_channels, 256, 1, 1)),
        **_under("_pixel_space_head_last_convbn", _conv(256, 128, 1, 1, has_bias=True)),
        **_under("_transformer_mask_head", _conv(256, 128, 1)),
        **_under(
            "_transformer_class_head", _conv(256, num_classes, 1, has_norm=False, has_bias=True)
        ),
        **_under("_pixel_space_mask_batch_norm", _batch_norm(1)),
    }


def transformer_layer(pixel_channels: int, num_classes: int) -> Shapes:
    """KMaXTransformerLayer."""
    return {
        **_under("_query_conv1_bn_act", _conv(256, 256, 1)),
        **_under("_pixel_conv1_bn_act", _conv(pixel_channels, 256, 1, 1)),
        **_under("_query_qkv_conv_bn", _conv(256, 512, 1)),
        **_under("_pixel_v_conv_bn", _conv(256, 256, 1, 1)),
        **_under("_query_self_attention._batch_norm_similarity", _batch_norm(8)),
        **_under("_query_self_attention._batch_norm_retrieved_value", _batch_norm(256)),
        **_under("_query_conv3_bn", _conv(256, 256, 1)),
        **_under("_query_ffn_conv1_bn_act", _conv(256, 2048, 1)),
        **_under("_query_ffn_conv2_bn", _conv(2048, 256, 1)),
        **_under("_predcitor", predictor(256, num_classes)),
        **_under("_kmeans_query_batch_norm_retrieved_value", _batch_norm(256)),
        **_under("_kmeans_query_conv3_bn", _conv(256, 256, 1)),
    }


def _semantic_predictor(res5: int, res3: int, res2: int, num_classes: int) -> Shapes:
    """SemanticPredictor; ``num_classes`` with void."""
    shapes: Shapes = {}
    for name, kernel in (("aspp_conv0", 1), ("aspp_conv1", 3), ("aspp_conv2", 3)):
        shapes.update(_under(f"_aspp._{name}", _conv(res5, 256, kernel, kernel)))
    shapes.update(_under("_aspp._aspp_conv3", _conv(res5, 256, 3, 3)))
    shapes.update(_under("_aspp._aspp_pool", _conv(res5, 256, 1, 1)))
    shapes.update(_under("_aspp._proj_conv_bn_act", _conv(5 * 256, 256, 1, 1)))
    for stride, inner, outer in ((8, res3, 64), (4, res2, 32)):
        fused = 256 + outer
        name = f"_low_level_fusion_os{stride}_conv"
        shapes.update(_under(f"_low_level_projection_os{stride}", _conv(inner, outer, 1, 1)))
        shapes.update(_under(name + "0_bn_act", _conv(fused, fused, 5, 5, groups=fused)))
        shapes.update(_under(name + "1_bn_act", _conv(fused, 256, 1, 1)))
    shapes.update(_under("conv_block_0", _conv(256, 256, 5, 5, groups=256)))
    shapes.update(_under("conv_block_1", _conv(256, 256, 1, 1)))
    last = _conv(256, num_classes, 1, 1, has_norm=False, has_bias=True)
    return {**shapes, **_under("final_conv", last)}


def _semantic_sequence(res5: int, num_classes: int) -> Shapes:
    """The auxiliary head without a decoder, and without void."""
    return {
        **_under("0", _conv(res5, res5, 5, 5, groups=res5)),
        **_under("1", _conv(res5, 256, 1, 1)),
        **_under("2", _conv(256, num_classes, 1, 1, has_norm=False, has_bias=True)),
    }


def kmax_deeplab(
    backbone: Shapes,
    channels: Sequence[int],
    *,
    num_classes: int,
    num_queries: int = 128,
    has_semantic_decoder: bool = True,
) -> Shapes:
    """
    The whole model.

    Args:
        backbone: its names and shapes.
        channels: of its features that are read, from stride 32 on.
        num_classes: without void.
    """
    head: Shapes = {"_cluster_centers.weight": (256, num_queries)}
    for index in range(6):
        pixels = (2048, 1024, 512)[index // 2]
        layer = transformer_layer(pixels, num_classes + 1)
        head.update(_under(f"_kmax_transformer_layers.{index}", layer))
    for name in ("class", "mask"):
        head.update(_under(f"_{name}_embedding_projection", _conv(256, 256, 1)))
    last = 4 * (512, 256, 128, 64, 32)[len(channels) - 1]
    head.update(_under("_predcitor", predictor(last, num_classes + 1)))
    if has_semantic_decoder:
        semantic = _semantic_predictor(channels[0], channels[2], channels[3], num_classes + 1)
    else:
        semantic = _semantic_sequence(channels[0], num_classes)
    head.update(_under("_auxiliary_semantic_predictor", semantic))
    return {
        **_under("backbone", backbone),
        **_under("sem_seg_head.pixel_decoder", pixel_decoder(channels)),
        **_under("sem_seg_head.predictor", head),
    }
