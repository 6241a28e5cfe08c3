"""The network of a config, without the data that a whole meta-architecture asks for."""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from torch import nn

from deeplab2_d2.heads import PanopticDeepLabHead


class PanopticNetwork(nn.Module):
    """Backbone and head under the names that they have in every model."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.head = PanopticDeepLabHead(cfg, self.backbone.output_shape())

    def forward(self, images):
        return self.head(self.backbone(images))


def build_network(cfg: CfgNode, device: str = "meta") -> nn.Module:
    with torch.device(device):
        return PanopticNetwork(cfg).eval()
