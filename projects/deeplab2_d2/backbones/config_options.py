"""What ``MODEL.DEEPLAB2.BACKBONE`` says about a row of the table and about its stages."""

from dataclasses import replace
from typing import Any, Dict

from detectron2.config import CfgNode

from ..layers import AttentionSpec
from .table import MemoryPathSpec, ResidualNetworkSpec

_PREFIX = "MODEL.DEEPLAB2.BACKBONE"


def row_from_config(node: CfgNode, row: ResidualNetworkSpec) -> ResidualNetworkSpec:
    """
    A row with what the config changes of it; keys that are None change nothing.

    Args:
        node: ``MODEL.DEEPLAB2.BACKBONE``.

    Raises:
        ValueError: for a key of a part that the row has not.
    """
    if node.REDUCED_LAST_BLOCK:
        raise ValueError(f"{_PREFIX}.REDUCED_LAST_BLOCK must be False for {node.NAME}, got True")
    changes: Dict[str, Any] = {}
    if row.memory is None:
        _refuse(node, "MEMORY", "memory path")
    else:
        changes["memory"] = _memory_from_config(node.MEMORY, row.memory)
    if row.decoder is None:
        _refuse(node, "DECODER", "decoder")
    else:
        given = _given(
            num_backbone_stacks=node.DECODER.BACKBONE_STACKS,
            num_extra_stacks=node.DECODER.EXTRA_STACKS,
            num_extra_blocks=node.DECODER.EXTRA_BLOCKS,
        )
        changes["decoder"] = replace(row.decoder, **given)
    changes["attention"] = _attention_from_config(node.ATTENTION, row.attention)
    changes.update(
        _given(
            stem=node.STEM,
            axial_beyond_stride=node.ATTENTION.AXIAL_BEYOND_STRIDE,
            attention_expansion=node.ATTENTION.BLOCK_EXPANSION,
        )
    )
    if node.CHECKPOINTED_KINDS is not None:
        changes["checkpointed_kinds"] = tuple(node.CHECKPOINTED_KINDS)
    return replace(row, **changes)


def _memory_from_config(node: CfgNode, memory: MemoryPathSpec) -> MemoryPathSpec:
    memory = replace(
        memory,
        **_given(
            num_slots=node.NUM_SLOTS,
            channels=node.CHANNELS,
            transformer_beyond_stride=node.BEYOND_STRIDE,
            base_expansion=node.EXPANSION,
            feed_forward_channels=node.FEED_FORWARD_CHANNELS,
            feature_channels=node.FEATURE_CHANNELS,
            num_heads=node.NUM_HEADS,
            use_memory_self_attention=node.SELF_ATTENTION,
            use_pixel_feedback=node.PIXEL_FEEDBACK,
            attention_activation=node.ATTENTION_ACTIVATION,
        ),
    )
    return replace(memory, max_num_slots=max(memory.max_num_slots, memory.num_slots))


def _attention_from_config(node: CfgNode, attention: AttentionSpec) -> AttentionSpec:
    return replace(
        attention,
        use_content=node.CONTENT,
        use_query_encoding=node.QUERY_ENCODING,
        use_key_encoding=node.KEY_ENCODING,
        retrieve_encoding=node.VALUE_ENCODING,
        activation=node.ACTIVATION,
        span=node.SPAN or None,
        num_global_layers=node.GLOBAL_LAYERS,
        form=node.FORM,
        **_given(
            num_heads=node.NUM_HEADS,
            key_expansion=node.KEY_EXPANSION,
            value_expansion=node.VALUE_EXPANSION,
        ),
    )


def _refuse(node: CfgNode, part: str, words: str) -> None:
    for key, value in node[part].items():
        if value is not None:
            raise ValueError(
                f"{_PREFIX}.{part}.{key} must be None for {node.NAME}, which has no {words}, "
                f"got {value!r}"
            )


def stage_options_from_config(cfg: CfgNode, node: CfgNode) -> Dict[str, Any]:
    """Fields of :class:`StageOptions` that no row decides; ``node`` as above."""
    height, width = cfg.INPUT.CROP.SIZE
    has_positions = node.ATTENTION.POSITION_ENCODING != "none"
    return {
        "activation": node.ACTIVATION,
        "use_squeeze_and_excite": node.SQUEEZE_AND_EXCITE,
        "sac_beyond_stride": node.SAC_BEYOND_STRIDE,
        "drop_path_keep_prob": node.DROP_PATH_KEEP_PROB,
        "drop_path_schedule": node.DROP_PATH_SCHEDULE,
        "global_beyond_stride": node.ATTENTION.GLOBAL_BEYOND_STRIDE,
        "position_encoding": node.ATTENTION.POSITION_ENCODING,
        "image_size": (int(height), int(width)) if has_positions else (0, 0),
    }


def refuse_residual_options(node: CfgNode) -> None:
    """
    Refuse what only residual networks have.

    Raises:
        ValueError: naming the key.
    """
    fixed = {
        "DROP_PATH_KEEP_PROB": 1.0,
        "SAC_BEYOND_STRIDE": -1,
        "STEM_WIDTH_MULTIPLIER": 1.0,
        "LAYER_MULTIPLIER": 1.0,
        "ACTIVATION": "relu",
        "STEM": None,
        "CHECKPOINTED_KINDS": None,
    }
    values = {key: (node[key], value) for key, value in fixed.items()}
    values["ATTENTION.GLOBAL_BEYOND_STRIDE"] = (node.ATTENTION.GLOBAL_BEYOND_STRIDE, -1)
    values["ATTENTION.AXIAL_BEYOND_STRIDE"] = (node.ATTENTION.AXIAL_BEYOND_STRIDE, None)
    _refuse(node, "MEMORY", "memory path")
    _refuse(node, "DECODER", "decoder")
    for key, (value, expected) in values.items():
        if value != expected:
            raise ValueError(f"{_PREFIX}.{key} must be {expected} for {node.NAME}, got {value!r}")


def _given(**values: Any) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
