"""Names of ViP-DeepLab in DeepLab2: of its variables, and of its options."""

from dataclasses import replace

from ...checkpoint.option_rules import read_conv_type, read_fixed_channels
from ...checkpoint.option_view import ConfigBuilder, Options
from ..panoptic_deeplab.weights import CHECKPOINT_MODULES as PANOPTIC_MODULES
from ..panoptic_deeplab.weights import LAST_LAYERS as PANOPTIC_LAST_LAYERS
from ..panoptic_deeplab.weights import OPTION_RULES as PANOPTIC_RULES
from ..panoptic_deeplab.weights import read_heads

# First words of checkpoint keys, and the modules they name.
CHECKPOINT_MODULES = (
    *PANOPTIC_MODULES,
    ("next_instance_decoder/", "head.next_instance_decoder."),
    ("next_instance_regression_head_without_last_layer/", "head.next_offset_head."),
    ("next_instance_regression_head_last_layer/", "head.next_offset_head.final_conv."),
    ("depth_head_without_last_layer/", "head.depth_head."),
    ("depth_head_last_layer/", "head.depth_head.final_conv."),
)

LAST_LAYERS = {
    **PANOPTIC_LAST_LAYERS,
    "instance": (
        *PANOPTIC_LAST_LAYERS["instance"],
        "next_instance_regression_head_last_layer/",
    ),
}

_LOSS = "MODEL.DEEPLAB2.LOSS.DEPTH_ERROR"


def read_model(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """``PanopticDeeplabOptions`` of ViP-DeepLab: heads and decoders."""
    read_heads(builder, model, shared)
    following = model.message("instance").message("next_regression_head")
    conv_type = "INSTANCE_DECODER.CONV_TYPE"
    read_fixed_channels(builder, following, 2, "NEXT_OFFSET_HEAD", conv_type)
    head, node = model.message("depth_head"), "MODEL.DEEPLAB2.DEPTH_HEAD"
    if not head.is_set or head.value("output_channels") != 1:
        raise ValueError(f"{head.name()} must be set, with output_channels 1")
    builder.mapped[head.name("output_channels")] = [node]
    builder.copy(head, "head_channels", f"{node}.CHANNELS")
    read_conv_type(builder, head, "MODEL.DEEPLAB2.SEMANTIC_DECODER.CONV_TYPE")
    fields = ("min_value_after_activation", "max_value_after_activation")
    bounds = [head.value(field) for field in fields]
    builder.set(f"{node}.RANGE", bounds, *map(head.name, fields))


def read_losses(builder: ConfigBuilder, losses: Options) -> None:
    """The loss of depth, which is of all pixels."""
    loss = losses.message("depth_loss")
    builder.set(_LOSS, loss.value("weight") if loss.is_set else 0.0)
    if loss.is_set:
        for field in ("name", "weight"):
            builder.mapped[loss.name(field)] = [_LOSS]
        builder.refuse(loss, "top_k_percent", "the loss of depth is of all pixels")


OPTION_RULES = replace(
    PANOPTIC_RULES,
    read_model=read_model,
    losses=(*PANOPTIC_RULES.losses, ("next_regression_loss", "l1", "NEXT_OFFSET")),
    read_losses=read_losses,
)
