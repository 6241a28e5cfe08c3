"""A name-based checkpoint of Auto-DeepLab gives the reference's numbers; all keys are known."""

import gzip
import json
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import torch
from detectron2.modeling import build_model
from parity.adapters.slim_networks import slim_config
from parity.cases import read_cases
from parity.comparison import relative_error
from parity.rule import image_input

from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.convert import build_meta_model
from deeplab2_d2.checkpoint.slim_names import CLASSIFIER, slim_parameter

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "parity"

pytestmark = pytest.mark.skipif(not _SHARED.is_dir(), reason="no ../shared/parity beside the clone")


def test_the_checkpoint_gives_the_outputs_of_its_case() -> None:
    (case,) = read_cases(str(_SHARED / "slim_networks" / "deeplab_v3plus_hnasnet_f4_narrow"))
    model = build_model(slim_config(case.row["config"])).eval()
    DeepLab2Checkpointer(model).load(str(_SHARED / "slim_checkpoint_hnasnet_narrow" / "model.ckpt"))
    (image,) = torch.from_numpy(image_input(case.name, case.row["input"]["shape"]))
    with torch.no_grad():
        batch = model.batch([{"image": image.permute(2, 0, 1)}])
        logits = model.predict(batch.tensor)["semantic_logits"]
    found = logits.movedim(1, -1).numpy()
    assert relative_error(found, case.references["raw/logits"]) < 1e-4


def _manifest(model: str) -> Dict[str, Any]:
    with gzip.open(_SHARED / "slim_manifest.jsonl.gz", "rt") as file:
        return next(row for row in map(json.loads, file) if row["model"] == model)


@pytest.mark.parametrize("size", ["s", "m", "l", "imagenet"])
def test_every_key_of_a_published_checkpoint_has_its_parameter(size: str) -> None:
    row = _manifest(f"auto_deeplab_{size}")
    variables = {key: tuple(shape) for key, shape in row["variables"]}
    if size == "imagenet":
        classifier = [key for key in variables if CLASSIFIER.fullmatch(key)]
        assert [variables.pop(key) for key in classifier] == [(1, 1, 2048, 1001)]
    found: Dict[str, Tuple[int, ...]] = {}
    for key, shape in variables.items():
        parameter = slim_parameter(key)
        assert parameter is not None, key
        found[parameter.name] = parameter.shape(shape)
    epsilons = {"backbone": 1e-3, "head": 1e-5}
    options = {"crop_size": [65, 65], **row["options"]}
    config = slim_config({"options": options, "batch_norm_epsilon": epsilons})
    config.DATASETS.TRAIN = ("cityscapes_fine_panoptic_train",)
    model = build_meta_model(config)
    ours = {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
        and (size != "imagenet" or name.startswith("backbone."))
    }
    assert found == ours
