"""The CRF after ``sem_seg``: of each kind of model, at the outputs' size, and nothing else."""

import copy
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from tiny_oanet import make_config, make_sample

from deeplab2_d2.engine import load_config
from deeplab2_d2.engine.trainer import DeepLab2Trainer
from deeplab2_d2.models import AveragedSegmenter, Segmenter
from deeplab2_d2.postprocessing import CRFOptions, refine_with_crf

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
CRF = [
    "MODEL.DEEPLAB2.CRF.ENABLED", "True", "MODEL.DEEPLAB2.CRF.NUM_ITERATIONS", "2",
    "MODEL.DEEPLAB2.CRF.W1", "1.5", "MODEL.DEEPLAB2.CRF.THETA_ALPHA", "20.0",
    "MODEL.DEEPLAB2.CRF.THETA_BETA", "30.0", "MODEL.DEEPLAB2.CRF.W2", "0.5",
    "MODEL.DEEPLAB2.CRF.THETA_GAMMA", "2.0", "MODEL.DEEPLAB2.CRF.NORMALIZATION", "symmetric",
]  # fmt: skip
OPTIONS = CRFOptions(2, 1.5, 20.0, 30.0, 0.5, 2.0, "symmetric")


def twins(build, *options):
    """A model without and one with the CRF, of the same weights."""
    models = []
    for more in ([], CRF):
        torch.manual_seed(0)
        models.append(build([*options, *more]).eval())
    return models


def sample(**more):
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, 33, 49), generator=generator, dtype=torch.uint8)
    return {"image": image, **more}


def assert_only_scores_are_refined(plain, refined, image):
    expected = refine_with_crf(plain["sem_seg"], image, OPTIONS)
    assert torch.equal(refined["sem_seg"], expected)
    assert not torch.equal(refined["sem_seg"].softmax(0), plain["sem_seg"].softmax(0))
    assert torch.equal(refined["panoptic_seg"][0], plain["panoptic_seg"][0])


@pytest.mark.parametrize("size", [{}, {"height": 21, "width": 30}])
def test_segmenter_refines_its_scores_at_the_size_of_the_outputs(size):
    plain, refined = twins(lambda options: build_model(load_config(CONFIG, options)))
    assert isinstance(refined, Segmenter)
    with torch.no_grad():
        outputs = [model([sample(**size)])[0] for model in (plain, refined)]
        averaged = AveragedSegmenter([refined])([sample(**size)])[0]
    assert_only_scores_are_refined(*outputs, sample()["image"])
    torch.testing.assert_close(averaged["sem_seg"], outputs[1]["sem_seg"], rtol=1e-3, atol=1e-3)


def test_other_models_refine_theirs_when_the_trainer_builds_them():
    def build(options):
        cfg = copy.deepcopy(make_config())
        cfg.merge_from_list(options)
        return DeepLab2Trainer.build_model(cfg)

    plain, refined = twins(build)
    assert not isinstance(refined, Segmenter)
    image = make_sample()["image"]
    with torch.no_grad():
        outputs = [model([{"image": image}])[0] for model in (plain, refined)]
    assert_only_scores_are_refined(*outputs, image)


def test_crf_mends_a_speck_and_an_edge_that_lies_beside_that_of_the_image():
    image = torch.zeros(3, 24, 40)
    image[:, :, 20:] = 200.0
    truth = (image[0] > 100).long()
    scores = torch.zeros(2, 24, 40)
    scores[1, :, 17:] = 2.0  # three columns too far
    scores[0, :, :17] = 2.0
    scores[:, 5:7, 30:32] = scores[:, 5:7, 30:32].flip(0)  # a speck of the other class
    options = CRFOptions(theta_alpha=20.0)
    refined = refine_with_crf(scores, image, options)
    assert (scores.argmax(0) != truth).sum() == 3 * 24 + 4
    assert torch.equal(refined.argmax(0), truth)
    torch.testing.assert_close(refined.exp().sum(0), torch.ones(24, 40))


def test_image_of_another_size_is_brought_to_that_of_the_scores():
    scores = torch.zeros(2, 3, 5)
    scores[0, :, :2] = 2.0
    # Corners on corners: of the columns 0, 1, 2, every half one.
    image = torch.tensor([0.0, 100.0, 200.0]).expand(3, 2, 3)
    whole = torch.tensor([0.0, 50.0, 100.0, 150.0, 200.0]).expand(3, 3, 5)
    torch.testing.assert_close(refine_with_crf(scores, image), refine_with_crf(scores, whole))


@pytest.mark.parametrize(
    "key, value, rule",
    [
        ("NUM_ITERATIONS", "0", "at least 1, got 0"),
        ("W1", "-1.0", "at least 0, got -1.0"),
        ("W2", "-0.5", "at least 0, got -0.5"),
        ("THETA_ALPHA", "0.0", "positive, got 0.0"),
        ("THETA_BETA", "-2.0", "positive, got -2.0"),
        ("THETA_GAMMA", "0.0", "positive, got 0.0"),
        ("NORMALIZATION", "before", "one of 'after', 'symmetric', got 'before'"),
    ],
)
def test_values_that_cannot_work_are_refused(key, value, rule):
    with pytest.raises(ValueError, match=f"MODEL.DEEPLAB2.CRF.{key} must be {rule}"):
        load_config(CONFIG, [f"MODEL.DEEPLAB2.CRF.{key}", value])


def test_crf_without_scores_is_refused():
    options = [*CRF, "MODEL.DEEPLAB2.POSTPROCESSING.SEMANTIC_OUTPUT", "False"]
    with pytest.raises(ValueError, match="CRF.ENABLED must be False without .*SEMANTIC_OUTPUT"):
        load_config(CONFIG, options)
