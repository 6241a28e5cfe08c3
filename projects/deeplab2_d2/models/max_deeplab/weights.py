"""Names of MaX-DeepLab in DeepLab2: of its variables, and of its options."""

from ...checkpoint.option_rules import (
    SEMANTIC_LOSS,
    OptionRules,
    read_decoder,
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
    ("pixel_space_head/conv_block/", "head.pixel_space_head."),
    ("pixel_space_head/", "head.pixel_space_head."),
    ("pixel_space_feature_batch_norm/", "head.pixel_space_feature_batch_norm."),
    ("pixel_space_mask_batch_norm/", "head.pixel_space_mask_batch_norm."),
    ("transformer_mask_head/", "head.transformer_mask_head."),
    ("transformer_class_head/_conv/", "head.transformer_class_head."),
)

LAST_LAYERS = {"semantic": ("semantic_last_layer/", "transformer_class_head/")}


def read_model(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """``MaXDeepLabOptions``: heads, and how instance discrimination is sampled."""
    read_decoder(builder, shared.message("decoder"), "SEMANTIC_DECODER")
    read_low_level(builder, model.value("auxiliary_low_level"), "SEMANTIC_DECODER")
    head = model.message("auxiliary_semantic_head")
    read_head(builder, head, "SEMANTIC_HEAD", "SEMANTIC_DECODER.CONV_TYPE")
    builder.copy(head, "output_channels", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    head = model.message("pixel_space_head")
    read_head(builder, head, "MAX_DEEPLAB.PIXEL_HEAD", "MAX_DEEPLAB.PIXEL_CONV_TYPE")
    builder.copy(head, "output_channels", "MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_CHANNELS")
    for field in ("semantic_sample_k", "semantic_sample_temperature"):
        builder.refuse(model, field, "has no effect in DeepLab2 either")
    fields = [f"instance_discrimination_{field}" for field in ("sample_k", "sample_temperature")]
    builder.set(
        "MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_SAMPLING",
        [model.value(field) for field in fields],
        *map(model.name, fields),
    )


def read_losses(builder: ConfigBuilder, losses: Options) -> None:
    """The PQ-style loss, whose second number is alpha, which is no option there."""
    loss, key = losses.message("pq_style_loss"), "MODEL.DEEPLAB2.LOSS.PQ_STYLE"
    if not loss.is_set:
        builder.set(key, [0.0, 0.75])
        return
    builder.mapped[loss.name("name")] = [key]
    builder.set(key, [loss.value("weight"), 0.75], loss.name("weight"))
    builder.refuse(loss, "top_k_percent", "the PQ-style loss is of masks, not of pixels")


def read_train_dataset(builder: ConfigBuilder, dataset: Options) -> None:
    """The number of things, and the weight of small ones."""
    builder.copy(dataset, "max_thing_id", "INPUT.DEEPLAB2.MAX_THINGS")
    read_small_instances(builder, dataset, "SMALL_INSTANCE_AREA", "SMALL_INSTANCE_WEIGHT")


def read_evaluator(builder: ConfigBuilder, evaluator: Options) -> None:
    """Mask slots to labels."""
    node = "MODEL.DEEPLAB2.POSTPROCESSING."
    builder.copy(evaluator, "thing_area_limit", node + "THING_AREA_LIMIT")
    builder.copy(evaluator, "stuff_area_limit", node + "STUFF_AREA_LIMIT")
    builder.copy(evaluator, "transformer_post_processing", node + "MASK_MODE")
    maskwise = evaluator.message("maskwise_postprocessing")
    builder.copy(maskwise, "overlapping_threshold", node + "MASKWISE_OVERLAP_THRESHOLD")
    threshold = "transformer_class_confidence_threshold"
    for options, fields, key in (
        (evaluator, (threshold, "pixel_confidence_threshold"), "CONFIDENCE_THRESHOLDS"),
        (maskwise, (threshold + "_thing", threshold + "_stuff"), "MASKWISE_CLASS_THRESHOLDS"),
        (maskwise, ("reorder_class_weight", "reorder_mask_weight"), "MASKWISE_RANK_WEIGHTS"),
    ):
        values = [options.value(field) for field in fields]
        builder.set(node + key, values, *map(options.name, fields))


OPTION_RULES = OptionRules(
    read_model,
    losses=SEMANTIC_LOSS
    + (
        ("mask_id_cross_entropy_loss", "", "MASK_ID"),
        ("instance_discrimination_loss", "", "INSTANCE_DISCRIMINATION"),
    ),
    read_losses=read_losses,
    read_train_dataset=read_train_dataset,
    read_evaluator=read_evaluator,
)
