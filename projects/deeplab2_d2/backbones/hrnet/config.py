"""The family's config node."""

from detectron2.config import CfgNode

from ..family import PREFIX, BackboneFamily, SharedOptions, register_family
from .branches import FUSIONS
from .network import HighResolutionNetwork
from .table import HIGH_RESOLUTION_NETWORKS


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # How a branch is enlarged before it is added to a finer one: bilinear with "aligned" or
    # "unaligned" corners, or "nearest" (as HRNet's ImageNet weights were trained).
    node.FUSION = "aligned"
    # Have as backbone_output the branches at stride 4, concatenated ("HRNetV2").
    node.CONCATENATE = False


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    if node.FUSION not in FUSIONS:
        raise ValueError(
            f"config key {prefix}FUSION must be one of {tuple(FUSIONS)}, got {node.FUSION!r}"
        )
    if not isinstance(node.CONCATENATE, bool):
        raise ValueError(f"config key {prefix}CONCATENATE must be a bool, got {node.CONCATENATE!r}")


def build(name: str, node: CfgNode, shared: SharedOptions) -> HighResolutionNetwork:
    """
    A network of the family.

    Raises:
        ValueError: for a concatenation beside ImageNet's head.
    """
    spec = HIGH_RESOLUTION_NETWORKS[name]
    if node.CONCATENATE and spec.keeps_head:
        raise ValueError(
            f"{PREFIX}HRNET.CONCATENATE must be False for {name}, which ends with ImageNet's head, "
            "got True"
        )
    return HighResolutionNetwork(
        spec=spec,
        norm=shared.norm,
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        width_multiplier=shared.width_multiplier,
        fusion=node.FUSION,
        concatenates=node.CONCATENATE,
    )


register_family(
    BackboneFamily("HRNET", tuple(HIGH_RESOLUTION_NETWORKS), add_config, check_config, build)
)
