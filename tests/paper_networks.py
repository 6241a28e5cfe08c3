"""Networks of which papers state the costs, and what they count where it is not our network."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

from detectron2.config import CfgNode
from network_costs import (
    backbone_config,
    backbone_costs,
    max_deeplab_costs,
    panoptic_deeplab_costs,
)
from paper_counts import (
    Size,
    count_aspp_branches,
    count_axial_deeplab_l,
    count_pixels,
    count_pooling,
    count_resnet50,
    count_stem,
)

from deeplab2_d2.checkpoint.convert import load_config

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_COCO = "COCO-PanopticSegmentation"
_MAX, _PANOPTIC = "arXiv:2012.00759", "arXiv:1911.10194"

_VISTAS_SIZE = (2177, 2177)

Counts = Tuple[int, int]


@dataclass(frozen=True)
class PaperNetwork:
    """
    Attributes:
        name: of the network.
        config: makes it.
        costs: counts it: parameters and multiply-adds for images of a size.
        size: (height, width).
        source: the paper and its table.
        parameters, multiply_adds: the paper's, in millions and in billions; None where it is
            silent.
        worked_out: multiply-adds of the network that the paper counts, from ours, where that is
            another.
    """

    name: str
    config: Callable[[], CfgNode]
    costs: Callable[[CfgNode, Size], Counts]
    size: Size
    source: str
    parameters: Optional[float]
    multiply_adds: float
    worked_out: Optional[Callable[["PaperNetwork"], int]] = None

    def count(self) -> Counts:
        """Ours."""
        return _count(self)


@lru_cache(maxsize=None)
def _count(network: PaperNetwork) -> Counts:
    return network.costs(network.config(), network.size)


def leaf_config(name: str) -> Callable[[], CfgNode]:
    """A config below ``configs/``."""
    return lambda: load_config(str(_CONFIGS / name))


def _max_deeplab(name: str, side: int, *paper: Any, leaf: str) -> PaperNetwork:
    path = f"{_COCO}/{leaf}_os16_poly_100k_bs64_crop_{side}_{side}.yaml"
    table, parameters, multiply_adds = paper
    return PaperNetwork(
        name,
        leaf_config(path),
        max_deeplab_costs,
        (side, side),
        f"{_MAX}, {table}",
        parameters,
        multiply_adds,
    )


def _ablation(words: str, side: int, *paper: Any, leaf: str = "") -> PaperNetwork:
    name = "MaX-DeepLab, Wide-ResNet-41" + (f", {words}" if words else "")
    leaf = f"MaXDeepLab-Ablations/max_deeplab_WR_41{leaf}"
    return _max_deeplab(name, side, *paper, leaf=leaf)


def _panoptic_deeplab(
    backbone: str, size: Size, num_classes: int, **options: Any
) -> Callable[[], CfgNode]:
    def config() -> CfgNode:
        cfg = backbone_config(backbone, **options)
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
        return cfg

    return config


def _axial_deeplab_l() -> CfgNode:
    cfg = backbone_config("axial_deeplab_l")
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 134
    for node in (cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER, cfg.MODEL.DEEPLAB2.INSTANCE_DECODER):
        node.ASPP = "1x1"
    return cfg


def _separable_heads(network: PaperNetwork, channels: int) -> int:
    """Multiply-adds of the heads with separable branches in both of their ASPPs."""
    cfg = network.config()
    count = network.count()[1] - backbone_costs(cfg, network.size)[1]
    saved = count_aspp_branches(channels, is_separable=False)
    saved -= count_aspp_branches(channels, is_separable=True)
    return count - 2 * count_pixels(network.size, 16) * saved


def _work_out_resnet50(network: PaperNetwork) -> int:
    stages = count_resnet50(network.size, has_strides_last=True)
    stem = count_stem(network.size, is_inception=True)
    return stem + stages + _separable_heads(network, 2048) + _means_on_vistas(network, 2048)


def _work_out_mobilenet(network: PaperNetwork) -> int:
    backbone = backbone_costs(network.config(), network.size)[1]
    return backbone + _separable_heads(network, 480) + _means_on_vistas(network, 480)


def _means_on_vistas(network: PaperNetwork, channels: int) -> int:
    """
    Products of one ASPP's mean at stride 16, over windows of a training crop of 1025 x 1025.

    Or of both, if a multiply-add is two of the operations that TensorFlow's profiler counts: it has
    one for each element of a window. Elsewhere the window is the whole map.
    """
    return channels * count_pooling(network.size, 16, 65) if network.size == _VISTAS_SIZE else 0


def _work_out_xception(network: PaperNetwork) -> int:
    return network.count()[1] + _means_on_vistas(network, 2048)


def _work_out_axial_deeplab_l(network: PaperNetwork) -> int:
    heads = network.count()[1] - backbone_costs(network.config(), network.size)[1]
    return heads + count_axial_deeplab_l(network.size[0], has_pooling=True, span=65)


MAX_DEEPLAB: List[PaperNetwork] = [
    _max_deeplab("MaX-DeepLab-S", 1025, "Tab. 2", 61.9, 324, leaf="max_deeplab_S"),
    _max_deeplab("MaX-DeepLab-L", 1025, "Tab. 2", 451, 3692, leaf="max_deeplab_L"),
    _ablation("", 641, "Tab. 4", 196, 746),
    _ablation("axial P2P", 641, "Tab. 4", 277, 881, leaf="_axial"),
    _ablation("", 1025, "Tab. 4", 196, 1885),
    _ablation("axial P2P", 1025, "Tab. 4", 277, 2235, leaf="_axial"),
    _ablation("L = 1", 641, "Tab. 4", 271, 1085, leaf="_L1"),
    _ablation("L = 2", 641, "Tab. 4", 347, 1425, leaf="_L2"),
    _ablation("no P2M", 641, "Tab. 5", 188, 732, leaf="_no_P2M"),
    _ablation("no M2M", 641, "Tab. 5", 196, 746, leaf="_no_M2M"),
    _ablation("no P2M, no M2M", 641, "Tab. 5", 186, 731, leaf="_no_P2M_M2M"),
    _ablation("strides 16 & 8", 641, "Tab. 5", 220, 768, leaf="_transformer_16_8"),
    _ablation("strides 16 & 8 & 4", 641, "Tab. 5", 234, 787, leaf="_transformer_16_8_4"),
]

AXIAL_DEEPLAB_L = PaperNetwork(
    "Axial-DeepLab-L",
    _axial_deeplab_l,
    panoptic_deeplab_costs,
    (1025, 1025),
    f"{_MAX}, Tab. 2",
    44.9,
    344,
    _work_out_axial_deeplab_l,
)

# Panoptic-DeepLab's paper has each on Cityscapes, on COCO and on Mapillary Vistas.
_DATASETS = (((1025, 2049), 19), ((641, 641), 133), (_VISTAS_SIZE, 65))


def _on_each_dataset(
    name: str, backbone: str, billions: Tuple[float, ...], work_out: Any, **options: Any
) -> List[PaperNetwork]:
    return [
        PaperNetwork(
            f"Panoptic-DeepLab, {name}, {num_classes} classes",
            _panoptic_deeplab(backbone, size, num_classes, **options),
            panoptic_deeplab_costs,
            size,
            f"{_PANOPTIC}, Tab. 9",
            None,
            multiply_adds,
            work_out,
        )
        for (size, num_classes), multiply_adds in zip(_DATASETS, billions)
    ]


PANOPTIC_DEEPLAB: List[PaperNetwork] = _on_each_dataset(
    "ResNet-50", "resnet50", (381.39, 77.79, 910.47), _work_out_resnet50
) + _on_each_dataset(
    "MobileNetV3-L, reduced",
    "mobilenet_v3_large",
    (54.17, 12.24, 138.12),
    _work_out_mobilenet,
    MOBILENET_V3__REDUCED_LAST_BLOCK=True,
)


def _separable_panoptic_deeplab(backbone: str, size: Size, num_classes: int) -> CfgNode:
    cfg = _panoptic_deeplab(backbone, size, num_classes)()
    for node in (cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER, cfg.MODEL.DEEPLAB2.INSTANCE_DECODER):
        node.ASPP_CONV_TYPE = "depthwise_separable_conv"
    return cfg


def _xception(number: int, size: Size, num_classes: int, *paper: Any) -> PaperNetwork:
    table, parameters, multiply_adds = paper
    return PaperNetwork(
        f"Panoptic-DeepLab, Xception-{number}, {num_classes} classes",
        partial(_separable_panoptic_deeplab, f"xception_{number}", size, num_classes),
        panoptic_deeplab_costs,
        size,
        f"{_PANOPTIC}, {table}",
        parameters,
        multiply_adds,
        _work_out_xception if size == _VISTAS_SIZE else None,
    )


XCEPTION: List[PaperNetwork] = [
    _xception(71, (1025, 2049), 19, "Tab. 1 and 9", 46.72, 547.49),
    _xception(71, (641, 641), 133, "Tab. 9", None, 109.21),
    _xception(71, (1025, 1025), 133, "Tab. 9", None, 279.25),
    _xception(71, (2177, 2177), 65, "Tab. 5 and 9", 46.73, 1264.32),
    _xception(65, (2177, 2177), 65, "Tab. 5", 44.31, 1054.05),
]
# Panoptic-DeepLab's ablation on Cityscapes, and its comparison of decoders.
ABLATION: List[PaperNetwork] = [
    PaperNetwork(
        f"Panoptic-DeepLab, Xception-71, {words}",
        leaf_config(
            f"Cityscapes-PanopticSegmentation/panoptic_deeplab_X_71_os16_paper_{leaf}.yaml"
        ),
        panoptic_deeplab_costs,
        (1025, 2049),
        f"{_PANOPTIC}, {table}",
        parameters,
        multiply_adds,
    )
    for words, leaf, table, parameters, multiply_adds in (
        (
            "one decoder",
            "ablation_shared_decoder_poly_60k_bs32_crop_513_1025",
            *("Tab. 1", 41.85, 496.84),
        ),
        ("one ASPP", "ablation_shared_aspp_poly_60k_bs32_crop_513_1025", "Tab. 1", 41.93, 501.88),
        ("128 channels", "ablation_C128_poly_60k_bs32_crop_1025_2049", "Tab. 1", 43.37, 517.17),
        (
            "256 instance channels",
            "ablation_ins_256_poly_60k_bs32_crop_1025_2049",
            *("Tab. 1", 46.88, 573.86),
        ),
        ("semantic alone", "semseg_poly_60k_bs32_crop_1025_2049", "Tab. 1", 43.60, 518.84),
        ("v3+'s decoder", "v3plus_decoder_poly_60k_bs32_crop_1025_2049", "Tab. 10", 46.61, 553.41),
    )
]
NETWORKS: List[PaperNetwork] = MAX_DEEPLAB + [AXIAL_DEEPLAB_L] + PANOPTIC_DEEPLAB + XCEPTION
