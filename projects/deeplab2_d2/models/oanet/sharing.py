"""What stuff and instance branch have in common (arXiv:1903.05027, Sec. 3.1, Table 4)."""

from typing import Dict, Optional, Tuple

from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from torch import Tensor, nn

Features = Dict[str, Tensor]


def build_stuff_backbone(cfg: CfgNode) -> Optional[nn.Module]:
    """
    The stuff branch's own part of the backbone, as MODEL.DEEPLAB2.OANET.SHARING says.

    Returns:
        None if it shares all; a pyramid whose ``bottom_up`` is an Identity if it shares the body; a
        backbone of its own if it shares nothing.

    Raises:
        ValueError: if the body is to be shared without the pyramid, and there is no pyramid.
    """
    sharing = cfg.MODEL.DEEPLAB2.OANET.SHARING
    if sharing == "pyramid":
        return None
    backbone = build_backbone(cfg)
    if sharing == "backbone":
        if not hasattr(backbone, "bottom_up"):
            raise ValueError(
                "config key MODEL.DEEPLAB2.OANET.SHARING must be 'pyramid' or 'none' for a "
                f"backbone without a pyramid, got {sharing!r} for {cfg.MODEL.BACKBONE.NAME}"
            )
        backbone.bottom_up = nn.Identity()
    return backbone


def compute_features(
    backbone: nn.Module, stuff_backbone: Optional[nn.Module], images: Tensor
) -> Tuple[Features, Features]:
    """
    Args:
        backbone: of the instance branch.
        stuff_backbone: see :func:`build_stuff_backbone`.
        images: (N, 3, H, W), normalised.

    Returns:
        Features of the instance branch, and of the stuff branch.
    """
    if stuff_backbone is None:
        features = backbone(images)
        return features, features
    if not isinstance(getattr(stuff_backbone, "bottom_up", None), nn.Identity):
        return backbone(images), stuff_backbone(images)
    shared: Features = {}
    # The pyramid does not hand its input out.
    body = backbone.get_submodule("bottom_up")
    hook = body.register_forward_hook(lambda module, inputs, output: shared.update(output))
    try:
        features = backbone(images)
    finally:
        hook.remove()
    return features, stuff_backbone(shared)
