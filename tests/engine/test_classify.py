"""The command that trains classifiers of images."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.utils.env import seed_all_rng

from deeplab2_d2 import add_deeplab2_config
from deeplab2_d2.config import merge_config_file
from deeplab2_d2.data import register_image_folder
from deeplab2_d2.engine import DeepLab2Trainer, classify, load_config

FOLDER = "configs/ImageNet-Classification"


def merged(file, options=()):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    merge_config_file(cfg, file)
    cfg.merge_from_list(list(options))
    return cfg


@pytest.mark.parametrize(
    "recipe, backbone, file",
    [
        ("simple", "resnet50", "resnet50_simple_os32_step_450k_bs256_crop_224_224"),
        ("strong", "resnet50", "resnet50_strong_os32_cosine_375k_bs1024_crop_224_224"),
        ("strong", "moat0", "moat0_strong_os32_cosine_375k_bs1024_crop_224_224"),
        ("strong", "convnext_tiny", "convnext_tiny_strong_os32_cosine_375k_bs1024_crop_224_224"),
        ("simple", "hrnet_w48_plus", "hrnet_w48_plus_simple_os32_step_450k_bs256_crop_224_224"),
    ],
)
def test_a_recipe_with_a_backbone_is_its_config(recipe, backbone, file):
    found = merged(classify.RECIPES[recipe], classify.recipe_options(recipe, backbone))
    assert found == merged(f"{FOLDER}/{file}.yaml")


def test_the_strong_recipe_has_what_deeplab2_names():
    cfg = merged(f"{FOLDER}/resnet50_strong_os32_cosine_375k_bs1024_crop_224_224.yaml")
    assert cfg.INPUT.DEEPLAB2.CLASSIFICATION.COLOR_POLICY == "autoaugment"
    assert cfg.MODEL.DEEPLAB2.IMAGE_CLASSIFIER.LABEL_SMOOTHING == 0.1
    assert cfg.MODEL.DEEPLAB2.BACKBONE.RESIDUAL.DROP_PATH == [0.8, "linear"]
    assert cfg.SOLVER.DEEPLAB2.EMA_DECAY == 0.9999


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "one of --recipe"),
        (["--recipe", "simple"], "go together"),
        (["--demo", "--config-file", "x.yaml"], "one of --recipe"),
        (["--demo", "--data", "x"], "no --data"),
        (["--config-file", "x.yaml", "--class-index", "x"], "needs --data"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        classify.parse_arguments(arguments)
    assert words in capsys.readouterr().err


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    args = classify.parse_arguments(["--recipe", "simple", "--backbone", "vgg16"])
    args.data = str(tmp_path)
    with pytest.raises(ValueError, match="must have folders train/<class>"):
        classify.classify(args)


@pytest.mark.slow
def test_it_learns_goes_on_and_leaves_the_averaged_backbone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    classify.prepare_shapes_classification(str(tmp_path / "drawn"), num_train=60, num_val=15)
    data = ["--config-file", classify.DEMO, "--data", str(tmp_path / "drawn")]
    options = ["OUTPUT_DIR", str(tmp_path / "run"), "SOLVER.WARMUP_ITERS", "10"]
    options += ["SOLVER.DEEPLAB2.EMA_DECAY", "0.9", "DATALOADER.NUM_WORKERS", "0"]
    options += ["SOLVER.IMS_PER_BATCH", "24", "TEST.EVAL_PERIOD", "0"]
    node = "INPUT.DEEPLAB2.CLASSIFICATION"
    options += [f"{node}.COLOR_POLICY", "none", f"{node}.AREA_RANGE", "[0.9, 1.0]"]
    run = [*data, "--resume", *options, "SOLVER.MAX_ITER"]
    classify.classify(classify.parse_arguments([*run, "2"]))
    results = classify.classify(classify.parse_arguments([*run, "110"]))
    # A quarter by chance.
    assert results["classification"]["top-1"] > 50
    assert "MODEL.WEIGHTS" in capsys.readouterr().out
    saved = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    backbone = torch.load(tmp_path / "run" / "backbone.pth", weights_only=True)["model"]
    assert set(backbone) == {name for name in saved["model"] if name.startswith("backbone.")}
    for name, value in backbone.items():
        assert torch.equal(value, saved["average"][name])
    evaluated = classify.classify(
        classify.parse_arguments(
            [*data, "--eval-only", *options]
            + ["MODEL.WEIGHTS", str(tmp_path / "run" / "model_final.pth")]
        )
    )
    assert evaluated["classification"] == results["classification"]


@pytest.mark.slow
def test_a_step_in_bfloat16_has_the_gradients_of_one_in_float32(tmp_path):
    drawn = str(tmp_path / "drawn")
    classify.prepare_shapes_classification(drawn, num_train=4, num_val=1)
    train, val = register_image_folder("shapes_in_bfloat16", drawn)
    options = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "8", "DATALOADER.NUM_WORKERS", "0"]
    options += ["DATASETS.TRAIN", f"('{train}',)", "DATASETS.TEST", f"('{val}',)"]
    options += ["TEST.EVAL_PERIOD", "0", "SOLVER.AMP.ENABLED"]
    gradients, losses = [], []
    for is_mixed in (False, True):
        folder = tmp_path / f"mixed_{is_mixed}"
        folder.mkdir()
        seed_all_rng(1)  # of the weights and of the crops
        trainer = DeepLab2Trainer(
            load_config(classify.DEMO, [*options, str(is_mixed), "OUTPUT_DIR", str(folder)])
        )
        trainer.train()
        parameters = dict(trainer.checkpointer.model.named_parameters())
        assert {p.dtype for p in parameters.values()} == {torch.float32}
        gradients.append(torch.cat([p.grad.flatten() for p in parameters.values()]))
        losses.append(trainer.storage.history("total_loss").latest())
    # Not the same numbers, but those of sums of products of eight bits.
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)
    error = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert 0 < error < 0.1
