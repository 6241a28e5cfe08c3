"""
kMaX-DeepLab, the k-means mask transformer (arXiv:2207.04044).

In the order of the data: ``network.py`` (meta architecture) with ``head.py``: ``pixel_decoder.py``
(features of stride 32 to 4), ``transformer_decoder.py`` (cluster centers), then MaX-DeepLab's
heads; ``criterion.py``. ``config.py`` has its keys, ``weights.py`` its names in DeepLab2,
``published.py`` those in the authors' PyTorch code. Targets,
losses, post-processing, averaging and pictures are MaX-DeepLab's.
"""

from dataclasses import replace

from ...records import register
from ..max_deeplab import RECORD as MAX_RECORD
from ..max_deeplab import slot_averaging
from .config import add_config, check_config
from .head import KMaXDeepLabHead, LayerPredictor
from .network import DeepLab2KMaXDeepLab
from .pixel_decoder import PixelDecoder, decoded_shapes
from .published import STATE_DICT_LAYOUTS, STATE_DICT_NOTES, STATE_DICT_RULES
from .transformer_decoder import TransformerDecoder, TransformerSpec
from .weights import CHECKPOINT_MODULES, OPTION_RULES

RECORD = replace(
    MAX_RECORD,
    add_config=add_config,
    check_config=check_config,
    averaging=slot_averaging("MODEL.DEEPLAB2.KMAX_DEEPLAB.NUM_CENTERS"),
    checkpoint_modules=CHECKPOINT_MODULES,
    state_dict_rules=STATE_DICT_RULES,
    state_dict_layouts=STATE_DICT_LAYOUTS,
    state_dict_notes=STATE_DICT_NOTES,
    option_rules={"max_deeplab/kmax_": OPTION_RULES},
)
register(DeepLab2KMaXDeepLab, RECORD)

__all__ = [
    "DeepLab2KMaXDeepLab",
    "KMaXDeepLabHead",
    "LayerPredictor",
    "PixelDecoder",
    "RECORD",
    "TransformerDecoder",
    "TransformerSpec",
    "decoded_shapes",
]
