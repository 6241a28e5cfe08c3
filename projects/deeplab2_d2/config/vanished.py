"""Config keys of earlier versions, and what took their place."""

from typing import Dict

_REFERENCE = (
    "operators run in plain PyTorch inside `with deeplab2_d2.ops.use_reference():` "
    "(and wherever they are not built)"
)

# Full key -> a sentence that tells the new way.
VANISHED_KEYS: Dict[str, str] = {
    "MODEL.DEEPLAB2.POSTPROCESSING.USE_OPS": _REFERENCE,
    "INPUT.DEEPLAB2.USE_OPS": _REFERENCE,
}
