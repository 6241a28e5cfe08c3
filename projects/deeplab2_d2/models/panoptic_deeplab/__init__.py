"""
Panoptic-DeepLab (arXiv:1911.10194).

In the order of the data: ``targets.py`` (what a sample teaches), ``network.py`` (heads, meta
architecture), ``criterion.py`` (losses), ``inference.py`` (maps to labels). ``config.py`` has its
keys, ``weights.py`` its names in DeepLab2, ``oracle.py`` and ``pictures.py`` what evaluation and
training show of it.
"""

from ...records import Averaging, ModelRecord, register
from .config import add_config, check_config
from .criterion import LossTerm, OffsetCriterion, PanopticDeepLabCriterion
from .graph import build_graph
from .inference import PanopticDeepLabInference
from .network import DeepLab2PanopticDeepLab, HeadRows, describe_heads
from .oracle import CenterStrideOracle
from .pictures import CenterPictures
from .targets import build_image_targets, build_mapper, outputs
from .weights import CHECKPOINT_MODULES, LAST_LAYERS, OPTION_RULES, STATE_DICT_RULES

RECORD = ModelRecord(
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    outputs=outputs,
    averaging=Averaging(),
    build_oracle=CenterStrideOracle.from_config,
    build_pictures=CenterPictures.from_config,
    build_graph=build_graph,
    checkpoint_modules=CHECKPOINT_MODULES,
    state_dict_rules=STATE_DICT_RULES,
    last_layers=LAST_LAYERS,
    option_rules={"panoptic_deeplab": OPTION_RULES},
)
register(DeepLab2PanopticDeepLab, RECORD)

__all__ = [
    "CenterPictures",
    "DeepLab2PanopticDeepLab",
    "HeadRows",
    "LossTerm",
    "OffsetCriterion",
    "PanopticDeepLabCriterion",
    "PanopticDeepLabInference",
    "RECORD",
    "build_image_targets",
    "describe_heads",
]
