"""The Python of README.md and of docs/python.md runs as it stands, in a folder with a photo."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from released_format import write_released

from deeplab2_d2 import load_model
from deeplab2_d2.checkpoint import find_row
from deeplab2_d2.engine.checkpointing import build_checkpointer

ROOT = Path(__file__).resolve().parents[2]
NAME = "panoptic_deeplab/resnet50_os32_cityscapes"
SHAPES = ROOT / "configs/Shapes-PanopticSegmentation"
SHAPES = SHAPES / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"


def snippets(page):
    """The blocks of Python on a page that are about load_model."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [block for block in blocks if "load_model" in block or "model(" in block]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A cache with the published model as its archive has it; its values are made up."""
    cache = tmp_path_factory.mktemp("cache")
    torch.manual_seed(0)
    model = load_model(NAME, random_weights=True, device="cpu")
    state = model.network.state_dict()
    # So that all of the picture is road.
    state["head.semantic_head.final_conv.bias"][0] += 100.0
    write_released(cache / "deeplab2" / find_row(NAME).name, state)
    return cache


@pytest.fixture
def workplace(released, tmp_path, monkeypatch):
    """A folder with a photo and a training, and no network."""
    monkeypatch.setenv("FVCORE_CACHE", str(released))
    monkeypatch.setattr("deeplab2_d2.checkpoint.zoo_cache.download", None)
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (97, 129, 3), np.uint8)
    Image.fromarray(noise).save("street.jpg")
    return tmp_path


def test_the_readmes_snippets_run_on_a_checkpoint_of_the_released_format(workplace, capsys):
    for snippet in {*snippets("README.md"), snippets("docs/python.md")[0]}:
        names = {}
        exec(snippet, names)
        result = names["result"]
        assert [segment.name for segment in result.segments] == ["road"]
        assert result.segments[0].area == 97 * 129 and (result.panoptic == 1).all()
    assert "road" in capsys.readouterr().out
    assert Image.open("overlay.png").size == (129, 97)


def test_the_pages_other_snippets_run_one_after_the_other(workplace):
    torch.manual_seed(0)
    opts = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", 1.0, "OUTPUT_DIR", "output"]
    trained = load_model(SHAPES, opts=opts, random_weights=True)
    build_checkpointer(trained.cfg, trained.network).save("model_final", iteration=9)
    names = {"load_model": load_model}
    for snippet in snippets("docs/python.md")[1:]:
        exec(snippet, names)
    assert len(names["results"]) == 3 and names["model"].cfg.MODEL.WEIGHTS.startswith("output/")
    assert sorted(path.name for path in Path("predictions").iterdir()) == [
        *("street_overlay.png", "street_panoptic.json", "street_panoptic.png")
    ]
