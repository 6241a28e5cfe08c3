"""
The DeepLab line: v1 (arXiv:1412.7062), v2 (arXiv:1606.00915), v3 (arXiv:1706.05587) and v3+
(arXiv:1802.02611).

In the order of the data: ``targets.py``, ``decoders.py`` (v3, v3+) and ``classifiers.py`` (v1, v2),
``network.py`` (meta architectures), ``criterion.py``, ``inference.py``. ``config.py`` has their
keys, ``weights.py`` their names in checkpoints. ``head.py`` has v3, v3+ and HRNet's as heads of
Detectron2's ``SemanticSegmentor``, whose record has their names in DeepLab2 and what they return:
everything else of such a model is as for any of Detectron2's.
"""

from detectron2.modeling import SemanticSegmentor

from ...records import Averaging, ModelRecord, register
from .classifiers import ClassifierSpec, SummedClassifiers
from .config import add_config, check_config
from .criterion import SemanticCriterion
from .decoders import SemanticDecoder, V3Decoder, V3PlusDecoder
from .graph import build_graph
from .head import DeepLab2DeepLabV3Head, DeepLab2DeepLabV3PlusHead, DeepLab2HRNetHead
from .inference import SemanticInference
from .network import (
    DeepLab2DeepLabV1,
    DeepLab2DeepLabV2,
    DeepLab2DeepLabV3,
    DeepLab2DeepLabV3Plus,
    SemanticDeepLab,
)
from .targets import build_mapper, outputs
from .weights import (
    CHECKPOINT_MODULES,
    LAST_LAYERS,
    OPTION_RULES,
    SEGMENTOR_STATE_DICT_RULES,
    SLIM_SCOPES,
    STATE_DICT_RULES,
)

register(
    SemanticSegmentor,
    ModelRecord(
        outputs=lambda cfg: ("sem_seg",),
        checkpoint_modules=CHECKPOINT_MODULES,
        state_dict_rules=SEGMENTOR_STATE_DICT_RULES,
        last_layers=LAST_LAYERS,
        option_rules=OPTION_RULES,
    ),
)
register(
    SemanticDeepLab,
    ModelRecord(
        add_config=add_config,
        check_config=check_config,
        build_mapper=build_mapper,
        outputs=outputs,
        averaging=Averaging(has_grid_of_image=True),
        build_graph=build_graph,
        slim_scopes=SLIM_SCOPES,
        state_dict_rules=STATE_DICT_RULES,
    ),
)

__all__ = [
    "ClassifierSpec",
    "DeepLab2DeepLabV1",
    "DeepLab2DeepLabV2",
    "DeepLab2DeepLabV3",
    "DeepLab2DeepLabV3Head",
    "DeepLab2DeepLabV3Plus",
    "DeepLab2DeepLabV3PlusHead",
    "DeepLab2HRNetHead",
    "SemanticCriterion",
    "SemanticDecoder",
    "SemanticDeepLab",
    "SemanticInference",
    "SummedClassifiers",
    "V3Decoder",
    "V3PlusDecoder",
]
