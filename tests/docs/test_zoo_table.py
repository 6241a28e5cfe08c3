"""docs/zoo.md: every published model once, with its scores and its costs."""

import pytest
import zoo_table
from zoo_table import TABLES, CostFile, count_costs, published_score, render

from deeplab2_d2.checkpoint.zoo_table import find_row, zoo_rows


def test_the_page_is_what_the_command_writes():
    page = zoo_table.DOCUMENT.read_text(encoding="utf-8")
    assert render(page, CostFile()) == page, "run python tests/zoo_table.py"


def test_every_row_stands_in_one_table_and_every_model_has_costs():
    costs = CostFile().models
    for row in zoo_rows():
        assert sum(table.has(row) for table in TABLES) == 1, row.name
    assert set(costs) == {row.name for row in zoo_rows() if row.config}


# One of each kind of network, the smallest: the others take a minute.
@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small_os16_panoptic_deeplab_cityscapes_dwo",
        "max_deeplab_s_os16_res641_100k_coco_train",
        "kmax_resnet50_res641_ade20k_train",
        "resnet50_os32_motion_deeplab_kitti_train",
        "xception65_coco_voc_trainaug",
    ],
)
def test_costs_are_counted_as_they_are_kept(name):
    kept = CostFile().models[name]
    assert count_costs(find_row(name)) == kept._replace(seconds=None)


def test_costs_are_the_papers():
    # arXiv:2012.00759, Tab. 2: MaX-DeepLab-S has 61.9 M parameters and 324 B M-Adds at 1025 x 1025.
    small = CostFile().models["max_deeplab_s_os16_res1025_100k_coco_train"]
    assert round(small.parameters / 1e6, 1) == 61.9
    assert small.multiply_adds / 1e9 == pytest.approx(324, rel=0.01)


def test_the_official_score_goes_before_deeplab2s_own():
    row = find_row("resnet50_os32_panoptic_deeplab_cityscapes_trainfine")
    # official: PQ 59.8, mIoU 76.0; DeepLab2's own: PQ 60.24, mIoU 76.36, AP 30.01.
    scores = [published_score(row, name) for name in ("PQ", "mIoU", "AP", "STQ")]
    assert scores == ["59.8", "76.0", "30.01\\*", ""]
