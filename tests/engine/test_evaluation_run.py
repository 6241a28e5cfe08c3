"""Evaluations that ask for labels, with evaluators in the background: the same scores."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_on_dataset

from deeplab2_d2.engine import DeepLab2Trainer, evaluation_run, load_config
from deeplab2_d2.engine.loaders import build_test_loader
from deeplab2_d2.engine.testing import load_test_model
from deeplab2_d2.evaluation import BackgroundEvaluator, SemanticEvaluator

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PANOPTIC = "Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
MAX = "Shapes-PanopticSegmentation/max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
SEMANTIC = "Shapes-SemanticSegmentation/deeplab_v3plus_X_41_narrow_os16_poly_bs8_crop_129_161.yaml"
VAL = "shapes_panoptic_val"
SCALED = ["INPUT.MIN_SIZE_TEST", 100, "INPUT.MAX_SIZE_TEST", 400]
VIEWS = ["TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", True, "TEST.DEEPLAB2.SCALES", [1.0, 0.75]]
SHIFTED = [
    "MODEL.DEEPLAB2.DEEPLAB.CLASS_WEIGHTS", [1.0, 2.0, 3.0, 1.0, 0.5, 1.0, 2.0],
    "MODEL.DEEPLAB2.DEEPLAB.WEIGHT_CORRECTION", 1.0,
]  # fmt: skip


def config(leaf, *options):
    fixed = ["DATALOADER.NUM_WORKERS", 0, "DATASETS.TEST", (VAL,)]
    return load_config(str(CONFIGS / leaf), [str(option) for option in (*fixed, *options)])


def untrained(cfg):
    torch.manual_seed(0)
    return load_test_model(cfg, allow_random_weights=True)


class Keys(DatasetEvaluator):
    """Notes what the outputs have; it has no mark, so it may read the scores."""

    def __init__(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen += [{name: getattr(v, "shape", None) for name, v in o.items()} for o in outputs]


class ScoreReader(SemanticEvaluator):
    """A user's, that reads the scores as Detectron2's SemSegEvaluator does."""

    def process(self, inputs, outputs):
        labels = [{"sem_seg": output["sem_seg"].argmax(dim=0)} for output in outputs]
        super().process(inputs, labels)


@pytest.mark.parametrize(
    "leaf, options",
    [
        (PANOPTIC, []),
        (PANOPTIC, SCALED),
        (PANOPTIC, ["TEST.DEEPLAB2.PAD_TO", [193, 321]]),
        (PANOPTIC, ["MODEL.DEEPLAB2.INSTANCE_ENABLED", False]),
        pytest.param(PANOPTIC, VIEWS, marks=pytest.mark.slow),
        (SEMANTIC, [*SHIFTED, *SCALED]),
        (MAX, SCALED),
    ],
    ids=["plain", "rescaled", "padded", "semantic head", "views", "score shifts", "slots"],
)
def test_scores_are_to_the_last_digit_those_of_detectron2s_loop_over_scores(
    dataset, tmp_path, leaf, options
):
    cfg = config(leaf, *options, "OUTPUT_DIR", tmp_path)
    model = untrained(cfg)
    asked = []

    class Watched(SemanticEvaluator):
        pass

    def note(self, inputs, outputs, process=SemanticEvaluator.process):
        asked.extend(sorted(name for name in output if "sem" in name) for output in outputs)
        process(self, inputs, outputs)

    note.reads_labels = True
    Watched.process = note
    ours = DeepLab2Trainer.test(cfg, model, [DatasetEvaluators([Watched(VAL)])])
    assert asked == [["sem_seg_labels"]] * 2
    expected = inference_on_dataset(model, build_test_loader(cfg, VAL), ScoreReader(VAL))
    assert ours["sem_seg"]["mIoU"] > 0 and set(ours) == set(expected)
    assert repr(dict(ours["sem_seg"])) == repr(dict(expected["sem_seg"]))


def test_every_evaluator_of_a_panoptic_model_does_without_scores(dataset, tmp_path):
    pytest.importorskip("panopticapi")
    cfg = config(PANOPTIC, "OUTPUT_DIR", tmp_path)
    model = untrained(cfg)
    seen = []
    model.register_forward_hook(lambda module, inputs, outputs: seen.extend(map(set, outputs)))
    ours = DeepLab2Trainer.test(cfg, model)
    assert seen == [{"sem_seg_labels", "panoptic_seg", "instances"}] * 2
    seen.clear()
    evaluator = DeepLab2Trainer.build_evaluator(cfg, VAL)
    expected = inference_on_dataset(model, build_test_loader(cfg, VAL), evaluator)
    assert seen == [{"sem_seg", "panoptic_seg", "instances"}] * 2
    assert list(ours) == list(expected) and "panoptic_seg" in ours and "segm" in ours
    for task, scores in expected.items():
        assert repr(dict(ours[task])) == repr(dict(scores)), task


@pytest.mark.parametrize(
    "device, num_threads, is_beside",
    [("cpu", 4, False), ("cpu", 6, False), ("cpu", 3, True), ("meta", 4, True)],
)
def test_evaluators_work_beside_the_network_where_a_processor_is_idle(
    device, num_threads, is_beside, monkeypatch
):
    monkeypatch.setattr(evaluation_run.os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    evaluator = Keys()
    model = torch.nn.BatchNorm2d(3, device=device)
    with evaluation_run.evaluators_at_work([evaluator], model) as working:
        assert isinstance(working[0], BackgroundEvaluator) == is_beside
        assert is_beside or working == [evaluator]


@pytest.mark.parametrize("is_among_ours", [False, True])
def test_an_evaluator_that_is_not_ours_gets_the_scores(dataset, is_among_ours):
    cfg, keys = config(PANOPTIC), Keys()
    others = [SemanticEvaluator(VAL)] if is_among_ours else []
    DeepLab2Trainer.test(cfg, untrained(cfg), DatasetEvaluators([keys, *others]))
    assert [found["sem_seg"] for found in keys.seen] == [(7, 128, 160)] * 2
    assert all("sem_seg_labels" not in found for found in keys.seen)


def test_a_subclass_that_reads_the_scores_gets_them(dataset):
    cfg = config(PANOPTIC)
    ours = DeepLab2Trainer.test(cfg, untrained(cfg), ScoreReader(VAL))
    expected = DeepLab2Trainer.test(cfg, untrained(cfg), SemanticEvaluator(VAL))
    assert repr(ours) == repr(expected)


def test_a_crf_keeps_the_scores(dataset):
    cfg = config(SEMANTIC, "MODEL.DEEPLAB2.CRF.ENABLED", True)
    model = untrained(cfg)
    refined = []
    model.register_forward_hook(lambda module, inputs, outputs: refined.extend(outputs))
    DeepLab2Trainer.test(cfg, model, [SemanticEvaluator(VAL)])
    # Marginals of the CRF are log-probabilities.
    for output in refined:
        total = output["sem_seg"].exp().sum(dim=0)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


def test_a_subclass_without_evaluators_is_told_so_by_detectron2(dataset, caplog):
    class Trainer(DeepLab2Trainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_folder=None):
            raise NotImplementedError

    cfg = config(PANOPTIC)
    assert Trainer.test(cfg, untrained(cfg)) == {}
    assert "No evaluator found" in caplog.text


def test_pngs_for_cityscapes_are_those_of_detectron2(tmp_path):
    pytest.importorskip("cityscapesscripts")
    from detectron2.evaluation import CityscapesSemSegEvaluator
    from PIL import Image

    from deeplab2_d2.evaluation import CityscapesSemanticEvaluator

    name = "deeplab2_d2_cityscapes_pngs"
    MetadataCatalog.get(name).set(thing_classes=[], gt_dir=str(tmp_path))
    scores = torch.randn(19, 40, 50, generator=torch.Generator().manual_seed(0))
    inputs = [{"file_name": "a/aachen_000_leftImg8bit.png"}]
    pictures = []
    for kind, output in (
        (CityscapesSemSegEvaluator, {"sem_seg": scores}),
        (CityscapesSemanticEvaluator, {"sem_seg": scores}),
        (CityscapesSemanticEvaluator, {"sem_seg_labels": scores.argmax(dim=0).int()}),
    ):
        evaluator = kind(name)
        evaluator.reset()
        evaluator.process(inputs, [output])
        path = Path(evaluator._temp_dir) / "aachen_000_leftImg8bit_pred.png"
        pictures.append(np.array(Image.open(path)))
        with contextlib.suppress(FileNotFoundError):
            evaluator._working_dir.cleanup()
    MetadataCatalog.remove(name)
    assert np.array_equal(pictures[0], pictures[1]) and np.array_equal(pictures[0], pictures[2])
    assert len(np.unique(pictures[0])) == 19
