"""Backbones as Detectron2 knows them, and the table of named variants."""

from .build import BACKBONE_NAMES, build_backbone_by_name, build_deeplab2_backbone
from .endpoints import EndpointBackbone
from .fpn import build_deeplab2_fpn_backbone
from .mobile_network import MOBILE_NETWORKS, MobileBlockSpec, MobileNetwork
from .residual_network import ResidualNetwork
from .stacked_decoder import StackedDecoderNetwork
from .table import RESIDUAL_NETWORKS, MemoryPathSpec, ResidualNetworkSpec, StackedDecoderSpec
