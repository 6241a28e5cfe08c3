"""Config keys of earlier versions, and what has taken their place."""

from typing import Dict

from detectron2.config import CfgNode

_REFERENCE = (
    "Operators run in plain PyTorch inside `with deeplab2_d2.ops.use_reference():`, and wherever "
    "they are not built."
)

# The full old key, and a sentence that tells the new way.
VANISHED_KEYS: Dict[str, str] = {
    "MODEL.DEEPLAB2.POSTPROCESSING.USE_OPS": _REFERENCE,
    "INPUT.DEEPLAB2.USE_OPS": _REFERENCE,
}


def refuse_vanished_keys(cfg: CfgNode) -> None:
    """Let a config that is merged into this one fail at an old key with the new way."""
    for key, sentence in VANISHED_KEYS.items():
        cfg.register_renamed_key(key, "another way", sentence)
