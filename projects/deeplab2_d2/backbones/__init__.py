"""Backbones as Detectron2 knows them: families of named networks, one file or folder each."""

from . import (
    auto_deeplab,
    convnext,
    hrnet,
    library,
    moat,
    mobile_network,
    plain_resnet,
    residual_config,
    vgg,
    xception,
)
from .build import build_backbone_by_name, build_deeplab2_backbone
from .config import add_config, check_config
from .convnext import CONVNEXTS, ConvNeXt
from .endpoints import EndpointBackbone
from .family import BackboneFamily, SharedOptions, backbone_names, find_family, register_family
from .fpn import (
    build_deeplab2_fpn_backbone,
    build_deeplab2_timm_fpn_backbone,
    build_deeplab2_torchvision_fpn_backbone,
)
from .freezing import freeze_stages, stage_weights
from .library import (
    LibraryBackbone,
    build_deeplab2_timm_backbone,
    build_deeplab2_torchvision_backbone,
)
from .moat import MOATS, Moat
from .mobile_network import MOBILE_NETWORKS, MobileBlockSpec, MobileNetwork
from .plain_resnet import PLAIN_RESNETS, PlainResNet
from .residual_network import ResidualNetwork
from .stacked_decoder import StackedDecoderNetwork
from .table import RESIDUAL_NETWORKS, MemoryPathSpec, ResidualNetworkSpec, StackedDecoderSpec
from .vgg import VGG_NETWORKS, VGGNetwork
from .xception import XCEPTION_NETWORKS, XceptionNetwork
