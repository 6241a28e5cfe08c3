"""Panoptic-DeepLab's ensemble of six models (arXiv:1911.10194, Tab. 5), narrow, by --ensemble."""

from pathlib import Path

import pytest
import torch

from deeplab2_d2.engine import load_config
from deeplab2_d2.engine.testing import load_model, load_test_model
from deeplab2_d2.models import average_views
from deeplab2_d2.models.averaging import scale_grid

_CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "MapillaryVistas-PanopticSegmentation"
# Those with the best PQ of the table, in its order.
_MEMBERS = (
    "HRNet_W48_plus_os32",
    "HRNet_W48_plus_atrous_os16",
    "X_71_os16",
    "AutoDeepLab_XL_plus_os16",
    "AutoDeepLab_XL_plus_plus_os16",
    "HRNet_Wider_plus_os32",
)
_NARROW = """
MODEL:
  DEVICE: cpu
  WEIGHTS: ""
  DEEPLAB2:
    BACKBONE: {WIDTH_MULTIPLIER: 0.0625}
    SEMANTIC_DECODER: {CHANNELS: 8, ASPP_CHANNELS: 8}
    INSTANCE_DECODER: {CHANNELS: 8, ASPP_CHANNELS: 8}
    SEMANTIC_HEAD: {CHANNELS: 8}
TEST: {DEEPLAB2: {PAD_TO: [0, 0]}}
"""


def _member(folder: Path, name: str) -> str:
    """CONFIG=WEIGHTS of a narrow model with weights of its own."""
    leaf = _CONFIGS / f"panoptic_deeplab_{name}_poly_150k_bs64_crop_1025_1025.yaml"
    config, weights = folder / f"{name}.yaml", folder / f"{name}.pth"
    config.write_text(f"_BASE_: {leaf}\n{_NARROW}")
    torch.manual_seed(_MEMBERS.index(name))
    model = load_model(load_config(str(config), []), allow_random_weights=True)
    torch.save({"model": model.state_dict()}, weights)
    return f"{config}={weights}"


@pytest.mark.slow
def test_the_papers_six_models_are_averaged_over_scales_and_flips(tmp_path: Path) -> None:
    first, *others = (_member(tmp_path, name) for name in _MEMBERS)
    config, _, weights = first.partition("=")
    options = ["MODEL.WEIGHTS", weights, "TEST.AUG.ENABLED", "True", "TEST.AUG.FLIP", "True"]
    cfg = load_config(config, [*options, "TEST.DEEPLAB2.SCALES", "[0.5, 1.0]"])
    ensemble = load_test_model(cfg, ensemble=others)
    models = [ensemble.first, *ensemble.others]
    assert [model.output_stride for model in models] == [32, 16, 16, 16, 16, 32]
    image = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        (output,) = ensemble([{"image": image}])
        # Padded to 1 + multiples of 32; each model and view counts the same.
        batch = models[0].batch([{"image": image}])
        assert batch.tensor.shape[-2:] == (65, 97) and scale_grid((65, 97), 0.5) == (33, 49)
        alone = [
            average_views([model], batch.tensor, scales=[0.5, 1.0], flip=True) for model in models
        ]
    mean = torch.stack([one.probabilities["semantic_logits"] for one in alone]).mean(0)
    found = output["sem_seg"].softmax(0)
    torch.testing.assert_close(found, mean[0, :, :60, :90], rtol=1e-3, atol=1e-5)
    assert output["panoptic_seg"][0].shape == (60, 90)
