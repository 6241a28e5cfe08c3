"""Names of DeepLab v3 and v3+ in DeepLab2: of their variables, and of their options."""

from ...checkpoint.option_rules import OptionRules, read_decoder, read_low_level
from ...checkpoint.option_view import ConfigBuilder, Options

# First words of checkpoint keys, and the modules they name.
CHECKPOINT_MODULES = (
    ("semantic_last_layer/_conv/", "sem_seg_head.final_conv."),
    ("deeplab_v3_aspp/", "sem_seg_head.aspp."),
    ("classifier_conv_bn_act/", "sem_seg_head.classifier_conv_bn_act."),
    ("deeplab_v3plus_aspp/", "sem_seg_head.aspp."),
    ("deeplab_v3plus_project_conv_bn_act/", "sem_seg_head.project_conv_bn_act."),
    ("deeplab_v3plus_fuse/", "sem_seg_head.fuse."),
)

LAST_LAYERS = {"semantic": ("semantic_last_layer/",)}

# The same for Google's release of v3+, see :mod:`deeplab2_d2.checkpoint.slim_names`.
SLIM_SCOPES = (
    ("aspp0", "head.aspp.conv_bn_act"),
    (r"aspp(\d)", r"head.aspp.aspp_conv\1.conv_bn_act"),
    (r"aspp(\d)_(depthwise|pointwise)", r"head.aspp.aspp_conv\1.conv_bn_act.\2"),
    ("image_pooling", "head.aspp.aspp_pool.conv_bn_act"),
    ("(meta_architecture/)?concat_projection", "head.aspp.proj_conv_bn_act"),
    (r"meta_architecture/(branch\d+)_(depthwise|pointwise)", r"head.aspp.\1.\2"),
    ("decoder/feature_projection0", "head.project_conv_bn_act"),
    ("decoder/decoder_conv0", "head.fuse.conv1_bn_act"),
    ("decoder/decoder_conv0_(depthwise|pointwise)", r"head.fuse.conv1_bn_act.\1"),
    ("decoder/decoder_conv1", "head.fuse.conv2_bn_act"),
    ("decoder/decoder_conv1_(depthwise|pointwise)", r"head.fuse.conv2_bn_act.\1"),
    ("logits/semantic/weights", "head.final_conv.weight"),
    ("logits/semantic/biases", "head.final_conv.bias"),
)

# The same for the PyTorch repositories of HRNet's segmentation and of DeepLab v2
# (kazuto1011/deeplab-pytorch), see :mod:`deeplab2_d2.checkpoint.state_dict_names`.
SEGMENTOR_STATE_DICT_RULES = (
    (r"last_layer\.3\.", "sem_seg_head.final_conv.", "as_is"),
    (r"last_layer\.", "sem_seg_head.fuse.", "convolution"),
)
STATE_DICT_RULES = (
    (r"(?:(?:base|scale)\.)?aspp\.c(\d)\.", r"head.branches.\1.final_conv.", "as_is"),
)


def read_v3(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """``DeeplabV3Options``."""
    _read_model(builder, model, shared, "DeepLab2DeepLabV3Head")


def read_v3_plus(builder: ConfigBuilder, model: Options, shared: Options) -> None:
    """``DeeplabV3PlusOptions``."""
    _read_model(builder, model, shared, "DeepLab2DeepLabV3PlusHead")


def _read_model(builder: ConfigBuilder, model: Options, shared: Options, head: str) -> None:
    read_decoder(builder, shared.message("decoder"), "SEMANTIC_DECODER")
    builder.set("MODEL.SEM_SEG_HEAD.NAME", head)
    builder.copy(model, "num_classes", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    low_level = [model.message("low_level")] if "low_level" in model.fields() else []
    read_low_level(builder, low_level, "SEMANTIC_DECODER")


OPTION_RULES = {
    "deeplab_v3": OptionRules(read_v3),
    "deeplab_v3_plus": OptionRules(read_v3_plus),
}
