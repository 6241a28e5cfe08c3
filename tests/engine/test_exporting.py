"""Exported files give what the model gives, for batches and sizes that they were not made with."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Sequence, Set, Tuple

import exported_models
import numpy as np
import pytest
import torch

from deeplab2_d2.engine import ConfigError
from deeplab2_d2.engine.exporting import ImageModel, formats
from deeplab2_d2.engine.exporting.comparison import expected_outputs, run_file, smooth_images
from deeplab2_d2.engine.exporting.writing import example_images
from deeplab2_d2.layers import fused_convolution

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# On the network's grid and off it, smaller and larger than the example that is traced.
SHAPES = ((2, 3, 81, 113), (1, 3, 55, 176), (2, 3, 160, 40))
# Both round to float32, each in its order: as far from float64 as PyTorch, or a few times it.
TIMES_AS_FAR = 6.0


@pytest.fixture(autouse=True)
def direct_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Graphs sum 3x3 convolutions directly. So does the model here, so that rounding differs least:
    random clusters and masks hang on near ties, of which one may decide a whole mask.
    """
    monkeypatch.setattr(fused_convolution, "_LEAST_WINOGRAD_CHANNELS", 2**31)


@pytest.fixture(scope="module")
def models() -> Dict[str, Any]:
    return {}


def lively(models: Dict[str, Any], name: str) -> Any:
    if name not in models:
        models[name] = exported_models.narrow_model(name)
    return models[name]


def write(model: Any, path: Path, kind: str, with_postprocessing: bool) -> ImageModel:
    exported = ImageModel(model, is_bgr=False, with_postprocessing=with_postprocessing).eval()
    formats.FORMATS[kind].writer(str(path), exported, example_images(exported), '{"a": 1}')
    return exported


def images_of(shape: Tuple[int, ...]) -> torch.Tensor:
    return smooth_images(shape, torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("name", exported_models.NARROW)
def test_onnx_gives_the_maps_and_but_for_near_ties_the_labels(
    name: str, models: Dict[str, Any], tmp_path: Path
) -> None:
    model = lively(models, name)
    network = write(model, tmp_path / "network.onnx", "onnx", False)
    precise = copy.deepcopy(network).double()
    labelling = write(model, tmp_path / "labels.onnx", "onnx", True)
    run_network = run_file(str(tmp_path / "network.onnx"), "onnx")
    run_labelling = run_file(str(tmp_path / "labels.onnx"), "onnx")
    kinds: Dict[str, Set[int]] = {key: set() for key in labelling.names}
    for shape in SHAPES:
        images = images_of(shape)
        with torch.no_grad():
            maps = dict(zip(network.names, network(images)))
            exact = dict(zip(network.names, precise(images.double())))
        raw = dict(zip(network.names, run_network(images)))
        for key, found in raw.items():
            assert found.shape == maps[key].shape
            rounding = float((maps[key] - exact[key]).abs().max())
            assert (found - exact[key]).abs().max() <= TIMES_AS_FAR * rounding
        is_near = exported_models.near_ties(network, maps, raw, shape[2:])
        expected = expected_outputs(labelling, images)
        for key, eager, found in zip(labelling.names, expected, run_labelling(images)):
            assert found.dtype == eager.dtype and found.shape == eager.shape
            kinds[key].update(eager.unique().tolist())
            assert not (found != eager)[~is_near].any()
            assert int((found != eager).sum()) <= 0.001 * found.numel()
    assert all(len(labels) > 1 for labels in kinds.values()), "labels that prove something"


def test_labels_are_those_of_detectron2s_outputs(models: Dict[str, Any]) -> None:
    # As a user calls the model, against the graph.
    for name, output in (("Panoptic-DeepLab", "panoptic_seg"), ("DeepLab v3+", "sem_seg")):
        model = lively(models, name)
        labelling = ImageModel(model, is_bgr=False, with_postprocessing=True)
        images = images_of((2, 3, 90, 75))
        with torch.no_grad():
            found = dict(zip(labelling.names, labelling(images)))
            outputs = model([{"image": image, "height": 90, "width": 75} for image in images])
            for index, one in enumerate(each[output] for each in outputs):
                if output == "panoptic_seg":
                    assert torch.equal(found["panoptic_map"][index], one[0] - 1)
                else:
                    assert torch.equal(found["semantic_map"][index], one.argmax(0).int())


def test_a_file_takes_rgb_whatever_the_networks_order_is(models: Dict[str, Any]) -> None:
    model = lively(models, "DeepLab v3+")
    images = images_of((1, 3, 33, 49))
    rgb, bgr = (ImageModel(model, is_bgr=b, with_postprocessing=False) for b in (False, True))
    with torch.no_grad():
        assert torch.equal(bgr(images)[0], rgb(images.flip(1))[0])


def test_an_onnx_file_has_standard_operators_and_says_what_it_is(
    models: Dict[str, Any], tmp_path: Path
) -> None:
    write(lively(models, "DeepLab v3+"), tmp_path / "x.onnx", "onnx", True)
    proto = onnx.load(tmp_path / "x.onnx")
    assert {opset.domain for opset in proto.opset_import} <= {"", "ai.onnx"}
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert json.loads({p.key: p.value for p in proto.metadata_props}["deeplab2_d2.json"]) == {
        "a": 1
    }
    dims = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]
    with pytest.raises(ConfigError, match="standard operators alone"):
        proto.opset_import.append(onnx.helper.make_opsetid("own", 1))
        proto.graph.node[0].domain = "own"
        formats.check_operators(proto)


_FRESH = """
import sys, numpy, torch
module = torch.jit.load(sys.argv[1]) if sys.argv[1].endswith(".pt") else \
    torch.export.load(sys.argv[1]).module()
with torch.no_grad():
    outputs = module(torch.from_numpy(numpy.load(sys.argv[2])))
numpy.savez(sys.argv[3], *(output.numpy() for output in outputs))
assert not [name for name in sys.modules if name.startswith(("deeplab2_d2", "detectron2"))]
"""


def test_torchscript_runs_in_a_process_without_this_package(
    models: Dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    exported = write(lively(models, "Panoptic-DeepLab"), path, "torchscript", True)
    images = images_of((2, 3, 70, 131))
    np.save(tmp_path / "in.npy", images.numpy())
    files = [str(path), str(tmp_path / "in.npy"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", _FRESH, *files], check=True, timeout=300)
    expected = expected_outputs(exported, images)[0]
    assert np.array_equal(np.load(tmp_path / "out.npz")["arr_0"], expected.numpy())


def run_apart(path: Path, images: torch.Tensor, names: Sequence[str]) -> Dict[str, torch.Tensor]:
    """What an exported file gives in a process without this package, by name."""
    files = [str(path), str(path.with_suffix(".npy")), str(path.with_suffix(".npz"))]
    np.save(files[1], images.numpy())
    subprocess.run([sys.executable, "-c", _FRESH, *files], check=True, timeout=600)
    arrays = np.load(files[2])
    return {name: torch.from_numpy(arrays[f"arr_{i}"]) for i, name in enumerate(names)}


# Of kMaX-DeepLab the maps alone: to trace it takes a minute, and ONNX has its labels.
@pytest.mark.slow
@pytest.mark.parametrize("name, has_labels", [("DeepLab v3+", True), ("kMaX-DeepLab", False)])
def test_an_archive_of_torch_export_runs_in_a_process_without_this_package(
    name: str, has_labels: bool, models: Dict[str, Any], tmp_path: Path
) -> None:
    # On the grid: sizes that a tracer could take for special ones.
    images = images_of((3, 3, 65, 97))
    network = write(lively(models, name), tmp_path / "n.pt2", "torch", False)
    raw = run_apart(tmp_path / "n.pt2", images, network.names)
    with torch.no_grad():
        maps = dict(zip(network.names, network(images)))
        exact = dict(zip(network.names, copy.deepcopy(network).double()(images.double())))
    for key, found in raw.items():
        rounding = float((maps[key] - exact[key]).abs().max())
        assert (found - exact[key]).abs().max() <= TIMES_AS_FAR * rounding
    if not has_labels:
        return
    labelling = write(lively(models, name), tmp_path / "l.pt2", "torch", True)
    labels = run_apart(tmp_path / "l.pt2", images, labelling.names)
    is_near = exported_models.near_ties(network, maps, raw, images.shape[2:])
    for key, eager in zip(labelling.names, expected_outputs(labelling, images)):
        assert not (labels[key] != eager)[~is_near].any()
        assert int((labels[key] != eager).sum()) <= 0.001 * eager.numel()
