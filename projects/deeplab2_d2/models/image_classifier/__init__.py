"""
A classifier of images: what backbones are pretrained as.

In the order of the data: ``targets.py`` (the mapper), ``network.py`` (the meta architecture: any
backbone, the average of its last map, a linear layer, cross-entropy). ``config.py`` has its keys,
``weights.py`` its names in published checkpoints.
"""

from ...records import ModelRecord, register
from .config import add_config, check_config
from .network import DeepLab2ImageClassifier
from .targets import build_evaluators, build_mapper, outputs
from .weights import CHECKPOINT_MODULES, SLIM_SCOPES

RECORD = ModelRecord(
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    has_own_input=True,
    outputs=outputs,
    build_evaluators=build_evaluators,
    checkpoint_modules=CHECKPOINT_MODULES,
    slim_scopes=SLIM_SCOPES,
)
register(DeepLab2ImageClassifier, RECORD)

__all__ = ["DeepLab2ImageClassifier", "RECORD"]
