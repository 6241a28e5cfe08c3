"""
The config that a model was trained by, inside its checkpoint.

A checkpoint of a training is then all that a predictor needs.
"""

import os
from typing import Optional

from .pickled_file import read_entry

# Beside "model", as text: what `CfgNode.dump` gives.
CONFIG_KEY = "config_yaml"


def read_config_text(path: str) -> Optional[str]:
    """
    The config that a checkpoint holds, as YAML.

    Args:
        path: of a .pth; another file has no config.

    Returns:
        the text; None where the checkpoint has none.

    Raises:
        CheckpointFormatError: if it is damaged.
    """
    if not path.endswith(".pth") or not os.path.isfile(path):
        return None
    text = read_entry(path, CONFIG_KEY)
    return text if isinstance(text, str) else None
