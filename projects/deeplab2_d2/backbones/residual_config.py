"""The residual family's config node: its keys, their checks, the networks they describe."""

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Tuple

from detectron2.config import CfgNode

from ..layers import AttentionSpec, StageOptions, StageSpec, plan_blocks
from .family import (
    PREFIX,
    BackboneFamily,
    SharedOptions,
    changed_keys,
    look_up,
    register_family,
    reset_key,
)
from .residual_network import ResidualNetwork, scale_stages
from .stacked_decoder import StackedDecoderNetwork, plan_decoder
from .table import RESIDUAL_NETWORKS, MemoryPathSpec, ResidualNetworkSpec

_STRIDES = (2, 4, 8, 16, 32)
_ACTIVATIONS = ("relu", "relu6", "swish", "silu", "hard_swish", "gelu", "approximated_gelu", "elu")
_KINDS = ("basic", "bottleneck", "axial", "global", "transformer")
_TERMS = ("content", "query", "key", "value")
_PATHS = ("memory_to_memory", "pixel_to_memory")


def add_config(node: CfgNode) -> None:
    """Add the family's keys. Where a value is None, the row of the table of networks decides."""
    # First convolutions: "conv7x7", "conv3x3", or "inception" (three 3x3); None: the row's.
    node.STEM = None
    # "relu", "swish", "gelu", "approximated_gelu", "elu", ...
    node.ACTIVATION = "relu"
    # Squeeze-and-excite in every block.
    node.SQUEEZE_AND_EXCITE = False
    # Stochastic depth: probability to keep a residual branch in training, (0, 1], and "constant" or
    # "linear" (it falls from 1 at the stem to its value).
    node.DROP_PATH = [1.0, "constant"]
    # Factor on the channels of the stem and of the first wide stage (SWideRNet's w1).
    node.STEM_WIDTH_MULTIPLIER = 1.0
    # Factor on the number of blocks of a stage (SWideRNet's l).
    node.LAYER_MULTIPLIER = 1.0
    # Switchable atrous convolution in stages whose stride is at least this; -1 = nowhere.
    node.SAC_BEYOND_STRIDE = -1
    # Blocks whose inner values are computed again in backward, which saves memory: [] or kinds of
    # "basic", "bottleneck", "axial", "global", "transformer" (the memory path's); None: the row's.
    node.CHECKPOINTED_KINDS = None
    # MaX-DeepLab's decoder: stacks that belong to the pretrained backbone, stacks after it (their
    # sum is the paper's L), and blocks of a stage after the backbone; None: the row's.
    node.DECODER = None
    _add_attention(node)
    _add_memory(node)


def _add_attention(node: CfgNode) -> None:
    node.ATTENTION = CfgNode()
    # Blocks whose input has at least this stride (before any dilation) are axial attention in place
    # of convolutions; -1 = none, None: the row's.
    node.ATTENTION.AXIAL_BEYOND_STRIDE = None
    # The same for global attention, which comes before axial, and its layers in a block: 1, or 2
    # (as many parameters as an axial block).
    node.ATTENTION.GLOBAL = [-1, 1]
    # Learned positions before global attention: "none", "1D" (of rows) or "2D" (of pixels), made
    # for INPUT.CROP.SIZE and resized for other sizes.
    node.ATTENTION.POSITION_ENCODING = "none"
    # Heads; None: the row's.
    node.ATTENTION.NUM_HEADS = None
    # Channels of queries and keys, of values, and before them, over a block's width; None: the
    # row's.
    node.ATTENTION.EXPANSIONS = None
    # Of axial attention: similarity of query and key ("content"), of query and position ("query"),
    # of key and position ("key"), and positions retrieved beside the values ("value").
    node.ATTENTION.TERMS = ["content", "query", "key", "value"]
    # "softmax" or "sigmoid" of the similarities.
    node.ATTENTION.ACTIVATION = "softmax"
    # Pixels of its axis that a pixel attends to, itself in the middle: odd (the paper's 65);
    # 0 = all.
    node.ATTENTION.SPAN = 0


def _add_memory(node: CfgNode) -> None:
    # MaX-DeepLab's memory path; None: the row's.
    node.MEMORY = CfgNode()
    # Mask slots that are used (the paper's N), at most 1024.
    node.MEMORY.NUM_SLOTS = None
    # Channels of the memory, and of the class and the mask features at the end.
    node.MEMORY.CHANNELS = None
    # Blocks of stages whose output has at least this stride (before any dilation) exchange with the
    # memory, in the encoder and in the decoder stacks; 32 is the last stage, 16 the last two.
    node.MEMORY.BEYOND_STRIDE = None
    # Width of the exchange: 128 channels times this at stride 16, in proportion to the stride.
    node.MEMORY.EXPANSION = None
    # Inner channels of the memory's feed-forward network; 0 = none.
    node.MEMORY.FEED_FORWARD_CHANNELS = None
    # Heads of all its attention.
    node.MEMORY.NUM_HEADS = None
    # Beside memory to pixels: whether the memory attends to itself ("memory_to_memory", the paper's
    # M2M) and the pixels to the memory ("pixel_to_memory", P2M).
    node.MEMORY.PATHS = None
    # "softmax" or "sigmoid" of the similarities.
    node.MEMORY.ATTENTION_ACTIVATION = None


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """

    def check(key: str, holds: bool, rule: str) -> None:
        if not holds:
            value = look_up(node, key)
            raise ValueError(f"config key {prefix}{key} must be {rule}, got {value!r}")

    def one_of(key: str, allowed: Tuple[Any, ...]) -> None:
        rule = "one of " + ", ".join(map(repr, allowed))
        check(key, look_up(node, key) in allowed, rule)

    def all_of(key: str, allowed: Tuple[str, ...]) -> None:
        values: Any = look_up(node, key)
        rule = "a list of " + ", ".join(map(repr, allowed))
        check(key, values is None or all(value in allowed for value in values), rule)

    def counts(key: str, values: Any, least: int, length: int = 1) -> None:
        are_counts = isinstance(values, (list, tuple)) and all(
            isinstance(value, int) and not isinstance(value, bool) and value >= least
            for value in values
        )
        words = "a whole number" if length == 1 else f"{length} whole numbers"
        rule = f"None or {words} of at least {least}"
        check(key, values in (None, [None]) or (are_counts and len(values) == length), rule)

    one_of("STEM", (None, "conv7x7", "conv3x3", "inception"))
    one_of("ACTIVATION", _ACTIVATIONS)
    drop_path = list(node.DROP_PATH)
    is_pair = len(drop_path) == 2 and not isinstance(drop_path[0], str)
    check(
        "DROP_PATH",
        is_pair and 0.0 < drop_path[0] <= 1.0 and drop_path[1] in ("constant", "linear"),
        "a probability in (0, 1], and 'constant' or 'linear'",
    )
    for key in ("STEM_WIDTH_MULTIPLIER", "LAYER_MULTIPLIER"):
        check(key, node[key] > 0, "positive")
    all_of("CHECKPOINTED_KINDS", _KINDS)
    counts("DECODER", node.DECODER, 0, length=3)
    attention = node.ATTENTION
    one_of("ATTENTION.AXIAL_BEYOND_STRIDE", (None, -1) + _STRIDES)
    is_global = list(attention.GLOBAL)
    check(
        "ATTENTION.GLOBAL",
        len(is_global) == 2 and is_global[0] in (-1,) + _STRIDES and is_global[1] in (1, 2),
        f"a stride of {(-1,) + _STRIDES}, and 1 or 2 layers",
    )
    one_of("ATTENTION.POSITION_ENCODING", ("none", "1D", "2D"))
    check(
        "ATTENTION.POSITION_ENCODING",
        attention.POSITION_ENCODING == "none" or is_global[0] > 0,
        "'none' where ATTENTION.GLOBAL is off",
    )
    counts("ATTENTION.NUM_HEADS", [attention.NUM_HEADS], 1)
    expansions = attention.EXPANSIONS
    check(
        "ATTENTION.EXPANSIONS",
        expansions is None or (len(expansions) == 3 and min(expansions) > 0),
        "None or three positive numbers",
    )
    all_of("ATTENTION.TERMS", _TERMS)
    check(
        "ATTENTION.TERMS",
        bool(set(attention.TERMS) - {"value"}),
        "with one of 'content', 'query', 'key'",
    )
    one_of("ATTENTION.ACTIVATION", ("softmax", "sigmoid"))
    span = attention.SPAN
    check("ATTENTION.SPAN", span == 0 or (span > 0 and span % 2 == 1), "0, or odd")
    memory = node.MEMORY
    for key in ("NUM_SLOTS", "NUM_HEADS"):
        counts("MEMORY." + key, [memory[key]], 1)
    # What post-processing takes.
    check("MEMORY.NUM_SLOTS", (memory.NUM_SLOTS or 1) <= 1024, "at most 1024")
    counts("MEMORY.CHANNELS", memory.CHANNELS, 1, length=2)
    counts("MEMORY.FEED_FORWARD_CHANNELS", [memory.FEED_FORWARD_CHANNELS], 0)
    one_of("MEMORY.BEYOND_STRIDE", (None,) + _STRIDES)
    check("MEMORY.EXPANSION", memory.EXPANSION is None or memory.EXPANSION > 0, "positive")
    all_of("MEMORY.PATHS", _PATHS)
    one_of("MEMORY.ATTENTION_ACTIVATION", (None, "softmax", "sigmoid"))


@dataclass(frozen=True)
class _Network:
    """A row of the table with what the config changes of it, and what its stages share."""

    spec: ResidualNetworkSpec
    options: StageOptions
    shared: SharedOptions
    stem_width_multiplier: float
    layer_multiplier: float

    def build(self) -> ResidualNetwork:
        layer = ResidualNetwork if self.spec.decoder is None else StackedDecoderNetwork
        return layer(
            spec=self.spec,
            options=self.options,
            norm=self.shared.norm,
            in_channels=self.shared.in_channels,
            stem_width_multiplier=self.stem_width_multiplier,
            width_multiplier=self.shared.width_multiplier,
            layer_multiplier=self.layer_multiplier,
        )

    def blocks(self) -> Tuple[Any, ...]:
        """All that the network is made of, as data: equal for equal networks."""
        stages = scale_stages(
            self.spec,
            stem_width_multiplier=self.stem_width_multiplier,
            width_multiplier=self.shared.width_multiplier,
            layer_multiplier=self.layer_multiplier,
        )
        parts: List[Any] = [tuple(map(tuple, (plan_blocks(s, self.options) for s in stages)))]
        kinds = {block.kind for blocks in parts[0] for block in blocks}
        decoder, memory = self.spec.decoder, self.spec.memory
        if decoder is not None:
            steps = plan_decoder(
                decoder, self.options.output_stride, is_panoptic=self.spec.is_panoptic
            )
            parts.append(tuple(steps))
            for stride, kind in decoder.kinds:
                blocks = plan_blocks(StageSpec(kind, 8, 1, stride, stride=1), self.options)
                parts.append(tuple(blocks))
            parts.append(decoder.num_extra_blocks if self.spec.is_panoptic else 0)
        if "global" in kinds:
            parts.append((self.options.position_encoding, self.options.image_size))
        if memory is not None:
            checkpoints = "transformer" in self.options.checkpointed_kinds
            parts.append((memory, checkpoints, self.options.drop_path_keep_prob))
        stem = (self.spec.stem, self.spec.stem_channels * self.stem_width_multiplier)
        activation = self.options.activation
        return (stem, activation, *parts)


def _describe(name: str, node: CfgNode, shared: SharedOptions) -> _Network:
    row = RESIDUAL_NETWORKS[name]
    changes: Dict[str, Any] = {}
    if row.memory is not None:
        changes["memory"] = _memory(node.MEMORY, row.memory)
    if row.decoder is not None and node.DECODER is not None:
        backbone_stacks, extra_stacks, extra_blocks = node.DECODER
        changes["decoder"] = replace(
            row.decoder,
            num_backbone_stacks=backbone_stacks,
            num_extra_stacks=extra_stacks,
            num_extra_blocks=max(1, extra_blocks),
        )
    changes["attention"] = _attention(node.ATTENTION, row.attention)
    changes.update(_given(stem=node.STEM, axial_beyond_stride=node.ATTENTION.AXIAL_BEYOND_STRIDE))
    if node.ATTENTION.EXPANSIONS is not None:
        changes["attention_expansion"] = node.ATTENTION.EXPANSIONS[2]
    if node.CHECKPOINTED_KINDS is not None:
        changes["checkpointed_kinds"] = tuple(node.CHECKPOINTED_KINDS)
    spec = replace(row, **changes)
    has_positions = node.ATTENTION.POSITION_ENCODING != "none"
    options = StageOptions(
        output_stride=shared.output_stride,
        activation=node.ACTIVATION,
        use_squeeze_and_excite=node.SQUEEZE_AND_EXCITE,
        sac_beyond_stride=node.SAC_BEYOND_STRIDE,
        drop_path_keep_prob=node.DROP_PATH[0],
        drop_path_schedule=node.DROP_PATH[1],
        drop_path_beyond_stride=spec.drop_path_beyond_stride,
        axial_beyond_stride=spec.axial_beyond_stride,
        global_beyond_stride=node.ATTENTION.GLOBAL[0],
        position_encoding=node.ATTENTION.POSITION_ENCODING,
        image_size=shared.image_size if has_positions else (0, 0),
        attention=spec.attention,
        attention_expansion=spec.attention_expansion,
        checkpointed_kinds=spec.checkpointed_kinds,
    )
    return _Network(spec, options, shared, node.STEM_WIDTH_MULTIPLIER, node.LAYER_MULTIPLIER)


def _memory(node: CfgNode, memory: MemoryPathSpec) -> MemoryPathSpec:
    given = _given(
        num_slots=node.NUM_SLOTS,
        transformer_beyond_stride=node.BEYOND_STRIDE,
        base_expansion=node.EXPANSION,
        feed_forward_channels=node.FEED_FORWARD_CHANNELS,
        num_heads=node.NUM_HEADS,
        attention_activation=node.ATTENTION_ACTIVATION,
    )
    if node.CHANNELS is not None:
        given["channels"], given["feature_channels"] = node.CHANNELS
    if node.PATHS is not None:
        given["use_memory_self_attention"] = "memory_to_memory" in node.PATHS
        given["use_pixel_feedback"] = "pixel_to_memory" in node.PATHS
    memory = replace(memory, **given)
    return replace(memory, max_num_slots=max(memory.max_num_slots, memory.num_slots))


def _attention(node: CfgNode, attention: AttentionSpec) -> AttentionSpec:
    given = _given(num_heads=node.NUM_HEADS)
    if node.EXPANSIONS is not None:
        given["key_expansion"], given["value_expansion"] = node.EXPANSIONS[:2]
    return replace(
        attention,
        use_content="content" in node.TERMS,
        use_query_encoding="query" in node.TERMS,
        use_key_encoding="key" in node.TERMS,
        retrieve_encoding="value" in node.TERMS,
        activation=node.ACTIVATION,
        span=node.SPAN or None,
        num_global_layers=node.GLOBAL[1],
        **given,
    )


def _given(**values: Any) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def build(name: str, node: CfgNode, shared: SharedOptions) -> ResidualNetwork:
    """
    A network of the family.

    Raises:
        ValueError: for a key that has no effect on this network.
    """
    network = _describe(name, node, shared)
    defaults = CfgNode()
    add_config(defaults)
    for key in changed_keys(node, defaults):
        without = _describe(name, reset_key(node, defaults, key), shared)
        if without.blocks() == network.blocks():
            raise ValueError(
                f"{PREFIX}{_NODE}.{key} has no effect on {name} and must be "
                f"{look_up(defaults, key)!r}, got {look_up(node, key)!r}"
            )
    return network.build()


_NODE = "RESIDUAL"

register_family(BackboneFamily(_NODE, tuple(RESIDUAL_NETWORKS), add_config, check_config, build))
