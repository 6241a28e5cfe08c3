import pytest
import torch
from torch import nn

from deeplab2_d2.engine.ema import WeightAverage


def model_with_weight(value):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(model[0].weight, value)
    return model


def test_average_follows_the_formula_and_buffers_are_the_newest():
    model = model_with_weight(1.0)
    average = WeightAverage(model, decay=0.75)
    nn.init.constant_(model[0].weight, 5.0)
    model[1].running_mean.fill_(3.0)
    average.update()
    assert average.state_dict()["0.weight"].item() == 0.75 * 1.0 + 0.25 * 5.0
    assert average.state_dict()["1.running_mean"].item() == 3.0
    average.update()
    assert average.state_dict()["0.weight"].item() == 0.75 * 2.0 + 0.25 * 5.0


def test_swapped_in_evaluates_the_average_and_gives_the_weights_back_after_an_error():
    model = model_with_weight(1.0)
    average = WeightAverage(model, decay=0.5)
    nn.init.constant_(model[0].weight, 3.0)
    average.update()
    with pytest.raises(RuntimeError, match="stop"), average.swapped_in():
        assert model[0].weight.item() == 2.0
        raise RuntimeError("stop")
    assert model[0].weight.item() == 3.0


def test_state_of_another_model_is_refused():
    average = WeightAverage(model_with_weight(1.0), decay=0.5)
    with pytest.raises(KeyError, match="do not fit.*extra"):
        average.load_state_dict({**average.state_dict(), "extra": torch.zeros(1)})


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_a_decay_outside_of_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match=rf"decay must be in \(0, 1\), got {decay}"):
        WeightAverage(model_with_weight(1.0), decay)
