"""The examples of docs/export.md run as they stand there."""

import json
import re
import subprocess
from pathlib import Path

import exported_models
import numpy as np
import pytest
import torch
from PIL import Image

from deeplab2_d2.engine.exporting import ImageModel, formats
from deeplab2_d2.engine.exporting.comparison import smooth_images
from deeplab2_d2.engine.exporting.writing import example_images

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZE = (70, 131)


def write_model_and_image(folder: Path, name: str) -> torch.Tensor:
    """``name`` and ``street.png`` in a folder; returns the labels that the model gives."""
    model = exported_models.lively_model(exported_models.NARROW["Panoptic-DeepLab"])
    exported = ImageModel(model, is_bgr=False, with_postprocessing=True).eval()
    kind = "onnx" if name.endswith(".onnx") else "torchscript"
    about = json.dumps({"void_label": -1, "label_divisor": 1000, "classes": list("abcdefg")})
    formats.FORMATS[kind].writer(str(folder / name), exported, example_images(exported), about)
    image = smooth_images((1, 3, *SIZE), torch.Generator().manual_seed(0)).round()
    picture = Image.fromarray(image[0].permute(1, 2, 0).to(torch.uint8).numpy())
    picture.save(folder / "street.png")
    picture.save(folder / "street.ppm")
    with torch.no_grad():
        return exported.panoptic_labels(image)[0]


def test_the_example_for_onnx_runtime_prints_the_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    labels = write_model_and_image(tmp_path, "model.onnx")
    monkeypatch.chdir(tmp_path)
    section = (DOCS / "export.md").read_text().split("## Python: ONNX Runtime")[1]
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], {})
    printed = {tuple(line.split()) for line in capsys.readouterr().out.splitlines()}
    values, areas = labels.unique(return_counts=True)
    expected = {
        ("abcdefg"[label // 1000], str(label % 1000), str(area))
        for label, area in zip(values.tolist(), areas.tolist())
        if label >= 0
    }
    assert printed == expected and len(expected) > 3


@pytest.mark.slow
def test_the_example_in_cpp_compiles_and_writes_the_labels(tmp_path: Path) -> None:
    labels = write_model_and_image(tmp_path, "model.pt")
    torch_folder = Path(torch.__file__).parent
    includes = [torch_folder / "include", torch_folder / "include/torch/csrc/api/include"]
    program = tmp_path / "segment"
    subprocess.run(
        [
            *("g++", "-std=c++17", str(DOCS / "export_cpp/segment.cpp"), "-o", str(program)),
            *(f"-I{folder}" for folder in includes),
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
            *(f"-L{torch_folder}/lib", "-ltorch", "-ltorch_cpu", "-lc10"),
            f"-Wl,-rpath,{torch_folder}/lib",
        ],
        check=True,
        timeout=900,
    )
    files = [str(tmp_path / name) for name in ("model.pt", "street.ppm", "labels.bin")]
    subprocess.run([str(program), *files], check=True, timeout=300)
    found = np.fromfile(files[2], dtype=np.int32).reshape(SIZE)
    assert np.array_equal(found, labels.numpy())
