"""The network of a config, without the data that a whole meta-architecture asks for."""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from torch import nn

from deeplab2_d2.models.class_map import class_map_from_config
from deeplab2_d2.models.kmax_deeplab import DeepLab2KMaXDeepLab
from deeplab2_d2.models.max_deeplab import MaXDeepLabHead


class Network(nn.Module):
    """Backbone and head under the names that they have in every model."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        if cfg.MODEL.META_ARCHITECTURE == "DeepLab2KMaXDeepLab":
            self.backbone, self.head = DeepLab2KMaXDeepLab.build_network(cfg)
            return
        self.backbone = build_backbone(cfg)
        shape = self.backbone.output_shape()
        if cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
            self.sem_seg_head = build_sem_seg_head(cfg, shape)
        elif cfg.MODEL.META_ARCHITECTURE == "DeepLab2MaXDeepLab":
            num_classes = class_map_from_config(cfg).num_classes
            memory_shape = self.backbone.return_memory()
            self.head = MaXDeepLabHead(cfg, shape, memory_shape, num_classes=num_classes)
        else:
            model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
            self.head = model.build_head(cfg, shape)

    def forward(self, images):
        return self.head(self.backbone(images))


def build_network(cfg: CfgNode, device: str = "meta") -> nn.Module:
    with torch.device(device):
        return Network(cfg).eval()
