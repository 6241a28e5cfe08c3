"""
DeepLab v3 (arXiv:1706.05587) and v3+ (arXiv:1802.02611), heads of Detectron2's
``SemanticSegmentor``. Its record has their names in DeepLab2 and what they return: everything else
of such a model is as for any of Detectron2's.
"""

from detectron2.modeling import SemanticSegmentor

from ...records import ModelRecord, register
from .head import DeepLab2DeepLabV3Head, DeepLab2DeepLabV3PlusHead, FuseConvs
from .weights import CHECKPOINT_MODULES, LAST_LAYERS, OPTION_RULES

register(
    SemanticSegmentor,
    ModelRecord(
        outputs=lambda cfg: ("sem_seg",),
        checkpoint_modules=CHECKPOINT_MODULES,
        last_layers=LAST_LAYERS,
        option_rules=OPTION_RULES,
    ),
)

__all__ = ["DeepLab2DeepLabV3Head", "DeepLab2DeepLabV3PlusHead", "FuseConvs"]
