"""What an option of training changes of a step of the whole trainer, and what it leaves alone."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage

from deeplab2_d2.engine import DeepLab2Trainer, load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
MODELS = {
    "panoptic_deeplab": str(CONFIGS / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"),
    "max_deeplab": str(CONFIGS / "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"),
}
OPTIONS = [
    *("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", 1.0, "DATALOADER.NUM_WORKERS", 0),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0, "DATASETS.TEST", ()),
]

pytestmark = pytest.mark.slow


def step(model, folder, *options):
    """The first step of a training: its losses, gradients, and the weights before and after."""
    options = [*OPTIONS, "OUTPUT_DIR", folder, *options]
    torch.manual_seed(0)
    trainer = DeepLab2Trainer(load_config(MODELS[model], list(map(str, options))))
    network = trainer.checkpointer.model
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # its mask follows the order in memory
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with EventStorage() as storage:
        trainer.iter = trainer._trainer.iter = 0
        trainer._trainer.run_step()
        losses = {
            name: history.latest()
            for name, history in storage.histories().items()
            if name.startswith("loss_")
        }
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return SimpleNamespace(
        losses=losses,
        gradients=gradients,
        before=before,
        after=network.state_dict(),
        trainer=trainer,
    )


@pytest.fixture(scope="module")
def plain_steps(dataset, tmp_path_factory):
    return {model: step(model, tmp_path_factory.mktemp(model)) for model in MODELS}


def norm(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients.values()]).norm().item()


def distance(gradients, expected):
    """Length of the difference, over the expected length."""
    assert gradients.keys() == expected.keys()
    difference = {name: gradients[name] - value for name, value in expected.items()}
    return norm(difference) / norm(expected)


@pytest.mark.parametrize(
    "model, options",
    [
        ("panoptic_deeplab", ("SOLVER.DEEPLAB2.CHANNELS_LAST", True)),
        (
            "max_deeplab",
            (
                "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.CHECKPOINTED_KINDS",
                ["axial", "transformer", "basic"],
            ),
        ),
    ],
    ids=["channels_last", "checkpointed"],
)
def test_what_saves_time_or_memory_gives_the_same_losses_and_gradients(
    plain_steps, tmp_path, model, options
):
    expected, found = plain_steps[model], step(model, tmp_path, *options)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    # float32 sums in another order.
    assert distance(found.gradients, expected.gradients) < 1e-3


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_rounds_what_layers_compute_and_nothing_else(plain_steps, tmp_path, model):
    expected, found = plain_steps[model], step(model, tmp_path, "SOLVER.AMP.ENABLED", True)
    # A rounding is 2^-9 of a value, and losses are means of many.
    assert found.losses != expected.losses
    assert found.losses == pytest.approx(expected.losses, rel=2**-8)
    assert {value.dtype for value in found.gradients.values()} == {torch.float32}
    # Through some twenty layers of one rounding each.
    assert distance(found.gradients, expected.gradients) < 20 * 2**-7


def test_a_step_of_float16_that_overflows_is_left_out_and_the_next_scaled_by_half(
    dataset, tmp_path
):
    options = ["SOLVER.AMP.ENABLED", True, "SOLVER.DEEPLAB2.AMP_DTYPE", "float16"]
    found = step("panoptic_deeplab", tmp_path, *options, "INPUT.CROP.SIZE", "[65, 81]")
    assert norm(found.gradients) == float("inf")
    assert all(torch.equal(found.after[name], found.before[name]) for name in found.gradients)
    # PyTorch's scaler begins with 2^16.
    assert found.trainer._trainer.grad_scaler.get_scale() == 2.0**15


def test_frozen_batch_norms_stay_as_they_are_and_the_rest_learns(dataset, tmp_path):
    found = step("panoptic_deeplab", tmp_path, "MODEL.DEEPLAB2.NORM.NAME", "FrozenBN")
    moved = {k for k, value in found.after.items() if not torch.equal(value, found.before[k])}
    assert moved == set(found.gradients)
    norms = {key for key in found.after if key.endswith("running_var")}
    prefixes = tuple(key[: -len("running_var")] for key in norms)
    assert moved == {key for key in found.after if not key.startswith(prefixes)}


def test_gradients_are_scaled_to_the_length_that_clipping_names(plain_steps, tmp_path):
    options = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.1]
    options += ["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"]
    whole = plain_steps["panoptic_deeplab"].gradients
    assert norm(whole) > 0.2
    scaled = {name: value * (0.1 / norm(whole)) for name, value in whole.items()}
    found = step("panoptic_deeplab", tmp_path, *options)
    assert distance(found.gradients, scaled) < 1e-4


def test_the_first_step_of_radam_follows_the_gradient(dataset, tmp_path):
    options = ["SOLVER.DEEPLAB2.OPTIMIZER", "radam_lookahead", "SOLVER.WEIGHT_DECAY", 0.0]
    found = step("max_deeplab", tmp_path, *options, "SOLVER.BASE_LR", 0.5)
    # RAdam (arXiv:1908.03265), Algorithm 2: not rectified yet, and the mean of one is itself.
    for name, gradient in found.gradients.items():
        expected = found.before[name] - 0.5 * gradient
        torch.testing.assert_close(found.after[name], expected, rtol=1e-6, atol=1e-6)
