"""A LazyConfig is its YAML leaf: modules, parameter groups, learning rates, mappers, evaluators."""

import re
from pathlib import Path

import pytest
import torch

# It makes Detectron2 importable, which comes next.
import deeplab2_d2  # noqa: F401  isort: skip
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver import LRMultiplier
from lazy_comparison import differences

from deeplab2_d2.engine import load_config
from deeplab2_d2.engine.loaders import _mapper
from deeplab2_d2.solver import build_lr_scheduler, build_optimizer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LAZY = sorted(path.name for path in (CONFIGS / "lazy").glob("*.py"))


def load(name):
    """A LazyConfig, and the config of the leaf that its first lines name."""
    path = CONFIGS / "lazy" / name
    (leaf,) = re.findall(r"^(\S+/\S+\.yaml)\.$", path.read_text(), flags=re.MULTILINE)
    return LazyConfig.load(str(path)), load_config(str(CONFIGS / leaf))


@pytest.fixture(scope="module", params=LAZY)
def pair(request):
    lazy, cfg = load(request.param)
    with torch.device("meta"):
        built = instantiate(lazy.model)
        expected = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return lazy, cfg, built, expected


def test_the_model_is_that_of_the_leaf_to_the_last_attribute(pair):
    lazy, cfg, built, expected = pair
    # Of tensors only shapes are known here.
    times = len(lazy.model.pixel_mean) // len(cfg.MODEL.PIXEL_MEAN)  # ViP-DeepLab's two frames
    assert list(lazy.model.pixel_mean) == list(cfg.MODEL.PIXEL_MEAN) * times
    assert list(lazy.model.pixel_std) == list(cfg.MODEL.PIXEL_STD) * times
    shapes = [
        {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for model in (built, expected)
    ]
    assert list(shapes[0].items()) == list(shapes[1].items())
    assert differences(built, expected) == []


def test_parameter_groups_and_learning_rates_are_those_of_the_leaf(pair):
    lazy, cfg, built, expected = pair
    lazy.optimizer.params.model = built
    optimizer, leafs = instantiate(lazy.optimizer), build_optimizer(cfg, expected)
    assert type(optimizer) is type(leafs)
    names = [
        {id(parameter): name for name, parameter in model.named_parameters()}
        for model in (built, expected)
    ]
    groups = [
        [
            {**group, "params": [known[id(parameter)] for parameter in group["params"]]}
            for group in each.param_groups
        ]
        for each, known in zip((optimizer, leafs), names)
    ]
    assert groups[0] == groups[1]
    last = cfg.SOLVER.MAX_ITER
    assert lazy.train.max_iter == last
    scheduler = build_lr_scheduler(cfg, leafs)
    multiplier = LRMultiplier(optimizer, instantiate(lazy.lr_multiplier), last)
    for iteration in (0, 1, 7, 1999, 2000, last // 3, 2 * last // 3, last - 1):
        for each in (scheduler, multiplier):
            each.last_epoch = iteration
        assert multiplier.get_lr() == pytest.approx(scheduler.get_lr(), rel=1e-9)


def test_mappers_loaders_and_evaluators_are_those_of_the_leaf(pair, monkeypatch):
    lazy, cfg, _, _ = pair
    train, test = lazy.dataloader.train, lazy.dataloader.test
    for node, is_train in ((train, True), (test, False)):
        assert differences(instantiate(node.mapper), _mapper(cfg, is_train=is_train)) == []
        assert node.num_workers == cfg.DATALOADER.NUM_WORKERS
    assert (train.dataset, test.dataset) == (cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0])
    assert train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    kept = lazy.train
    assert kept.init_checkpoint == cfg.MODEL.WEIGHTS
    assert kept.checkpointer.period == cfg.SOLVER.CHECKPOINT_PERIOD
    assert (kept.eval_period, kept.log_period) == (
        cfg.TEST.EVAL_PERIOD,
        cfg.SOLVER.DEEPLAB2.LOG_PERIOD,
    )
    assert (kept.device, kept.amp.enabled) == (cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED)
