"""
Motion-DeepLab (STEP, arXiv:2102.11859): Panoptic-DeepLab that carries tracks from frame to frame.

In the order of the data: ``targets.py`` (the pairs of frames that teach), ``network.py`` (what the
network sees, its further head), ``inference.py`` (tracking). ``config.py`` has its keys,
``weights.py`` its names in DeepLab2. Everything else is Panoptic-DeepLab's.
"""

from dataclasses import replace

from ...records import register
from ..panoptic_deeplab import RECORD as PANOPTIC_RECORD
from .config import add_config, check_config
from .inference import MotionDeepLabInference
from .network import DeepLab2MotionDeepLab
from .pictures import MotionPictures
from .targets import build_mapper, outputs
from .weights import CHECKPOINT_MODULES, LAST_LAYERS, OPTION_RULES

RECORD = replace(
    PANOPTIC_RECORD,
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    outputs=outputs,
    build_pictures=MotionPictures.from_config,
    # Its labels are of pairs of frames.
    build_graph=None,
    checkpoint_modules=CHECKPOINT_MODULES,
    last_layers=LAST_LAYERS,
    option_rules={"motion_deeplab": OPTION_RULES},
)
register(DeepLab2MotionDeepLab, RECORD)

__all__ = ["DeepLab2MotionDeepLab", "MotionDeepLabInference", "RECORD"]
