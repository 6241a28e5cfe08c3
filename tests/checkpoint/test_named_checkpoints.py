"""Checkpoints of Google's release of DeepLab v3+, whose variables have names."""

import gzip
import json
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import pytest
import torch
from bundle_writer import write_bundle
from detectron2.modeling import build_model
from parity.adapters.slim_networks import BackboneOnly, slim_config

from deeplab2_d2.checkpoint import compare_deeplab2_shapes
from deeplab2_d2.checkpoint.deeplab2_checkpoint import DeepLab2Checkpoint
from deeplab2_d2.checkpoint.slim_names import CLASSIFIER
from deeplab2_d2.checkpoint.sorted_table import CheckpointFormatError

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity"
_EPSILON = {"backbone": 1e-3, "head": 1e-5}
needs_shared = pytest.mark.skipif(
    not _SHARED.is_dir(), reason="no ../shared/parity beside the clone"
)


def _published() -> Iterator[Dict[str, Any]]:
    if _SHARED.is_dir():
        with gzip.open(_SHARED / "slim_manifest.jsonl.gz", "rt") as lines:
            yield from map(json.loads, lines)


@needs_shared
def test_every_variable_of_every_published_model_has_a_place() -> None:
    models = list(_published())
    assert len(models) == 16
    for row in models:
        options = {"crop_size": [65, 65], **row["options"]}
        cfg = slim_config({"options": options, "batch_norm_epsilon": _EPSILON})
        if row["model"].startswith("resnet"):
            cfg.MODEL.DEEPLAB2.BACKBONE.NAME = row["options"]["model_variant"]
        is_model = options["outputs_to_num_classes"]["semantic"] is not None
        cfg.MODEL.DEVICE = "meta"
        with torch.device("meta"):
            model = build_model(cfg) if is_model else BackboneOnly(cfg)
        shapes = {name: tuple(shape) for name, shape in row["variables"]}
        classifier = {name for name in shapes if CLASSIFIER.fullmatch(name)}
        assert bool(classifier) == (row["classify"] is not None)
        rest = {name: shape for name, shape in shapes.items() if name not in classifier}
        report = compare_deeplab2_shapes(rest, model)
        assert report.is_complete, f"{row['model']}: {report.table(10)}"


def test_slots_averages_and_counters_are_no_weights(tmp_path: Path) -> None:
    value = np.ones(3, np.float32)
    names = ["aspp0/BatchNorm/beta", "logits/semantic/biases"]
    others = [
        *(f"{names[0]}/{slot}" for slot in ("Momentum", "Adam", "Adam_1", "RMSProp")),
        f"{names[1]}/ExponentialMovingAverage",
        "beta1_power",
    ]
    tensors: Dict[str, np.ndarray] = {name: value for name in (*names, *others)}
    tensors["global_step"] = np.array(7, np.int64)
    write_bundle(tmp_path / "model.ckpt", tensors)
    checkpoint = DeepLab2Checkpoint(tmp_path)
    assert sorted(checkpoint) == names
    assert sorted(checkpoint.ignored) == sorted([*others, "global_step"])


@pytest.mark.parametrize("ending", ["", "-00000-of-00002"])
def test_tensorflows_first_format_is_refused_with_a_sentence(tmp_path: Path, ending: str) -> None:
    # A sorted table ends with these eight bytes (leveldb's kTableMagicNumber), little-endian.
    (tmp_path / f"model.ckpt{ending}").write_bytes(b"values" + bytes.fromhex("57fb808b247547db"))
    with pytest.raises(CheckpointFormatError, match="first format .V1., which is not read"):
        DeepLab2Checkpoint(tmp_path / "model.ckpt")
