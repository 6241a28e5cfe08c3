"""What DeepLab2's model options are called in our config, and what a model adds to the rules."""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..records import all_records
from .deeplab2_schema import MESSAGES
from .option_view import ConfigBuilder, Options

_PATHS = "files are named by MODEL.WEIGHTS"
# The feature of the output stride.
_LAST_FEATURE = "res5"

_DECODER = {
    "feature_key": "FEATURE",
    "decoder_channels": "CHANNELS",
    "decoder_conv_type": "CONV_TYPE",
    "aspp_channels": "ASPP_CHANNELS",
    "atrous_rates": "ATROUS_RATES",
}

# DeepLab2's field of a loss, the only name that it has in the released configs ("": none), and the
# prefix of our keys under MODEL.DEEPLAB2.LOSS.
LossNames = Tuple[Tuple[str, str, str], ...]

SEMANTIC_LOSS: LossNames = (("semantic_loss", "softmax_cross_entropy", "SEMANTIC"),)


# The messages of ``ModelOptions`` of which it holds one.
MODEL_MESSAGES = tuple(
    name
    for name, field in MESSAGES["ModelOptions"].items()
    if field.is_message and name not in ("backbone", "decoder")
)


def _nothing(builder: ConfigBuilder, options: Options) -> None:
    pass


def _no_model(builder: ConfigBuilder, message: Options, model: Options) -> None:
    pass


@dataclass(frozen=True)
class OptionRules:
    """
    What a model adds to the rules by which DeepLab2's options become a config.

    Attributes:
        read_model: reads the model's own message, given that of all models (``ModelOptions``), too.
        losses: that it has, of a weight and a part of the pixels each.
        read_losses: reads what else is said of its losses.
        read_train_dataset: reads what the training dataset says of its targets.
        read_evaluator: reads what the evaluator says of its post-processing.
        weight_decay_factor: on SOLVER.WEIGHT_DECAY.
        read_backbone: reads the backbone; None: :func:`read_backbone`.
    """

    read_model: Callable[[ConfigBuilder, Options, Options], None]
    losses: LossNames = SEMANTIC_LOSS
    read_losses: Callable[[ConfigBuilder, Options], None] = _nothing
    read_train_dataset: Callable[[ConfigBuilder, Options], None] = _nothing
    read_evaluator: Callable[[ConfigBuilder, Options], None] = _nothing
    weight_decay_factor: float = 1.0
    read_backbone: Optional[Callable[[ConfigBuilder, Options], None]] = None


def known_rules() -> Dict[str, Tuple[str, OptionRules]]:
    """The keys of the records' ``option_rules`` to our meta architectures and the rules."""
    known: Dict[str, Tuple[str, OptionRules]] = {}
    for meta_architecture, record in all_records():
        for name, rules in record.option_rules.items():
            if not isinstance(rules, OptionRules):
                raise TypeError(
                    f"option_rules[{name!r}] of {meta_architecture.__name__} must be OptionRules, "
                    f"got {type(rules).__name__}"
                )
            known[name] = (meta_architecture.__name__, rules)
    return known


def read_model(builder: ConfigBuilder, model: Options) -> OptionRules:
    """
    Backbone and meta-architecture.

    Returns:
        The rules of the model that the options hold.

    Raises:
        ValueError: unless they hold exactly one model.
    """
    known = known_rules()
    chosen = [name for name in MODEL_MESSAGES if model.has(name)]
    if len(chosen) != 1:
        raise ValueError(
            f"{model.name()} must hold exactly one of {', '.join(MODEL_MESSAGES)}, "
            f"got {', '.join(chosen) or 'none'}"
        )
    meta_architecture, rules = _choose_rules(known, chosen[0], model)
    builder.set("MODEL.BACKBONE.NAME", "build_deeplab2_backbone")
    (rules.read_backbone or read_backbone)(builder, model.message("backbone"))
    builder.refuse(model.message("backbone"), "pretrained_weights", _PATHS)
    for field in (
        "initial_checkpoint",
        "restore_semantic_last_layer_from_initial_checkpoint",
        "restore_instance_last_layer_from_initial_checkpoint",
    ):
        builder.refuse(model, field, _PATHS + "; last layers are dropped on conversion")
    builder.set("MODEL.META_ARCHITECTURE", meta_architecture)
    rules.read_model(builder, model.message(chosen[0]), model)
    return rules


def _choose_rules(
    known: Dict[str, Tuple[str, OptionRules]], message: str, model: Options
) -> Tuple[str, OptionRules]:
    """Those of the message, or better, of the message and the beginning of the backbone's name."""
    backbone = model.message("backbone").value("name")
    fitting = [
        key
        for key in known
        if key.partition("/")[0] == message and backbone.startswith(key.partition("/")[2])
    ]
    return known[max(fitting, key=len)]


def rules_without_model() -> OptionRules:
    """The rules for options that hold no model: what any model has."""
    known = [rules for key, (_, rules) in known_rules().items() if "/" not in key]

    def read_losses(builder: ConfigBuilder, losses: Options) -> None:
        for rules in known:
            rules.read_losses(builder, losses)

    def read_train_dataset(builder: ConfigBuilder, dataset: Options) -> None:
        for rules in known:
            rules.read_train_dataset(builder, dataset)

    def read_evaluator(builder: ConfigBuilder, evaluator: Options) -> None:
        for rules in known:
            rules.read_evaluator(builder, evaluator)

    losses = dict.fromkeys(loss for rules in known for loss in rules.losses)
    return OptionRules(_no_model, tuple(losses), read_losses, read_train_dataset, read_evaluator)


def read_decoder(builder: ConfigBuilder, decoder: Options, node: str) -> None:
    """A decoder, into the node of that name."""
    if not decoder.value("feature_key"):
        raise ValueError(f"{decoder.name('feature_key')} must name a feature, got none")
    for field, key in _DECODER.items():
        builder.copy(decoder, field, f"MODEL.DEEPLAB2.{node}.{key}")
    aspp = "1x1" if decoder.value("aspp_use_only_1x1_proj_conv") else "tiled"
    name = decoder.name("aspp_use_only_1x1_proj_conv")
    builder.set(f"MODEL.DEEPLAB2.{node}.ASPP", aspp, name)
    key = f"MODEL.DEEPLAB2.{node}.ATROUS_RATES"
    reads_last = decoder.value("feature_key") == _LAST_FEATURE
    if reads_last and builder.values[key] == _rates_of_stride(builder, decoder):
        builder.values[key] = []


def _rates_of_stride(builder: ConfigBuilder, decoder: Options) -> List[int]:
    """What an empty list of rates stands for where the decoder reads the last feature."""
    stride = builder.values["MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE"]
    if stride < 1:
        raise ValueError(f"{decoder.name()} needs an output_stride above 0, got {stride}")
    return [reach // stride for reach in (96, 192, 288)]


def read_small_instances(builder: ConfigBuilder, dataset: Options, area: str, weight: str) -> None:
    """Which things are small, and the weight of their pixels, into the keys of that name."""
    builder.copy(dataset, "small_instance_threshold", f"INPUT.DEEPLAB2.{area}")
    is_weighted = dataset.value("increase_small_instance_weights")
    builder.set(
        f"INPUT.DEEPLAB2.{weight}",
        dataset.value("small_instance_weight") if is_weighted else 1.0,
        dataset.name("increase_small_instance_weights"),
        dataset.name("small_instance_weight"),
    )


def read_low_level(builder: ConfigBuilder, items: Sequence[Options], node: str) -> None:
    """The features that a decoder fuses in, into the node of that name."""
    names = [item.name(field) for item in items for field in ("feature_key", "channels_project")]
    pairs = [[item.value("feature_key"), item.value("channels_project")] for item in items]
    builder.set(f"MODEL.DEEPLAB2.{node}.LOW_LEVEL", pairs, *names)


def read_head(builder: ConfigBuilder, head: Options, node: str, decoder: str) -> None:
    """
    A prediction head, into the node of that name.

    Raises:
        ValueError: if its convolution is of another type than those of the decoder's other heads.
    """
    if not head.is_set:
        raise ValueError(f"{head.name()} must be set: the model has that head")
    builder.copy(head, "head_channels", f"MODEL.DEEPLAB2.{node}.CHANNELS")
    read_conv_type(builder, head, f"MODEL.DEEPLAB2.{decoder}")
    for field in ("max_value_after_activation", "min_value_after_activation"):
        builder.refuse(head, field, "bounds belong to the depth head")


def read_conv_type(builder: ConfigBuilder, head: Options, key: str) -> None:
    """The type of a head's convolution, which is that of the decoder (or the key's own)."""
    value = head.value("head_conv_type")
    expected = builder.values.get(key, value)
    if value != expected:
        raise ValueError(
            f"{head.name('head_conv_type')} must be {expected!r}, the type of the decoder and of "
            f"its other heads, got {value!r}"
        )
    builder.set(key, value, head.name("head_conv_type"))


def read_fixed_channels(
    builder: ConfigBuilder, head: Options, channels: int, node: str, decoder: str
) -> None:
    """A head of which the number of output channels is no option here."""
    read_head(builder, head, node, decoder)
    if head.value("output_channels") != channels:
        raise ValueError(
            f"{head.name('output_channels')} must be {channels}, "
            f"got {head.value('output_channels')}"
        )
    builder.mapped[head.name("output_channels")] = [f"MODEL.DEEPLAB2.{node}"]


# DeepLab2's options of residual networks, and our keys.
_RESIDUAL = {
    "use_squeeze_and_excite": "SQUEEZE_AND_EXCITE",
    "stem_width_multiplier": "STEM_WIDTH_MULTIPLIER",
    "backbone_layer_multiplier": "LAYER_MULTIPLIER",
    "use_sac_beyond_stride": "SAC_BEYOND_STRIDE",
}
# Networks of which the small one is in DeepLab2 the large one at a width of 0.5.
_HALVES = {"axial_resnet_s": "axial_resnet_l", "axial_deeplab_s": "axial_deeplab_l"}


def _read_mobilenet(builder: ConfigBuilder, backbone: Options) -> None:
    """What else the options of a MobileNetV3 say: DeepLab2 asserts that it squeezes and excites."""
    field = "use_squeeze_and_excite"
    if not backbone.value(field):
        name = backbone.value("name")
        raise ValueError(f"{backbone.name(field)} must be True for {name}, got False")
    builder.mapped[backbone.name(field)] = ["MODEL.DEEPLAB2.BACKBONE.NAME"]
    for field in (*_RESIDUAL, "drop_path_keep_prob", "drop_path_schedule"):
        if field != "use_squeeze_and_excite":
            builder.refuse(backbone, field, "MobileNetV3 has no such option")


def read_backbone(builder: ConfigBuilder, backbone: Options) -> None:
    """The network and what is changed of it."""
    prefix = "MODEL.DEEPLAB2.BACKBONE."
    name, width = backbone.value("name"), backbone.value("backbone_width_multiplier")
    if name in _HALVES:
        name, width = (name, 1.0) if width == 0.5 else (_HALVES[name], width)
    builder.set(prefix + "NAME", name, backbone.name("name"))
    builder.set(prefix + "WIDTH_MULTIPLIER", width, backbone.name("backbone_width_multiplier"))
    builder.copy(backbone, "output_stride", prefix + "OUTPUT_STRIDE")
    if name.startswith("mobilenet"):
        _read_mobilenet(builder, backbone)
        return
    prefix += "RESIDUAL."
    for field, key in _RESIDUAL.items():
        builder.copy(backbone, field, prefix + key)
    probability, schedule = (
        backbone.value(field) for field in ("drop_path_keep_prob", "drop_path_schedule")
    )
    names = [backbone.name(field) for field in ("drop_path_keep_prob", "drop_path_schedule")]
    # Without a drop path its schedule has no effect.
    drop_path = [probability, schedule if probability < 1.0 else "constant"]
    builder.set(prefix + "DROP_PATH", drop_path, *names)
