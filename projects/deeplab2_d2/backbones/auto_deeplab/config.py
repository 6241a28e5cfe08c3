"""The family's config node."""

from dataclasses import replace

from detectron2.config import CfgNode

from ..family import BackboneFamily, SharedOptions, register_family
from .genotype import AUTO_DEEPLAB_NETWORKS
from .network import AutoDeepLabNetwork, check_genotype, check_path


def add_config(node: CfgNode) -> None:
    """Add the family's keys."""
    # Entries of every cell, [state, operation] each, the sums in pairs; [] = the paper's.
    node.GENOTYPE = []
    # Level of each cell, 0 to 3 (stride 4 to 32); [] = the paper's.
    node.PATH = []
    # End with what ImageNet's classifier stands on: 2048 channels at the output stride.
    node.HEAD = False
    # Probability with which an operation of the last cell is kept at the end of a training; it
    # falls evenly from 1 over the cells, and over SOLVER.MAX_ITER. 1 = no drop path.
    node.DROP_PATH = 1.0


def check_config(node: CfgNode, prefix: str) -> None:
    """
    Refuse values that no network of the family can have.

    Raises:
        ValueError: naming the key, the rule and the value.
    """
    for key, check in (("GENOTYPE", check_genotype), ("PATH", check_path)):
        if node[key]:
            try:
                check(node[key])
            except (TypeError, ValueError) as error:
                raise ValueError(f"config key {prefix}{key}: {error}") from error
    if not 0.0 < node.DROP_PATH <= 1.0:
        raise ValueError(f"config key {prefix}DROP_PATH must be in (0, 1], got {node.DROP_PATH!r}")
    if not isinstance(node.HEAD, bool):
        raise ValueError(f"config key {prefix}HEAD must be a bool, got {node.HEAD!r}")


def build(name: str, node: CfgNode, shared: SharedOptions) -> AutoDeepLabNetwork:
    """A network of the family."""
    spec = replace(AUTO_DEEPLAB_NETWORKS[name], has_head=node.HEAD, keep_prob=node.DROP_PATH)
    if node.GENOTYPE:
        genotype = tuple((state, operation) for state, operation in node.GENOTYPE)
        spec = replace(spec, genotype=genotype)
    if node.PATH:
        spec = replace(spec, path=tuple(node.PATH))
    return AutoDeepLabNetwork(
        spec=spec,
        norm=shared.norm,
        in_channels=shared.in_channels,
        output_stride=shared.output_stride,
        width_multiplier=shared.width_multiplier,
    )


register_family(
    BackboneFamily(
        "AUTO_DEEPLAB",
        tuple(AUTO_DEEPLAB_NETWORKS),
        add_config,
        check_config,
        build,
        {"HEAD": True},
    )
)
