"""Names of kMaX-DeepLab in DeepLab2: of its variables, and of its options."""

from dataclasses import replace
from typing import Tuple

from ...checkpoint.option_view import ConfigBuilder, Options
from ..max_deeplab.weights import CHECKPOINT_MODULES as MAX_MODULES
from ..max_deeplab.weights import OPTION_RULES as MAX_RULES

# Layers of the released transformer decoders.
_NUM_LAYERS = 6


def _predictor_modules() -> Tuple[Tuple[str, str], ...]:
    """The heads of a layer's prediction: those of the last one, further inside."""
    pairs = []
    for index in range(_NUM_LAYERS):
        words = f"transformer_decoder/_kmax_decoder/{index}/_block1_transformer/"
        words += "_auxiliary_clustering_predictor/_"
        module = f"head.transformer_decoder.kmax_decoder.{index}.block1_transformer."
        module += "auxiliary_clustering_predictor."
        for first, ours in MAX_MODULES:
            if not first.startswith("semantic"):
                pairs.append((words + first, module + ours[len("head.") :]))
    return tuple(pairs)


# First words of checkpoint keys, and the modules they name.
CHECKPOINT_MODULES = (
    *MAX_MODULES,
    *_predictor_modules(),
    ("pixel_decoder/", "head.pixel_decoder."),
    ("transformer_decoder/", "head.transformer_decoder."),
)

_PREFIX = "kmax_"
_BACKBONE = "MODEL.DEEPLAB2.BACKBONE."
# DeepLab2's pixel encoders that are networks of other names here.
_RESIDUAL = {"resnet50": "resnet50", "axial_resnet50": "max_deeplab_s_backbone"}
# What has no effect on DeepLab2's pixel encoders, whatever their options say.
_FIXED = (
    "output_stride",
    "use_squeeze_and_excite",
    "drop_path_schedule",
    "stem_width_multiplier",
    "backbone_width_multiplier",
    "backbone_layer_multiplier",
    "use_sac_beyond_stride",
)


def read_backbone(builder: ConfigBuilder, backbone: Options) -> None:
    """
    The pixel encoder: stride 32, the only other option is its drop path.

    The names of MOATs say what they were trained for: ``moat2_finetune_384_no_pe_22k`` is "moat2"
    without positions.
    """
    field, released = backbone.name("name"), backbone.value("name")[len(_PREFIX) :]
    drop_path = backbone.name("drop_path_keep_prob")
    keep_prob = backbone.value("drop_path_keep_prob")
    for name in _FIXED:
        builder.refuse(backbone, name, "pixel encoders of kMaX-DeepLab have no such option")
    builder.set(_BACKBONE + "OUTPUT_STRIDE", 32)
    if released in _RESIDUAL:
        builder.set(_BACKBONE + "NAME", _RESIDUAL[released], field)
        if released.startswith("axial"):
            builder.set(_BACKBONE + "RESIDUAL.ACTIVATION", "gelu", field)
        schedule = "linear" if keep_prob < 1.0 else "constant"
        builder.set(_BACKBONE + "RESIDUAL.DROP_PATH", [keep_prob, schedule], drop_path)
    elif "moat" in released:
        name = released.split("_pretrain_")[0].split("_finetune_")[0]
        builder.set(_BACKBONE + "NAME", name, field)
        builder.set(_BACKBONE + "MOAT.POSITIONS", "_no_pe" not in released, field)
        builder.set(_BACKBONE + "MOAT.DROP_PATH", keep_prob, drop_path)
    else:
        builder.set(_BACKBONE + "NAME", released, field)
        builder.set(_BACKBONE + "CONVNEXT.DROP_PATH", keep_prob, drop_path)


def read_train_dataset(builder: ConfigBuilder, dataset: Options) -> None:
    """What DeepLab2 decides by the dataset's name, and MaX-DeepLab's targets."""
    MAX_RULES.read_train_dataset(builder, dataset)
    name, node = dataset.value("dataset") or "", "MODEL.DEEPLAB2.KMAX_DEEPLAB."
    field = dataset.name("dataset")
    is_cityscapes = "cityscapes" in name
    builder.set(node + "MASK_STRIDE", 2 if is_cityscapes else 4, field)
    builder.set(node + "NUM_CENTERS", 256 if is_cityscapes else 128, field)
    builder.set(node + "AUXILIARY_DECODER", not is_cityscapes, field)
    builder.set(node + "CENTER_DROP_PATH", 1.0 if "ade20k" in name else 0.8, field)


OPTION_RULES = replace(
    MAX_RULES, read_backbone=read_backbone, read_train_dataset=read_train_dataset
)
