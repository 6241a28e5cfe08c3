"""What DeepLab2's model options are called in our config."""

from typing import Sequence

from .option_view import ConfigBuilder, Options

_PATHS = "files are named by MODEL.WEIGHTS"

# DeepLab2's backbone options and our keys under MODEL.DEEPLAB2.BACKBONE.
_BACKBONE = {
    "name": "NAME",
    "output_stride": "OUTPUT_STRIDE",
    "use_squeeze_and_excite": "SQUEEZE_AND_EXCITE",
    "drop_path_keep_prob": "DROP_PATH_KEEP_PROB",
    "drop_path_schedule": "DROP_PATH_SCHEDULE",
    "stem_width_multiplier": "STEM_WIDTH_MULTIPLIER",
    "backbone_width_multiplier": "WIDTH_MULTIPLIER",
    "backbone_layer_multiplier": "LAYER_MULTIPLIER",
    "use_sac_beyond_stride": "SAC_BEYOND_STRIDE",
}

_DECODER = {
    "feature_key": "FEATURE",
    "decoder_channels": "CHANNELS",
    "decoder_conv_type": "CONV_TYPE",
    "aspp_channels": "ASPP_CHANNELS",
    "atrous_rates": "ATROUS_RATES",
    "aspp_use_only_1x1_proj_conv": "ASPP_ONLY_1X1",
}

META_ARCHITECTURES = {
    "deeplab_v3": "SemanticSegmentor",
    "deeplab_v3_plus": "SemanticSegmentor",
    "panoptic_deeplab": "DeepLab2PanopticDeepLab",
    "motion_deeplab": "DeepLab2MotionDeepLab",
    "vip_deeplab": "DeepLab2ViPDeepLab",
    "max_deeplab": "DeepLab2MaXDeepLab",
}


def read_model(builder: ConfigBuilder, model: Options) -> None:
    """Backbone, decoder and meta-architecture."""
    chosen = [name for name in META_ARCHITECTURES if model.has(name)]
    if len(chosen) != 1:
        raise ValueError(
            f"{model.name()} must hold exactly one of {', '.join(META_ARCHITECTURES)}, "
            f"got {', '.join(chosen) or 'none'}"
        )
    builder.set("MODEL.META_ARCHITECTURE", META_ARCHITECTURES[chosen[0]])
    builder.set("MODEL.BACKBONE.NAME", "build_deeplab2_backbone")
    for field, key in _BACKBONE.items():
        builder.copy(model.message("backbone"), field, f"MODEL.DEEPLAB2.BACKBONE.{key}")
    _read_decoder(builder, model.message("decoder"), "SEMANTIC_DECODER")
    builder.refuse(model.message("backbone"), "pretrained_weights", _PATHS)
    for field in (
        "initial_checkpoint",
        "restore_semantic_last_layer_from_initial_checkpoint",
        "restore_instance_last_layer_from_initial_checkpoint",
    ):
        builder.refuse(model, field, _PATHS + "; last layers are dropped on conversion")
    architecture = model.message(chosen[0])
    if chosen[0].startswith("deeplab_v3"):
        _read_deeplab_v3(builder, architecture, chosen[0])
    elif chosen[0] == "max_deeplab":
        _read_max_deeplab(builder, architecture)
    else:
        _read_panoptic_deeplab(builder, architecture, model.message("decoder"))


def _read_decoder(builder: ConfigBuilder, decoder: Options, node: str) -> None:
    if not decoder.value("feature_key"):
        raise ValueError(f"{decoder.name('feature_key')} must name a feature, got none")
    for field, key in _DECODER.items():
        if field == "atrous_rates" and not decoder.value(field):
            continue  # An ASPP of one 1x1 convolution has no rates.
        builder.copy(decoder, field, f"MODEL.DEEPLAB2.{node}.{key}")


def _read_low_level(builder: ConfigBuilder, items: Sequence[Options], node: str) -> None:
    for field, key in (("feature_key", "FEATURES"), ("channels_project", "CHANNELS")):
        names = [item.name(field) for item in items]
        values = [item.value(field) for item in items]
        builder.set(f"MODEL.DEEPLAB2.{node}.LOW_LEVEL_{key}", values, *names)


def _read_head(builder: ConfigBuilder, head: Options, node: str) -> None:
    if not head.is_set:
        raise ValueError(f"{head.name()} must be set: the model has that head")
    builder.copy(head, "head_channels", f"MODEL.DEEPLAB2.{node}.CHANNELS")
    builder.copy(head, "head_conv_type", f"MODEL.DEEPLAB2.{node}.CONV_TYPE")
    for field in ("max_value_after_activation", "min_value_after_activation"):
        builder.refuse(head, field, "bounds belong to the depth head")


def _read_fixed_channels(builder: ConfigBuilder, head: Options, channels: int, node: str) -> None:
    _read_head(builder, head, node)
    if head.value("output_channels") != channels:
        raise ValueError(
            f"{head.name('output_channels')} must be {channels}, "
            f"got {head.value('output_channels')}"
        )
    builder.mapped[head.name("output_channels")] = [f"MODEL.DEEPLAB2.{node}"]


def _read_panoptic_deeplab(builder: ConfigBuilder, model: Options, decoder: Options) -> None:
    _read_low_level(builder, model.value("low_level"), "SEMANTIC_DECODER")
    head = model.message("semantic_head")
    _read_head(builder, head, "SEMANTIC_HEAD")
    builder.copy(head, "output_channels", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")

    instance = model.message("instance")
    builder.copy(instance, "enable", "MODEL.DEEPLAB2.INSTANCE_ENABLED")
    if instance.value("enable"):
        override = instance.message("instance_decoder_override")
        _read_decoder(builder, override if override.is_set else decoder, "INSTANCE_DECODER")
        low_level = instance.value("low_level_override") or model.value("low_level")
        _read_low_level(builder, low_level, "INSTANCE_DECODER")
        _read_fixed_channels(builder, instance.message("center_head"), 1, "CENTER_HEAD")
        _read_fixed_channels(builder, instance.message("regression_head"), 2, "OFFSET_HEAD")
    else:
        for field in ("low_level_override", "instance_decoder_override"):
            builder.refuse(instance, field, "instance.enable is false")
        for field in ("center_head", "regression_head"):
            builder.refuse(instance, field, "instance.enable is false")
    builder.refuse(instance, "next_regression_head", "ViP-DeepLab's heads are not ported yet")
    for field, variant in (("depth_head", "ViP-DeepLab"), ("motion_head", "Motion-DeepLab")):
        if field in model.fields():
            builder.refuse(model, field, f"{variant}'s heads are not ported yet")


def _read_deeplab_v3(builder: ConfigBuilder, model: Options, architecture: str) -> None:
    name = {"deeplab_v3": "DeepLab2DeepLabV3Head", "deeplab_v3_plus": "DeepLab2DeepLabV3PlusHead"}
    builder.set("MODEL.SEM_SEG_HEAD.NAME", name[architecture])
    builder.copy(model, "num_classes", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    low_level = [model.message("low_level")] if "low_level" in model.fields() else []
    _read_low_level(builder, low_level, "SEMANTIC_DECODER")


def _read_max_deeplab(builder: ConfigBuilder, model: Options) -> None:
    _read_low_level(builder, model.value("auxiliary_low_level"), "SEMANTIC_DECODER")
    head = model.message("auxiliary_semantic_head")
    _read_head(builder, head, "SEMANTIC_HEAD")
    builder.copy(head, "output_channels", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    head = model.message("pixel_space_head")
    _read_head(builder, head, "MAX_DEEPLAB.PIXEL_HEAD")
    builder.copy(head, "output_channels", "MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_CHANNELS")
    for field in ("semantic_sample_k", "semantic_sample_temperature"):
        builder.refuse(model, field, "has no effect in DeepLab2 either")
    for field, key in (("sample_k", "SAMPLES"), ("sample_temperature", "SAMPLE_TEMPERATURE")):
        builder.copy(
            model,
            f"instance_discrimination_{field}",
            f"MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_{key}",
        )
