"""``python -m deeplab2_d2.export``: what it writes, and what it refuses with one sentence."""

import importlib.util
import json
from pathlib import Path
from typing import Any, List

import exported_models
import numpy as np
import pytest
from PIL import Image

from deeplab2_d2 import export
from deeplab2_d2.engine import ConfigError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CONFIGS = exported_models.CONFIGS
V3PLUS = str(CONFIGS / exported_models.NARROW["DeepLab v3+"])
OANET = str(
    CONFIGS / "ShapesLayers-PanopticSegmentation/oanet_tiny_os32_poly_bs4_short_192_long_256.yaml"
)


def run(config: str, output: Path, *arguments: str, kind: str = "onnx") -> None:
    words = ["--config-file", config, "--format", kind, "--output", str(output)]
    export.main(export.parse_arguments([*words, "--allow-random-weights", *arguments]))


def test_it_writes_a_file_that_was_compared_and_its_description(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "new" / "model.onnx"
    run(V3PLUS, output, "--with-postprocessing", "INPUT.FORMAT", "BGR")
    about = json.loads((tmp_path / "new" / "model.json").read_text())
    assert list(about["outputs"]) == ["semantic_map"] and len(about["classes"]) == 7
    assert about["label_divisor"] == 1000 and "FORMAT: BGR" in about["config"]
    proto = onnx.load(output)
    assert json.loads({p.key: p.value for p in proto.metadata_props}["deeplab2_d2.json"]) == about
    printed = capsys.readouterr().out
    assert printed.count("compared with the model") == 3 and "MB" in printed
    assert sorted(path.name for path in output.parent.iterdir()) == ["model.json", "model.onnx"]


def test_eight_bits_are_smaller_and_compared_on_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    for index in range(3):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        (tmp_path / "images").mkdir(exist_ok=True)
        coarse.resize((80, 60)).save(tmp_path / "images" / f"{index}.png")
    output = tmp_path / "model.onnx"
    int8 = ["--int8", "--calibration", str(tmp_path / "images"), "--calibration-images", "2"]
    run(V3PLUS, output, *int8, "--with-postprocessing")
    weights = {init.name: init.data_type for init in onnx.load(output).graph.initializer}
    assert onnx.TensorProto.INT8 in weights.values()
    printed = capsys.readouterr().out
    assert "of labels equal on 1 images" in printed
    sizes = printed.split("int8: ")[1].split(" MB (float32 ")
    assert float(sizes[0]) < 0.6 * float(sizes[1].split(")")[0])


@pytest.mark.parametrize(
    "config, output, arguments, message",
    [
        (V3PLUS, "model.pt", [], r"--output must end in \.onnx for --format onnx"),
        (V3PLUS, "model.onnx", ["--int8"], "--int8 must be with --format onnx and --calibration"),
        (
            V3PLUS,
            "model.onnx",
            ["--with-postprocessing", "MODEL.DEEPLAB2.CRF.ENABLED", "True"],
            "MODEL.DEEPLAB2.CRF must be off to export post-processing",
        ),
        (
            str(CONFIGS / exported_models.NARROW["Panoptic-DeepLab"]),
            "model.onnx",
            ["--with-postprocessing", "MODEL.DEEPLAB2.POSTPROCESSING.TOP_K_CENTERS", "0"],
            "TOP_K_CENTERS must be at least 1 to export post-processing, got 0",
        ),
        (
            V3PLUS,
            "model.onnx",
            [
                *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
                *("MODEL.SEM_SEG_HEAD.NAME", "DeepLab2DeepLabV3PlusHead"),
            ],
            "META_ARCHITECTURE must be one of this package's .* exported, got 'Semantic",
        ),
        (OANET, "model.onnx", [], "gives maps, not boxes, to be exported, got 'DeepLab2OANet'"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_one_sentence(
    config: str, output: str, arguments: List[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(config, tmp_path / output, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    absent: Any = lambda name, *rest: None if name == "onnx" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(ImportError, match=r"package onnx, .* run `pip install onnx onnxruntime`"):
        run(V3PLUS, tmp_path / "model.onnx")


def test_a_file_that_does_not_run_for_another_size_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network that remembers the size of its example, as one with `int(features.shape[2])` does.
    def forward(self: Any, image: Any) -> Any:
        return (image.reshape(2, 3, int(image.shape[2]), int(image.shape[3])),)

    monkeypatch.setattr("deeplab2_d2.engine.exporting.ImageModel.forward", forward)
    with pytest.raises(ConfigError, match="exported file does not run and was not written: images"):
        run(V3PLUS, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
