"""
The authors' PyTorch code, bytedance/kmax-deeplab: its names and layouts, and ours.

See :mod:`deeplab2_d2.checkpoint.state_dict_names` for what a rule is; the backbone's stand there.
"""

from typing import Any, Callable, Dict, List, Tuple

from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from torch import Tensor

from ...data.ade20k import ade20k_categories

_Rule = Tuple[str, str, str]

_PREDICTOR = r"sem_seg_head\.predictor\."
_LAYER = _PREDICTOR + r"_kmax_transformer_layers\.(\d+)\."
_OUR_LAYER = r"head.transformer_decoder.kmax_decoder.\1.block1_transformer."
_PIXELS, _OUR_PIXELS = r"sem_seg_head\.pixel_decoder\.", "head.pixel_decoder."
_SEMANTIC = _PREDICTOR + r"_auxiliary_semantic_predictor\."
# Blocks of a stage of the pixel decoder, at most; the configs have five.
_MAX_BLOCKS = 9


def _prediction_rules(theirs: str, ours: str) -> List[_Rule]:
    """The heads of masks and classes; their module is called ``_predcitor`` there."""
    theirs += r"_predcitor\."
    block = ours + "pixel_space_head.conv1_bn_act."
    return [
        (theirs + r"_pixel_space_head_conv0bnact\.", block + "depthwise.", "depthwise_norm"),
        (theirs + r"_pixel_space_head_conv1bnact\.", block + "pointwise.", "conv_norm"),
        (
            theirs + r"_pixel_space_head_last_convbn\.conv\.",
            ours + "pixel_space_head.final_conv.",
            "as_is",
        ),
        (
            theirs + r"_pixel_space_head_last_convbn\.norm\.",
            ours + "pixel_space_feature_batch_norm.",
            "as_is",
        ),
        (theirs + r"_transformer_mask_head\.", ours + "transformer_mask_head.", "conv_norm"),
        (theirs + r"_transformer_class_head\.conv\.", ours + "transformer_class_head.", "as_is"),
        (
            theirs + r"_pixel_space_mask_batch_norm\.",
            ours + "pixel_space_mask_batch_norm.",
            "as_is",
        ),
    ]


def _layer_rules() -> List[_Rule]:
    """A layer of the transformer decoder: what is a query there is memory here."""
    kmeans = _LAYER + r"_kmeans_query_"
    return [
        *_prediction_rules(_LAYER, _OUR_LAYER + "auxiliary_clustering_predictor."),
        (_LAYER + r"_query_self_attention\._", _OUR_LAYER + "memory_attention.", "as_is"),
        (_LAYER + r"_query_(\w+)\.", _OUR_LAYER + r"memory_\2.", "conv_norm"),
        (_LAYER + r"_pixel_(\w+)\.", _OUR_LAYER + r"pixel_\2.", "conv_norm"),
        (kmeans + r"conv3_bn\.", _OUR_LAYER + "kmeans_memory_conv3_bn.", "conv_norm"),
        (
            kmeans + r"batch_norm_retrieved_value\.",
            _OUR_LAYER + "kmeans_memory_batch_norm_retrieved_value.",
            "as_is",
        ),
    ]


def _pixel_decoder_rules() -> List[_Rule]:
    fuse, ours = _PIXELS + r"_resized_fuses\.(\d)\._conv_bn_", _OUR_PIXELS
    rules = [
        (_PIXELS + r"_in_norms\.", ours + "backbone_norms.", "as_is"),
        (fuse + r"low\.", ours + r"skip_connections.\1.resized_conv_bn1.", "conv_norm"),
        (fuse + r"high\.", ours + r"skip_connections.\1.resized_conv_bn2.", "conv_norm"),
    ]
    for index in range(_MAX_BLOCKS):
        block = _PIXELS + rf"_stages\.(\d)\._blocks\.{index}\._"
        our_block = ours + rf"stages.\1.block{index + 1}."
        axis, our_axis = block + r"attention\._(\w+)_axis\.", our_block + r"attention.\2_axis."
        rules += [
            (block + r"(conv\w+|shortcut)\.", our_block + r"\2.", "conv_norm"),
            (axis + r"qkv_transform\.conv\.weight", our_axis + "qkv_kernel", "as_is"),
            (axis + r"_batch_norm_", our_axis + "batch_norm_", "as_is"),
            (axis + r"_(\w+)_rpe\._embeddings\.", our_axis + r"\3_rpe.", "as_is"),
        ]
    return rules


def _semantic_rules() -> List[_Rule]:
    """The auxiliary branch: with a decoder, or a head alone."""
    aspp, our_aspp = _SEMANTIC + r"_aspp\._", "head.semantic_decoder.aspp."
    head, our_head = _SEMANTIC, "head.semantic_head."
    rules = [
        (aspp + r"aspp_conv0\.", our_aspp + "conv_bn_act.", "conv_norm"),
        (aspp + r"(aspp_conv\d|aspp_pool)\.", our_aspp + r"\1.conv_bn_act.", "conv_norm"),
        (aspp + r"proj_conv_bn_act\.", our_aspp + "proj_conv_bn_act.", "conv_norm"),
        (head + r"(?:conv_block_)?0\.", our_head + "conv1_bn_act.depthwise.", "depthwise_norm"),
        (head + r"(?:conv_block_)?1\.", our_head + "conv1_bn_act.pointwise.", "conv_norm"),
        (head + r"(?:final_conv|2)\.conv\.", our_head + "final_conv.", "as_is"),
    ]
    for number, stride in ((1, 8), (2, 4)):
        fusion = _SEMANTIC + rf"_low_level_fusion_os{stride}_"
        ours = "head.semantic_decoder."
        block = ours + f"fusion_conv{number}.conv1_bn_act."
        rules += [
            (
                _SEMANTIC + rf"_low_level_projection_os{stride}\.",
                ours + f"low_level_conv{number}.",
                "conv_norm",
            ),
            (fusion + r"conv0_bn_act\.", block + "depthwise.", "depthwise_norm"),
            (fusion + r"conv1_bn_act\.", block + "pointwise.", "conv_norm"),
        ]
    return rules


STATE_DICT_RULES: Tuple[_Rule, ...] = (
    *_prediction_rules(_PREDICTOR, "head."),
    *_layer_rules(),
    *_pixel_decoder_rules(),
    *_semantic_rules(),
    (
        _PREDICTOR + r"_cluster_centers\.weight",
        "head.transformer_decoder.cluster_centers",
        "as_is",
    ),
    (
        _PREDICTOR + r"_(class|mask)_embedding_projection\.",
        r"head.transformer_decoder.\1_embedding_projection.",
        "conv_norm",
    ),
)


def _things_first(are_things: List[bool]) -> List[int]:
    """Their rows in our order: things, stuff, void."""
    rows = range(len(are_things))
    things, stuff = [k for k in rows if are_things[k]], [k for k in rows if not are_things[k]]
    return [*things, *stuff, len(are_things)]


# By their number of classes, which there are in the order of their contiguous ids; COCO's things
# are the first ones.
_CLASS_ORDERS: Dict[int, List[int]] = {
    len(order) - 1: order
    for order in (
        _things_first([bool(c["isthing"]) for c in CITYSCAPES_CATEGORIES]),
        _things_first([bool(c["isthing"]) for c in ade20k_categories()]),
    )
}


def _class_rows(name: str, value: Tensor) -> Tensor:
    order = _CLASS_ORDERS.get(len(value) - 1)
    return value if order is None else value[order]


def _semantic_rows(name: str, value: Tensor) -> Tensor:
    """Without void, the last one, which no pixel is trained to be."""
    return value[:-1]


def _third_norm(name: str, value: Tensor) -> Tensor:
    """
    Refuse ResNets with masks of stride 2.

    Raises:
        ValueError: if the fourth feature is the stem's.
    """
    if len(value) == 64:
        raise ValueError(
            f"{name} must be of stage 2 of the backbone, got one of {len(value)} channels: there "
            "the pixel decoder of a ResNet reads the pooled stem, of stride 4, before stage 2 "
            "(Cityscapes' config), which no network here does; ConvNeXt's checkpoints load"
        )
    return value


# Pattern of their names, and what makes our layout of theirs.
STATE_DICT_LAYOUTS: Tuple[Tuple[str, Callable[[str, Any], Any]], ...] = (
    # (out, in, 1) to (in, out).
    (_PIXELS + r".*\.qkv_transform\.conv\.weight$", lambda name, value: value[..., 0].t()),
    # Of a map there, of a sequence here.
    (_LAYER + r"_pixel_\w+\.conv\.weight$", lambda name, value: value[..., 0]),
    # (channels, centers) to (1, centers, channels).
    (_PREDICTOR + r"_cluster_centers\.weight$", lambda name, value: value.t()[None]),
    (_PREDICTOR + r"(.*\.)?_predcitor\._transformer_class_head\.conv\.", _class_rows),
    (_SEMANTIC + r"final_conv\.conv\.", _semantic_rows),
    (_PIXELS + r"_in_norms\.3\.weight$", _third_norm),
)

_NODE = "MODEL.DEEPLAB2."
# Pattern of their names, and what is told when such weights are read.
STATE_DICT_NOTES: Tuple[Tuple[str, str], ...] = (
    (
        _PIXELS + r"_in_norms\.0\.weight$",
        "these are of bytedance/kmax-deeplab, whose network is not DeepLab2's: it needs "
        f"{_NODE}KMAX_DEEPLAB.DECODER_ATROUS_RATE 1, and with its ResNet-50 also "
        f"{_NODE}BACKBONE.NAME resnet50_torchvision and {_NODE}KMAX_DEEPLAB.ACTIVATED_FEATURES "
        "True. 19 classes are taken for Cityscapes', 150 for ADE20K's; of others the things must "
        "be the first",
    ),
)
