"""The YAML leaves: each builds its model, and those of published models say what was released."""

import functools
import gzip
import json
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone

from deeplab2_d2.backbones import build_backbone_by_name
from deeplab2_d2.checkpoint import compare_deeplab2_shapes, config_from_options
from deeplab2_d2.checkpoint.convert import build_meta_model, load_config
from deeplab2_d2.checkpoint.zoo import get_config
from deeplab2_d2.checkpoint.zoo_table import zoo_rows
from deeplab2_d2.layers import Norm
from deeplab2_d2.structures import new_names

CONFIGS = Path(__file__).parents[2] / "configs"
PARITY = Path(__file__).parents[2] / ".." / "shared" / "parity"
LEAVES = sorted(p for p in CONFIGS.rglob("*.yaml") if not p.name.startswith("Base-"))
# The reference data have all configurations but this one.
LACKING = "configs/ade20k/kmax_deeplab/kmax_meta_convnext_large_os32.textproto"
ROWS = [row for row in zoo_rows() if row.config and row.deeplab2_config not in (None, LACKING)]


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_every_leaf_builds_its_model(path):
    model = build_meta_model(load_config(str(path)))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in model.parameters()) > 100_000


@functools.lru_cache(maxsize=None)
def manifest():
    with gzip.open(PARITY / "manifest.jsonl.gz") as lines:
        return {f"configs/{row['config']}": row for row in map(json.loads, lines)}


def flat(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, list(value) if isinstance(value, (list, tuple)) else value


def atrous_rates(cfg):
    """Of every atrous convolution of the heads, by name."""
    modules = build_meta_model(cfg).named_modules()
    return {name: getattr(m, "dilation", (1,)) for name, m in modules if "aspp" in name}


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference data at {PARITY}")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_leaf_of_a_published_model_says_what_was_released(row):
    configs = (
        config_from_options(manifest()[row.deeplab2_config]["options"]),
        get_config(row.name, trained=True),
    )
    assert atrous_rates(configs[0]) == atrous_rates(configs[1])
    released, leaf = (dict(flat(cfg)) for cfg in configs)
    different = {key for key in leaf if leaf[key] != released[key]}
    # Cityscapes' 1024x2048 needs no name for the 1025x2049 that it is padded to.
    allowed = {"VERSION", "MODEL.WEIGHTS", "TEST.DEEPLAB2.PAD_TO"}
    # Given there, derived from the stride here.
    allowed |= {key for key in leaf if key.endswith("ATROUS_RATES") and not leaf[key]}
    if "trainval" in row.dataset:  # Two files to train by, which the options do not tell apart.
        allowed.add("DATASETS.TRAIN")
        assert leaf["DATASETS.TRAIN"] == [released["DATASETS.TRAIN"][0] + "val"]
    assert different <= allowed


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference data at {PARITY}")
def test_the_leaf_of_motchallenge_step_says_what_was_configured():
    # The table has the weights to start from, and no row for the model that is trained from them.
    source = manifest()["configs/motchallenge/panoptic_deeplab/resnet50_os32.textproto"]
    configured = dict(flat(config_from_options(source["options"])))
    initial = "resnet50_os32_panoptic_deeplab_cityscapes_crowd_trainfine_netsurgery_last_layer"
    leaf = dict(flat(get_config(initial)))
    assert leaf["MODEL.WEIGHTS"] == f"deeplab2://{initial}"
    different = {key for key in leaf if leaf[key] != configured[key]}
    assert different <= {"VERSION", "MODEL.WEIGHTS", "TEST.DEEPLAB2.PAD_TO"}


# Networks of MaX-DeepLab, by how their names begin: the backbone that was pretrained on ImageNet.
PRETRAINED = {
    "max_deeplab_S_os16_poly_100k": ("max_deeplab_s_backbone", "max_deeplab_s_backbone"),
    "max_deeplab_L_os16_poly_100k": ("max_deeplab_l_backbone", "max_deeplab_l_backbone"),
    "max_deeplab_WR_41_os16_poly_100k": ("wide_resnet41", "wide_resnet41"),
    "max_deeplab_WR_41_L2_os16": ("wide_resnet41", "wide_resnet41"),
    "max_deeplab_WR_41_transformer_16_8_4_os16": ("wide_resnet41", "wide_resnet41"),
    "max_deeplab_WR_41_axial_os16_poly_100k": ("axial_swidernet_1_1_1", "axial_swidernet"),
}


@pytest.mark.parametrize("prefix", PRETRAINED)
def test_the_named_imagenet_weights_have_all_that_is_not_new_of_a_backbone(prefix):
    weights, name = PRETRAINED[prefix]
    cfg = load_config(str(next(path for path in LEAVES if path.name.startswith(prefix))))
    assert cfg.MODEL.WEIGHTS == f"deeplab2://{weights}_imagenet1k_strong_training_strategy"
    with torch.device("meta"):
        pretrained = build_backbone_by_name(name, norm=Norm.from_config(cfg), output_stride=16)
        backbone = build_backbone(cfg)
    expected = {k: v.shape for k, v in pretrained.state_dict().items()}
    found = {k: v.shape for k, v in backbone.state_dict().items()}
    is_new = new_names(backbone)
    assert is_new and {k: v for k, v in found.items() if k not in is_new} == expected


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference data at {PARITY}")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_published_weights_fit_the_leafs_model(row):
    model = build_meta_model(get_config(row.name, trained=True))
    variables = {k: tuple(s) for k, s in manifest()[row.deeplab2_config]["variables"]}
    report = compare_deeplab2_shapes(variables, model)
    assert report.is_complete, report.table(20)
