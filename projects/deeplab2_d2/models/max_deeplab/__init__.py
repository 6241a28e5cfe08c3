"""
MaX-DeepLab (arXiv:2012.00759).

In the order of the data: ``targets.py`` (what a sample teaches), ``network.py`` (meta
architecture) with ``head.py``, ``criterion.py`` (losses), ``inference.py`` (slots to labels).
``config.py`` has its keys, ``weights.py`` its names in DeepLab2, ``averaging.py`` the order of
slots over views, ``oracle.py`` and ``pictures.py`` what evaluation and training show of it.
"""

from ...config import outputs_from_config
from ...records import ModelRecord, register
from .averaging import slot_averaging
from .config import add_config, check_config
from .criterion import MaXDeepLabCriterion
from .graph import build_graph
from .head import MaXDeepLabHead
from .inference import MaXDeepLabInference
from .network import DeepLab2MaXDeepLab
from .oracle import SlotStrideOracle
from .pictures import SlotPictures
from .targets import build_mapper
from .weights import CHECKPOINT_MODULES, LAST_LAYERS, OPTION_RULES

RECORD = ModelRecord(
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    outputs=outputs_from_config,
    averaging=slot_averaging("MODEL.DEEPLAB2.BACKBONE.RESIDUAL.MEMORY.NUM_SLOTS"),
    build_oracle=SlotStrideOracle.from_config,
    build_pictures=SlotPictures.from_config,
    build_graph=build_graph,
    slot_channels=lambda cfg: cfg.MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_CHANNELS,
    checkpoint_modules=CHECKPOINT_MODULES,
    last_layers=LAST_LAYERS,
    option_rules={"max_deeplab": OPTION_RULES},
)
register(DeepLab2MaXDeepLab, RECORD)

__all__ = [
    "DeepLab2MaXDeepLab",
    "MaXDeepLabCriterion",
    "MaXDeepLabHead",
    "MaXDeepLabInference",
    "RECORD",
    "slot_averaging",
]
