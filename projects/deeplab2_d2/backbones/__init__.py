"""Backbones as Detectron2 knows them: families of named networks, one file or folder each."""

from . import mobile_network, residual_config
from .build import build_backbone_by_name, build_deeplab2_backbone
from .config import add_config, check_config
from .endpoints import EndpointBackbone
from .family import BackboneFamily, SharedOptions, backbone_names, find_family, register_family
from .fpn import build_deeplab2_fpn_backbone
from .freezing import freeze_stages, stage_weights
from .mobile_network import MOBILE_NETWORKS, MobileBlockSpec, MobileNetwork
from .residual_network import ResidualNetwork
from .stacked_decoder import StackedDecoderNetwork
from .table import RESIDUAL_NETWORKS, MemoryPathSpec, ResidualNetworkSpec, StackedDecoderSpec
