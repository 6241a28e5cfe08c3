import pytest
import torch
from torch import nn

from deeplab2_d2.engine.non_finite import stop_on_non_finite

BATCH = [{"file_name": "street.png", "image": torch.zeros(3, 2, 2)}]


def test_finite_losses_pass():
    stop_on_non_finite({"a": torch.tensor(1.0)}, BATCH, nn.Linear(1, 1), 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_loss_names_iteration_term_and_files_and_dumps_the_batch(value, tmp_path):
    model = nn.Linear(2, 1)
    losses = {"loss_semantic": torch.tensor(1.0), "loss_center": torch.tensor(value)}
    with pytest.raises(FloatingPointError, match=r"iteration 7: loss_center of.*street\.png"):
        stop_on_non_finite(losses, BATCH, model, 7, str(tmp_path))
    dump = torch.load(tmp_path / "non_finite_loss_iter7.pth")
    assert dump["iteration"] == 7
    assert dump["batch"][0]["file_name"] == "street.png"
    assert torch.equal(dump["model"]["weight"], model.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["non_finite_loss_iter7.pth"]
