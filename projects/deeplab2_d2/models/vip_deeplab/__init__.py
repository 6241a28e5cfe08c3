"""
ViP-DeepLab (arXiv:2012.05258): Panoptic-DeepLab on pairs of frames, with depth.

In the order of the data: ``targets.py`` (what a pair of frames teaches), ``network.py`` (the pair
through the backbone, further heads), ``criterion.py`` (the loss of depth), ``inference.py`` (labels
of a pair, stitched over the video). ``config.py`` has its keys, ``weights.py`` its names in
DeepLab2. Everything else is Panoptic-DeepLab's.
"""

from dataclasses import replace

from ...records import register
from ..panoptic_deeplab import RECORD as PANOPTIC_RECORD
from .config import add_config, check_config
from .criterion import DepthCriterion
from .inference import ViPDeepLabInference
from .network import DeepLab2ViPDeepLab, FramePairHeads, frame_pair_shapes
from .pictures import DepthPictures
from .targets import build_mapper, outputs
from .weights import CHECKPOINT_MODULES, LAST_LAYERS, OPTION_RULES

RECORD = replace(
    PANOPTIC_RECORD,
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    outputs=outputs,
    build_pictures=DepthPictures.from_config,
    # Its labels are of pairs of frames.
    build_graph=None,
    checkpoint_modules=CHECKPOINT_MODULES,
    last_layers=LAST_LAYERS,
    option_rules={"vip_deeplab": OPTION_RULES},
)
register(DeepLab2ViPDeepLab, RECORD)

__all__ = [
    "DeepLab2ViPDeepLab",
    "DepthCriterion",
    "FramePairHeads",
    "RECORD",
    "ViPDeepLabInference",
    "frame_pair_shapes",
]
