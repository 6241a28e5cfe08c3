import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_writer import write_checkpoint
from networks import build_network
from parity import rule

from deeplab2_d2.checkpoint import (
    compare_deeplab2_shapes,
    config_from_options,
    load_deeplab2_weights,
)
from deeplab2_d2.checkpoint.convert import convert
from deeplab2_d2.checkpoint.deeplab2_checkpoint import DeepLab2Checkpoint
from deeplab2_d2.checkpoint.weights_file import read_weights
from deeplab2_d2.checkpoint.zoo import get_model

PARITY = Path(__file__).parents[2] / ".." / "shared" / "parity"
needs_manifest = pytest.mark.skipif(
    not PARITY.is_dir(), reason=f"no manifest of the released configurations at {PARITY}"
)

# Written by TensorFlow, and what TensorFlow computes with it.
DATA = Path(__file__).parents[1] / "parity" / "data"
CHECKPOINT = DATA / "checkpoint" / "mobilenet_v3_small_narrow"
CASE = "panoptic_mobilenet_v3_small_narrow"


def manifest():
    if not PARITY.is_dir():
        return []
    with gzip.open(PARITY / "manifest.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


@needs_manifest
@pytest.mark.parametrize("row", manifest(), ids=lambda row: row["config"])
def test_the_map_covers_every_key_of_a_released_configuration(row):
    cfg = config_from_options(row["options"])
    if row["config"] == "example/example_coco_kmax_meta_convnext.textproto":
        # It names no dataset; these variables are of one of Cityscapes' kind, with COCO's classes.
        node = cfg.MODEL.DEEPLAB2.KMAX_DEEPLAB
        node.MASK_STRIDE, node.NUM_CENTERS, node.AUXILIARY_DECODER = 2, 256, False
    network = build_network(cfg)
    variables = {key: tuple(shape) for key, shape in row["variables"]}
    report = compare_deeplab2_shapes(variables, network)
    assert report.is_complete, report.table(20)
    assert len(report.used) == len(variables)


def parity_case():
    folder = DATA / "networks" / CASE
    case = json.loads((folder / "case.json").read_text())
    images = rule.normalized_input(CASE, case["input"]["shape"])
    return case["config"], torch.from_numpy(images).permute(0, 3, 1, 2), folder / "outputs.npz"


def assert_outputs_equal(prediction, path):
    reference = np.load(path)
    for key, tensor in (
        ("raw/semantic_logits", prediction["semantic_logits"]),
        ("raw/center_heatmap", prediction["center_heatmap"]),
        ("raw/offset_map", prediction["center_offsets"]),
    ):
        expected = reference[key]
        actual = tensor.permute(0, 2, 3, 1).numpy().reshape(expected.shape)
        scale = max(expected.std(), 1e-3 * np.abs(expected).max(), 1e-6)
        error = np.abs(actual - expected).max() / scale
        print(f"{CASE} {key}: {error:.2e}")
        # The reference's own noise is up to 4e-5; beyond 1e-4 its README says to look into it.
        assert error < 1e-4, key


def test_tensorflows_checkpoint_gives_tensorflows_outputs():
    config, images, outputs = parity_case()
    network = build_network(config_from_options(config), "cpu")
    report = load_deeplab2_weights(network, DeepLab2Checkpoint(CHECKPOINT))
    assert report.is_complete and len(report.used) == 362
    with torch.no_grad():
        assert_outputs_equal(network(images), outputs)


def test_the_converted_file_gives_tensorflows_outputs(tmp_path):
    config, images, outputs = parity_case()
    network = build_network(config_from_options(config), "cpu")
    target = str(tmp_path / "mobilenet.pth")
    convert(str(CHECKPOINT), target, model=network)
    missing, unexpected = network.load_state_dict(read_weights(target)[0], strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        assert_outputs_equal(network(images), outputs)


@needs_manifest
@pytest.mark.slow
def test_a_published_model_comes_with_its_weights_and_predicts(tmp_path, monkeypatch):
    # What a download leaves behind, in the real format, with made-up values.
    name = "mobilenet_v3_small_os16_panoptic_deeplab_cityscapes_dwo"
    row = next(r for r in manifest() if r["config"].endswith("mobilenet_v3_small_os16.textproto"))
    variables = {k: np.full(s, 0.01, np.float32) for k, s in row["variables"]}
    variables["semantic_last_layer/bias"][7] = 5.0
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    write_checkpoint(tmp_path / "deeplab2" / name, variables, "ckpt-60000")
    model = get_model(name, trained=True, device="cpu")
    assert model.head.semantic_head.final_conv.bias.argmax() == 7
    with torch.no_grad():
        outputs = model([{"image": torch.zeros(3, 100, 150), "height": 50, "width": 75}])[0]
    assert outputs["sem_seg"].shape == (19, 50, 75)
    assert (outputs["sem_seg"].argmax(dim=0) == 7).all()
