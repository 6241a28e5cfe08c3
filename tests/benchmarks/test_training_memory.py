"""The count of a training step's memory."""

from pathlib import Path

import memory_table
import pytest
import torch
from training_memory import TrainingStep, count_training_memory, make_samples

from deeplab2_d2.checkpoint.convert import load_config
from deeplab2_d2.engine.live_memory import LiveMemory

_CONFIGS = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
_MODELS = {
    "MaX": "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml",
    "kMaX": "kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml",
}
_SIZE = (129, 161)
_KINDS = ["basic", "bottleneck", "axial", "transformer"]


def test_a_storage_counts_once_and_as_long_as_it_is_alive():
    with LiveMemory() as memory:
        first = torch.zeros(10)  # 40 bytes
        view = first.view(2, 5)
        second = first + 1  # 40 more
        assert (memory.current, memory.peak) == (80, 80)
        del second
        assert (memory.current, memory.peak) == (40, 80)
        del first
        assert memory.current == 40  # the view keeps it
        memory.restart()
        assert memory.peak == 40
        del view
        assert memory.current == 0


def _config(model, *options):
    cfg = load_config(str(_CONFIGS / _MODELS[model]))
    cfg.merge_from_list(list(options))
    return cfg


def _count_both_ways(cfg):
    """Peaks, without data and of a real step."""
    count = count_training_memory(cfg, _SIZE, 2)
    with LiveMemory() as memory:
        step = TrainingStep(cfg, make_samples(cfg, _SIZE, 2))
        assert count.state == memory.current
        memory.restart()
        step()
    return count.peak, memory.peak


@pytest.mark.slow
@pytest.mark.parametrize("model", _MODELS)
def test_the_count_without_data_is_that_of_a_real_step_and_sees_what_saves_memory(model):
    options = [
        "SOLVER.AMP.ENABLED",
        True,
        "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.CHECKPOINTED_KINDS",
        _KINDS,
    ]
    plain, real = _count_both_ways(_config(model))
    lean, lean_real = _count_both_ways(_config(model, *options))
    # The results of the matching alone differ, which has none without data.
    assert plain == pytest.approx(real, rel=0.005)
    assert lean == pytest.approx(lean_real, rel=0.005)
    assert plain > 1.1 * lean


def test_modes_of_the_table_are_configs_that_train():
    for mode in memory_table.MODES:
        cfg = memory_table.table_config("max_deeplab_S_os16_poly_100k_bs64_crop_641_641", mode)
        assert cfg.SOLVER.AMP.ENABLED == ("bfloat16" in mode)
        kinds = cfg.MODEL.DEEPLAB2.BACKBONE.RESIDUAL.CHECKPOINTED_KINDS
        assert kinds == (_KINDS if "checkpointed" in mode else None)


def test_rows_of_one_network_are_written_and_the_others_stay():
    page = memory_table.DOCUMENT.read_text(encoding="utf-8")
    row = ["MaX-DeepLab-L", "1 x 1", "float32", "1 GiB", "2 GiB", "3 GiB", "4 GiB"]
    written = memory_table.replace_rows(page, [row])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines()]
    assert [cells for cells in lines if cells[0] == "MaX-DeepLab-L"] == [row]
    others = [cells for cells in lines if cells[0] == "MaX-DeepLab-S"]
    assert len(others) == 6 and ["MaX-DeepLab-S", "641 x 641", "bfloat16"] in [
        o[:3] for o in others
    ]
    # Written again, the page is what it was, but for the width of columns.
    assert memory_table.replace_rows(written, [row]) == written
