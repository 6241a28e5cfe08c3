"""
OANet (arXiv:1903.05027): Detectron2's Panoptic FPN with a module that ranks instances in space.

In the order of the data: ``targets.py`` (the mapper), ``network.py`` (the meta architecture, on
Detectron2's), ``sharing.py`` (what its two branches share), ``stuff_head.py`` (the stuff branch),
``classes.py`` (its channels), ``ranking.py`` (the spatial ranking module, its loss, and the scores
of instances), ``within_class.py`` (their order within a class), ``merging.py`` (instances and stuff
to one map), ``inspection.py`` (what ranking does to the detections of an image), ``oracle.py`` (the
bound of both branches). ``config.py`` has its keys.
"""

from ...records import ModelRecord, register
from .classes import StuffChannels
from .config import add_config, check_config
from .inspection import rank_image
from .merging import mask_bounds, merge_instances_and_stuff
from .network import DeepLab2OANet
from .oracle import BranchOracle
from .ranking import (
    DEEPLAB2_RANKING_HEADS_REGISTRY,
    DeepLab2SpatialRankingHead,
    RankingCriterion,
    RankingHead,
    draw_instances,
    find_conflicts,
    rank_instances,
)
from .stuff_head import DeepLab2OANetStuffHead
from .targets import build_mapper, outputs
from .within_class import order_within_classes

RECORD = ModelRecord(
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    has_detectron2_input=True,
    build_oracle=BranchOracle.from_config,
    outputs=outputs,
    rank_image=rank_image,
)
register(DeepLab2OANet, RECORD)

__all__ = [
    "DEEPLAB2_RANKING_HEADS_REGISTRY",
    "DeepLab2OANet",
    "DeepLab2OANetStuffHead",
    "DeepLab2SpatialRankingHead",
    "RECORD",
    "RankingCriterion",
    "RankingHead",
    "StuffChannels",
    "draw_instances",
    "find_conflicts",
    "mask_bounds",
    "merge_instances_and_stuff",
    "order_within_classes",
    "rank_image",
    "rank_instances",
]
