"""Names of Motion-DeepLab in DeepLab2: of its variables, and of its options."""

from dataclasses import replace

from ...checkpoint.option_rules import read_fixed_channels
from ...checkpoint.option_view import ConfigBuilder, Options
from ..panoptic_deeplab.weights import CHECKPOINT_MODULES as PANOPTIC_MODULES
from ..panoptic_deeplab.weights import LAST_LAYERS as PANOPTIC_LAST_LAYERS
from ..panoptic_deeplab.weights import OPTION_RULES as PANOPTIC_RULES
from ..panoptic_deeplab.weights import read_heads

# First words of checkpoint keys, and the modules they name.
CHECKPOINT_MODULES = (
    *PANOPTIC_MODULES,
    ("motion_regression_head_without_last_layer/", "head.motion_head."),
    ("motion_regression_head_last_layer/", "head.motion_head.final_conv."),
)

LAST_LAYERS = {
    **PANOPTIC_LAST_LAYERS,
    "instance": (*PANOPTIC_LAST_LAYERS["instance"], "motion_regression_head_last_layer/"),
}


def read_model(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """``MotionDeepLabOptions``: heads and decoders, and an input of seven channels."""
    read_heads(builder, model, shared)
    reason = "Motion-DeepLab has no such head"
    builder.refuse(model.message("instance"), "next_regression_head", reason)
    conv_type = "INSTANCE_DECODER.CONV_TYPE"
    read_fixed_channels(builder, model.message("motion_head"), 2, "MOTION_HEAD", conv_type)
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"):
        # DeepLab2 normalizes the heatmap as it does images.
        builder.set(key, [127.5] * 7)


OPTION_RULES = replace(
    PANOPTIC_RULES,
    read_model=read_model,
    losses=(*PANOPTIC_RULES.losses, ("motion_loss", "l1", "MOTION")),
    # Of this model DeepLab2 does not halve it.
    weight_decay_factor=2.0,
)
