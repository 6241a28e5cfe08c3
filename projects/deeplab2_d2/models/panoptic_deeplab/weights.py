"""Names of Panoptic-DeepLab in DeepLab2: of its variables, and of its options."""

from ...checkpoint.option_rules import (
    SEMANTIC_LOSS,
    OptionRules,
    read_decoder,
    read_fixed_channels,
    read_head,
    read_low_level,
    read_small_instances,
)
from ...checkpoint.option_view import ConfigBuilder, Options

# First words of checkpoint keys, and the modules they name.
CHECKPOINT_MODULES = (
    ("semantic_decoder/", "head.semantic_decoder."),
    ("semantic_head_without_last_layer/", "head.semantic_head."),
    ("semantic_last_layer/", "head.semantic_head.final_conv."),
    ("instance_decoder/", "head.instance_decoder."),
    ("instance_center_head_without_last_layer/", "head.center_head."),
    ("instance_center_head_last_layer/", "head.center_head.final_conv."),
    ("instance_regression_head_without_last_layer/", "head.offset_head."),
    ("instance_regression_head_last_layer/", "head.offset_head.final_conv."),
)

_DECODER = r"decoder\.(semantic|instance)_decoder\."

# The same for bowenc0221/panoptic-deeplab, see :mod:`deeplab2_d2.checkpoint.state_dict_names`.
STATE_DICT_RULES = (
    (_DECODER + r"aspp\.convs\.0\.", r"head.\1_decoder.aspp.conv_bn_act.", "convolution"),
    (
        _DECODER + r"aspp\.convs\.([123])\.",
        r"head.\1_decoder.aspp.aspp_conv\2.conv_bn_act.",
        "convolution",
    ),
    (
        _DECODER + r"aspp\.convs\.4\.aspp_pooling\.1\.",
        r"head.\1_decoder.aspp.aspp_pool.conv_bn_act.conv.",
        "as_is",
    ),
    (_DECODER + r"aspp\.project\.", r"head.\1_decoder.aspp.proj_conv_bn_act.", "convolution"),
    *(
        rule
        for index in range(4)
        for rule in (
            (
                _DECODER + rf"project\.{index}\.",
                rf"head.\1_decoder.low_level_conv{index + 1}.",
                "convolution",
            ),
            (
                _DECODER + rf"fuse\.{index}\.0\.",
                rf"head.\1_decoder.fusion_conv{index + 1}.conv1_bn_act.",
                "separable",
            ),
        )
    ),
    (
        r"decoder\.\w+_head\.classifier\.(\w+)\.0\.0\.",
        r"head.\1_head.conv1_bn_act.",
        "separable",
    ),
    (r"decoder\.\w+_head\.classifier\.(\w+)\.1\.", r"head.\1_head.final_conv.", "as_is"),
)

LAST_LAYERS = {
    "semantic": ("semantic_last_layer/",),
    "instance": ("instance_center_head_last_layer/", "instance_regression_head_last_layer/"),
}


def read_model(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """``PanopticDeeplabOptions``: heads and decoders, of which a video model has more."""
    read_heads(builder, model, shared)
    reason = "Panoptic-DeepLab has no such head"
    builder.refuse(model.message("instance"), "next_regression_head", reason)
    builder.refuse(model, "depth_head", reason)


def read_heads(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """Decoders and heads for classes, centers and offsets to them."""
    decoder = shared.message("decoder")
    read_decoder(builder, decoder, "SEMANTIC_DECODER")
    read_low_level(builder, model.value("low_level"), "SEMANTIC_DECODER")
    head = model.message("semantic_head")
    read_head(builder, head, "SEMANTIC_HEAD", "SEMANTIC_DECODER.CONV_TYPE")
    builder.copy(head, "output_channels", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")

    instance = model.message("instance")
    builder.copy(instance, "enable", "MODEL.DEEPLAB2.INSTANCE_ENABLED")
    if instance.value("enable"):
        override = instance.message("instance_decoder_override")
        read_decoder(builder, override if override.is_set else decoder, "INSTANCE_DECODER")
        low_level = instance.value("low_level_override") or model.value("low_level")
        read_low_level(builder, low_level, "INSTANCE_DECODER")
        conv_type = "INSTANCE_DECODER.CONV_TYPE"
        read_fixed_channels(builder, instance.message("center_head"), 1, "CENTER_HEAD", conv_type)
        read_fixed_channels(
            builder, instance.message("regression_head"), 2, "OFFSET_HEAD", conv_type
        )
    else:
        for field in ("low_level_override", "instance_decoder_override"):
            builder.refuse(instance, field, "instance.enable is false")
        for field in ("center_head", "regression_head"):
            builder.refuse(instance, field, "instance.enable is false")


def read_train_dataset(builder: ConfigBuilder, dataset: Options) -> None:
    """The size of the targets' Gaussians, and the weight of small things."""
    builder.copy(dataset, "sigma", "INPUT.DEEPLAB2.SIGMA")
    read_small_instances(builder, dataset, "SMALL_INSTANCE_AREA", "SMALL_INSTANCE_WEIGHT")


def read_evaluator(builder: ConfigBuilder, evaluator: Options) -> None:
    """Detection of centers, and the least size of stuff."""
    for field, key in (
        ("center_score_threshold", "CENTER_THRESHOLD"),
        ("nms_kernel", "NMS_KERNEL"),
        ("keep_k_centers", "TOP_K_CENTERS"),
        ("stuff_area_limit", "STUFF_AREA_LIMIT"),
    ):
        builder.copy(evaluator, field, f"MODEL.DEEPLAB2.POSTPROCESSING.{key}")


OPTION_RULES = OptionRules(
    read_model,
    losses=SEMANTIC_LOSS + (("center_loss", "mse", "CENTER"), ("regression_loss", "l1", "OFFSET")),
    read_train_dataset=read_train_dataset,
    read_evaluator=read_evaluator,
)
