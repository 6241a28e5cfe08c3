"""A LazyConfig trains: by our trainer as its YAML leaf does, and by Detectron2's script."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.engine import SimpleTrainer, default_writers, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset
from detectron2.utils.env import seed_all_rng

from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, argument_parser, load_config, run_lazy
from deeplab2_d2.engine.lazy_training import load_lazy_config
from deeplab2_d2.evaluation import SemanticEvaluator

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LAZY = str(CONFIGS / "lazy/panoptic_deeplab_R_50_os32_cityscapes.py")
LEAF = str(
    CONFIGS
    / "Cityscapes-PanopticSegmentation/panoptic_deeplab_R_50_os32_poly_60k_bs8_crop_1025_2049.yaml"
)
# The same small training of generated shapes, said to both.
SMALL = [
    *("model.backbone.name=resnet_tiny", "images.crop_size=[65,65]", "dataset.num_classes=7"),
    *("dataset.train=shapes_panoptic_train", "dataset.test=shapes_panoptic_val"),
    *("dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0"),
    *("dataloader.test.num_workers=0", "train.device=cpu", "train.seed=5", "train.max_iter=3"),
    *("train.init_checkpoint=''", "train.log_period=1"),
]
SMALL_LEAF = (
    "MODEL.DEEPLAB2.BACKBONE.NAME resnet_tiny INPUT.CROP.SIZE [65,65] "
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES 7 DATASETS.TRAIN ('shapes_panoptic_train',) DATASETS.TEST () "
    "SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0 MODEL.DEVICE cpu SEED 5 SOLVER.MAX_ITER 3"
).split() + ["MODEL.WEIGHTS", ""]


@pytest.fixture
def config_file(tmp_path):
    """A config based on one of ours, as a user writes it."""
    path = tmp_path / "mine.py"
    path.write_text(f"""
from detectron2.config import LazyCall as L, LazyConfig
from deeplab2_d2.evaluation import SemanticEvaluator
_base = LazyConfig.load({LAZY!r})
for _key in list(_base):
    globals()[_key] = _base[_key]
dataloader.evaluator = [L(SemanticEvaluator)(dataset_name="${{dataset.test}}")]
""")
    return str(path)


def train(config_file, folder, *arguments):
    args = ["--config-file", config_file, *arguments, *SMALL, f"train.output_dir={folder}"]
    torch.manual_seed(0)
    return run_lazy(argument_parser().parse_args(args))


def test_the_weights_are_those_of_a_training_by_the_leaf(dataset, config_file, tmp_path):
    results = train(config_file, tmp_path / "lazy", "train.checkpointer.period=2")
    assert 0 <= results["sem_seg"]["mIoU"] <= 100
    seed_all_rng(5)  # as the other was when its logs began
    (tmp_path / "yaml").mkdir()
    trainer = DeepLab2Trainer(
        load_config(LEAF, [*SMALL_LEAF, "OUTPUT_DIR", str(tmp_path / "yaml")])
    )
    trainer.train()
    expected = torch.load(tmp_path / "yaml/model_final.pth", weights_only=False)
    built = torch.load(tmp_path / "lazy/model_final.pth", weights_only=False)
    assert list(built["model"]) == list(expected["model"])
    for name, value in expected["model"].items():
        assert torch.equal(built["model"][name], value), name
    # Resumed before the last step it ends the same; evaluated alone it scores the same.
    (tmp_path / "lazy/model_final.pth").unlink()
    (tmp_path / "lazy/last_checkpoint").write_text("model_0000001.pth")
    again = train(config_file, tmp_path / "lazy", "--resume")
    resumed = torch.load(tmp_path / "lazy/model_final.pth", weights_only=False)
    for name, value in expected["model"].items():
        assert torch.equal(resumed["model"][name], value), name
    assert again == results == train(config_file, tmp_path / "lazy", "--resume", "--eval-only")
    assert "resnet_tiny" in (tmp_path / "lazy/config.yaml").read_text()


def test_detectron2s_script_trains_and_evaluates_it(dataset, tmp_path):
    """What its tools/lazyconfig_train_net.py does with a config, in the words of its API."""
    cfg = LazyConfig.apply_overrides(LazyConfig.load(LAZY), SMALL)
    cfg.train.output_dir, cfg.train.max_iter, cfg.train.eval_period = str(tmp_path), 2, 1
    cfg.dataloader.evaluator = LazyCall(SemanticEvaluator)(dataset_name="${dataset.test}")
    model = instantiate(cfg.model)
    model.to(cfg.train.device)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer = SimpleTrainer(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    scores = []

    def evaluate():
        evaluator, images = instantiate(cfg.dataloader.evaluator), instantiate(cfg.dataloader.test)
        scores.append(inference_on_dataset(model, images, evaluator))
        return scores[-1]

    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer),
            hooks.EvalHook(cfg.train.eval_period, evaluate),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period),
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=False)
    trainer.train(0, cfg.train.max_iter)
    assert len(scores) == 2 and all(0 <= s["sem_seg"]["mIoU"] <= 100 for s in scores)
    rates = re.findall(r'"lr": ([\d.e-]+)', (tmp_path / "metrics.json").read_text())
    # 0.00025 times (1 - 1/2)^0.9 at the second step.
    assert [float(rate) for rate in rates] == pytest.approx([0.00025, 0.00025 * 0.5**0.9])


def test_keys_of_our_trainer_are_those_of_the_yaml_in_small_letters(dataset, config_file, tmp_path):
    options = ("+train.deeplab2.best_metric=sem_seg/mIoU", "+train.deeplab2.ema_decay=0.5")
    train(config_file, tmp_path / "lazy", *options, "train.eval_period=1")
    assert "average" in torch.load(tmp_path / "lazy/model_best.pth", weights_only=False)


def test_a_dry_run_takes_a_step_evaluates_an_image_and_leaves_no_trace(
    dataset, config_file, tmp_path, capsys
):
    out = tmp_path / "lazy"
    scores = train(config_file, out, "--dry-run", "--num-gpus", "2")
    printed = capsys.readouterr().out
    assert "sem_seg/mIoU" in scores and "1 images, total loss" in printed
    assert "at the end on shapes_panoptic_val; of the first images" in printed
    assert "found nothing that ends a training" in printed and not out.exists()
    with pytest.raises(ConfigError, match="must be a trained model's"):
        train(config_file, out, "--dry-run", "--eval-only")
    scores = train(config_file, out, "--dry-run", "--eval-only", "--allow-random-weights")
    assert "sem_seg/mIoU" in scores and not out.exists()
    assert "shapes_panoptic_val: 2 images" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="BEST_METRIC.*'sem_seg/IoU'"):
        train(config_file, out, "--dry-run", "+train.deeplab2.best_metric=sem_seg/IoU")


@pytest.mark.parametrize(
    "content, overrides, message",
    [
        ("model = dict(a=1)", (), "must define model, .* got no optimizer, lr_multiplier"),
        ("model = ", (), "SyntaxError"),
        ("import no_such_module", (), "no_such_module"),
        (
            None,
            ("model.backbone.nam=1",),
            "config override model.backbone.nam=1: no such key, there are .*name",
        ),
        (None, ("MODEL.DEVICE", "cpu"), "config override MODEL.DEVICE"),
        (None, ("+train.deeplab2.ema_deca=1",), "EMA_DECA"),
    ],
)
def test_files_that_are_no_config_and_wrong_overrides_are_refused(
    tmp_path, content, overrides, message
):
    path = tmp_path / "config.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        args = ["--config-file", LAZY if content is None else str(path), *overrides]
        run_lazy(argument_parser().parse_args(args))


def test_its_nodes_follow_each_other():
    lazy = load_lazy_config(LAZY, ["model.backbone.output_stride=16", "images.crop_size=[129,257]"])
    decoder = instantiate(lazy.model.head.decoders.semantic_decoder)
    assert decoder.atrous_rates == (6, 12, 18) and decoder.aspp_pool_size == (9, 17)
    lazy = load_lazy_config(LAZY, ["+model.backbone.DROP_PATH=[0.8,linear]"])
    lazy.model.backbone.name = "resnet_tiny"
    model = instantiate(lazy.model)
    assert model.backbone.options.drop_path_keep_prob == 0.8
    assert model.head.semantic_decoder.low_level_conv1.conv.in_channels == 64
