"""The classifier's names in published checkpoints."""

from typing import Tuple

# MOAT's, which are the only ones of DeepLab2's code with a classifier.
CHECKPOINT_MODULES: Tuple[Tuple[str, str], ...] = (
    ("final_layer_norm/", "classifier.norm."),
    ("logits_head/", "classifier.logits."),
)

# Those of Google's release of v3+.
SLIM_SCOPES: Tuple[Tuple[str, str], ...] = (
    (r"[^/]+/logits/weights", "classifier.logits.weight"),
    (r"[^/]+/logits/biases", "classifier.logits.bias"),
)
