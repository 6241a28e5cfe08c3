import contextlib

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab2_d2.engine.non_finite import LossCopy
from deeplab2_d2.engine.training_step import TrainingStep


class Regression(nn.Module):
    """A model with Detectron2's contract: a dict of scalar losses, each a mean over the batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, batch):
        inputs = torch.stack([sample["x"] for sample in batch])
        error = self.layers(inputs)[:, 0] - inputs.sum(1)
        return {"loss_square": error.square().mean(), "loss_absolute": error.abs().mean()}


def samples(count):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randn(3, generator=generator), "file_name": f"{k}"} for k in range(count)]


def train(batches, steps, model=None, **kwargs):
    model = model or Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = TrainingStep(model, batches, optimizer, **kwargs)
    with EventStorage() as storage:
        for step.iter in range(steps):
            step.run_step()
            storage.step()
    return model, storage


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def without_dropout():
    model = Regression()
    model.layers[2].p = 0.0
    return model


def test_k_batches_of_b_equal_one_batch_of_k_times_b():
    data = samples(24)
    small = [data[k : k + 2] for k in range(0, 24, 2)]
    large = [data[k : k + 8] for k in range(0, 24, 8)]
    accumulated, _ = train(small, 3, without_dropout(), accumulation_steps=4)
    whole, _ = train(large, 3, without_dropout())
    torch.testing.assert_close(weights(accumulated), weights(whole), rtol=1e-6, atol=1e-7)


def test_logged_losses_are_the_mean_over_the_accumulated_batches():
    data = samples(4)
    model = without_dropout()
    expected = model(data)["loss_square"].item()
    _, storage = train([data[:2], data[2:]], 1, model, accumulation_steps=2)
    assert storage.history("loss_square").latest() == pytest.approx(expected, rel=1e-6)


def test_dropout_depends_on_seed_and_iteration_alone():
    batches = [samples(8)] * 4
    first, _ = train(batches, 4, seed=3)
    torch.rand(100)  # whatever else has drawn random numbers
    second, _ = train(batches, 4, seed=3)
    other, _ = train(batches, 4, seed=4)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_clipping_sees_the_complete_gradient():
    norms = []

    def clip(model):
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3).item())

    data = samples(8)
    model = without_dropout()
    before = weights(model)
    sum(model(data).values()).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    train([data[:4], data[4:]], 1, model, accumulation_steps=2, clip_gradients=clip)
    assert norms == [pytest.approx(gradient.norm().item(), rel=1e-5)]
    assert (weights(model) - before).norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_bfloat16_autocast_runs_the_layers_in_bfloat16_and_the_weights_stay_float32():
    seen = []
    model = without_dropout()
    model.layers[0].register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    train([samples(4)], 1, model, amp_dtype=torch.bfloat16)
    assert seen == [torch.bfloat16]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_a_nan_stops_the_run_before_the_weights_are_touched():
    model = without_dropout()
    before = weights(model)
    batch = samples(2)
    batch[1]["x"][0] = float("nan")
    with pytest.raises(FloatingPointError, match="iteration 0: loss_square, loss_absolute.*0, 1"):
        train([batch], 1, model)
    assert torch.equal(weights(model), before)


class NoWaiting(TorchDispatchMode):
    """Fails where the host asks for a value of a tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name not in ("aten::_local_scalar_dense", "aten::is_nonzero"), func
        return func(*args, **(kwargs or {}))


def test_until_the_optimizer_has_stepped_no_value_is_asked_for(monkeypatch):
    data, model, read = samples(8), without_dropout(), LossCopy.read
    expected, _ = train([data[:4], data[4:]], 1, without_dropout(), accumulation_steps=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainingStep(model, [data[:4], data[4:]], optimizer, accumulation_steps=2)
    step.is_deferred, step.iter = True, 0  # as on a GPU
    watched = contextlib.ExitStack()

    def read_after_the_step(copy):
        watched.close()
        assert torch.equal(weights(model), weights(expected))
        return read(copy)

    monkeypatch.setattr(LossCopy, "read", read_after_the_step)
    with EventStorage() as storage, watched:
        watched.enter_context(NoWaiting())
        step.run_step()
    assert storage.history("loss_square").latest() > 0


def test_a_nan_that_is_seen_late_still_names_its_batch_and_writes_no_metrics(tmp_path):
    batch = samples(2)
    batch[1]["x"][0] = float("nan")
    model = without_dropout()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainingStep(model, [batch], optimizer, dump_dir=str(tmp_path))
    step.is_deferred = True
    with EventStorage() as storage, pytest.raises(FloatingPointError, match="iteration 0.*0, 1"):
        step.iter = 0
        step.run_step()
    assert storage.histories() == {}
    assert (tmp_path / "non_finite_loss_iter0.pth").is_file()


def test_no_accumulation_step_is_refused():
    with pytest.raises(ValueError, match="accumulation_steps must be at least 1, got 0"):
        train([], 0, accumulation_steps=0)
