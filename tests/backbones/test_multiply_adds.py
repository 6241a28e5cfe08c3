"""Parameters and multiply-adds beside the papers' figures."""

import dataclasses

import network_table
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from network_costs import backbone_config, backbone_costs
from paper_counts import count_axial_deeplab_l, count_resnet50, count_stem
from paper_networks import (
    ABLATION,
    AXIAL_DEEPLAB_L,
    MAX_DEEPLAB,
    NETWORKS,
    PANOPTIC_DEEPLAB,
    XCEPTION,
)
from paper_table5_networks import AUTO_DEEPLAB, HRNET, VISTAS

from deeplab2_d2.backbones import StackedDecoderNetwork, build_backbone_by_name
from deeplab2_d2.layers import Norm

_STREET = (1025, 2049)
# The small network, the one of the ablations, and that without feedback and self-attention.
_QUICK = (0, 2, 10)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(network, marks=() if index in _QUICK else pytest.mark.slow)
        for index, network in enumerate(MAX_DEEPLAB)
    ],
    ids=lambda network: f"{network.name} {network.size[0]}",
)
def test_max_deeplab_has_the_papers_costs(network) -> None:
    parameters, count = network.count()
    assert network.parameters is not None
    assert parameters / 1e6 == pytest.approx(network.parameters, rel=0.01)
    assert count / 1e9 == pytest.approx(network.multiply_adds, rel=0.01)


@pytest.mark.parametrize("network", XCEPTION[:3], ids=lambda network: network.name)
def test_panoptic_deeplab_on_xception_has_the_papers_costs(network) -> None:
    parameters, count = network.count()
    if network.parameters is not None:
        assert parameters / 1e6 == pytest.approx(network.parameters, rel=0.001)
    assert count / 1e9 == pytest.approx(network.multiply_adds, rel=0.01)


@pytest.mark.parametrize("network", XCEPTION[3:], ids=lambda network: network.name)
def test_means_over_windows_bring_xception_on_vistas_to_the_papers_count(network) -> None:
    assert network.worked_out(network) / 1e9 == pytest.approx(network.multiply_adds, rel=0.01)


@pytest.mark.parametrize("network", ABLATION, ids=lambda network: network.name)
def test_the_ablations_share_what_the_papers_do(network) -> None:
    # An ASPP of 128 channels has 1.4 million parameters, a decoder of as many 0.08.
    assert network.count()[0] / 1e6 == pytest.approx(network.parameters, rel=0.002)


def test_the_formulas_of_a_resnet_count_deeplab2s() -> None:
    count = count_stem(_STREET, is_inception=False)
    count += count_resnet50(_STREET, has_strides_last=False)
    assert count == backbone_costs(backbone_config("resnet50"), _STREET)[1]


@pytest.mark.parametrize(
    "network",
    [network for network in PANOPTIC_DEEPLAB if network.size == _STREET],
    ids=lambda network: network.name,
)
def test_panoptic_deeplab_of_the_paper_has_separable_aspp_and_slims_resnet(network) -> None:
    assert network.worked_out(network) / 1e9 == pytest.approx(network.multiply_adds, rel=0.01)


def test_panoptic_deeplabs_second_aspp_has_separable_branches() -> None:
    # arXiv:1911.10194, Tab. 4: the dual ASPP adds 43.37 - 41.93 million parameters. One of 128
    # channels on the 2048 of Xception-71: a 1x1, three separable 3x3, pooling, and the projection.
    weights = 2048 * 128 + 3 * 2048 * (9 + 128) + 2048 * 128 + 5 * 128 * 128
    assert weights / 1e6 == pytest.approx(43.37 - 41.93, rel=0.01)


@pytest.mark.parametrize(
    "network",
    [AUTO_DEEPLAB[0], AUTO_DEEPLAB[2], VISTAS[-1]],
    ids=lambda network: network.name,
)
def test_auto_deeplab_has_the_papers_parameters(network) -> None:
    assert network.count()[0] / 1e6 == pytest.approx(network.parameters, rel=0.01)


def test_means_over_windows_bring_auto_deeplab_plus_near_the_papers_count() -> None:
    network = next(network for network in VISTAS if "Auto-DeepLab-L+" in network.name)
    assert network.worked_out is not None
    assert network.worked_out(network) / 1e9 == pytest.approx(network.multiply_adds, rel=0.01)


def test_hrnets_own_figures_are_without_its_first_stage() -> None:
    assert HRNET.count()[0] / 1e6 == pytest.approx(HRNET.parameters, rel=0.01)
    assert HRNET.worked_out is not None
    assert HRNET.worked_out(HRNET) / 1e9 == pytest.approx(HRNET.multiply_adds, rel=0.01)


def test_axial_deeplab_l_of_the_paper_has_pooling_and_a_local_span() -> None:
    network = AXIAL_DEEPLAB_L
    backbone = backbone_costs(network.config(), network.size)[1]
    assert count_axial_deeplab_l(1025, has_pooling=False, span=10**6) == backbone
    parameters, _ = network.count()
    # Pooling and span have no parameters.
    assert parameters / 1e6 == pytest.approx(network.parameters, rel=0.01)
    assert network.worked_out is not None
    assert network.worked_out(network) / 1e9 == pytest.approx(network.multiply_adds, rel=0.01)


def test_the_table_names_ours_the_papers_and_the_difference() -> None:
    network = dataclasses.replace(
        MAX_DEEPLAB[0], costs=lambda cfg, size: (61_940_000, 330_480_000_000)
    )
    (row,) = network_table.network_rows([network])
    assert row[:7] == [
        *("MaX-DeepLab-S", "1025 x 1025", "61.9 M", "330.5 B", "61.9 M", "324 B", "+2.0 %")
    ]


def test_the_document_has_the_rows_that_are_counted_now() -> None:
    text = network_table.DOCUMENT.read_text(encoding="utf-8")
    rows = network_table.backbone_rows(["mobilenet_v3_small", "max_deeplab_tiny"])
    rows += network_table.network_rows([NETWORKS[0]])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert all(row in cells for row in rows)


@pytest.mark.slow
def test_the_document_is_what_the_command_writes() -> None:
    text = network_table.DOCUMENT.read_text(encoding="utf-8")
    assert network_table.render(text) == text


@pytest.mark.parametrize("name", ["resnet_tiny", "max_deeplab_tiny", "mobilenet_v3_small"])
def test_fvcore_counts_the_same_convolutions_and_matrix_products(name: str) -> None:
    backbone = build_backbone_by_name(name, norm=Norm("BN"), output_stride=16).eval()
    if isinstance(backbone, StackedDecoderNetwork):
        # The trace leaves out what is not returned.
        backbone.return_memory()
    analysis = FlopCountAnalysis(backbone, torch.zeros(1, 3, 65, 97))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    products = ("conv", "matmul", "bmm", "einsum", "addmm", "linear")
    found = sum(count for operator, count in analysis.by_operator().items() if operator in products)
    expected = backbone_costs(backbone_config(name), (65, 97))[1]
    assert found == pytest.approx(expected, rel=1e-3)
