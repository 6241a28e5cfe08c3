"""Options of training and of evaluation that change a run without changing the model."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, load_config
from deeplab2_d2.engine.evaluators import build_evaluators
from deeplab2_d2.engine.loaders import build_test_loader
from deeplab2_d2.engine.predictor import DeepLab2Predictor
from deeplab2_d2.engine.testing import dense_config, evaluate, load_model, load_test_model
from deeplab2_d2.engine.throughput import Throughput
from deeplab2_d2.engine.training_parts import scale_learning_rate
from deeplab2_d2.engine.video_predictor import VideoPredictor
from deeplab2_d2.models import AveragedSegmenter, average_views

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)


def config(*options):
    narrow = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "DATALOADER.NUM_WORKERS", "0"]
    return load_config(CONFIG, [*narrow, *map(str, options)])


def network(*options):
    torch.manual_seed(0)
    return build_model(config(*options)).eval()


def test_the_learning_rate_follows_the_effective_batch_and_is_logged(caplog):
    cfg = config("SOLVER.DEEPLAB2.REFERENCE_BATCH", 32, "SOLVER.DEEPLAB2.ACCUMULATION_STEPS", 2)
    with caplog.at_level(logging.INFO, logger="deeplab2_d2.engine.training_parts"):
        scaled = scale_learning_rate(cfg)
    # 8 images in each of two batches, for a rate that is meant for 32.
    assert scaled.SOLVER.BASE_LR == pytest.approx(cfg.SOLVER.BASE_LR / 2)
    assert "0.002 for a batch of 16 (0.004 for 32)" in caplog.text
    assert scale_learning_rate(scaled).SOLVER.BASE_LR == scaled.SOLVER.BASE_LR


def test_a_denser_output_stride_keeps_the_weights_and_the_field_of_view():
    cfg = config("TEST.DEEPLAB2.OUTPUT_STRIDE", 8)
    dense = dense_config(cfg)
    assert dense.MODEL.DEEPLAB2.SEMANTIC_DECODER.ATROUS_RATES == [2, 4, 6]
    torch.manual_seed(0)
    sparse_model, dense_model = build_model(cfg).eval(), build_model(dense).eval()
    dense_model.load_state_dict(sparse_model.state_dict())
    image = torch.randn(1, 3, 129, 129)
    with torch.no_grad():
        sparse = sparse_model.backbone(image)["res5"]
        dense_features = dense_model.backbone(image)["res5"]
    assert dense_features.shape[-1] == 17 and sparse.shape[-1] == 9
    # Atrous consistency: the dense features, subsampled, are the strided ones.
    torch.testing.assert_close(dense_features[:, :, ::2, ::2], sparse, rtol=1e-4, atol=1e-4)
    assert dense_config(config()) == config()


@pytest.mark.parametrize("feature, rates", [("res5", [4, 8, 12]), ("res4", [4, 8, 12])])
def test_rates_grow_with_the_stride_of_their_feature(feature, rates):
    node = "MODEL.DEEPLAB2.SEMANTIC_DECODER"
    options = [f"{node}.FEATURE", feature, f"{node}.ATROUS_RATES", "[2, 4, 6]"]
    dense = dense_config(config(*options, "TEST.DEEPLAB2.OUTPUT_STRIDE", 8))
    assert dense.MODEL.DEEPLAB2.SEMANTIC_DECODER.ATROUS_RATES == rates


def test_rates_on_a_feature_that_keeps_its_stride_stay():
    # res4 has stride 16 at output strides 32 and 16, res5 32 and 16.
    semantic, instance = "MODEL.DEEPLAB2.SEMANTIC_DECODER", "MODEL.DEEPLAB2.INSTANCE_DECODER"
    options = [f"{semantic}.FEATURE", "res4", f"{semantic}.ATROUS_RATES", "[2, 4, 6]"]
    options += [f"{instance}.ATROUS_RATES", "[1, 2, 3]", "INPUT.CROP.SIZE", "[129, 161]"]
    options += ["MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", 32, "TEST.DEEPLAB2.OUTPUT_STRIDE", 16]
    node = dense_config(config(*options)).MODEL.DEEPLAB2
    assert node.SEMANTIC_DECODER.ATROUS_RATES == [2, 4, 6]
    assert node.INSTANCE_DECODER.ATROUS_RATES == [2, 4, 6]


def test_an_image_and_its_mirror_average_to_mirrored_predictions():
    model = network()
    images = torch.randn(1, 3, 65, 81)
    mean = average_views([model], images, scales=(1.0, 0.5), flip=True)
    mirrored = average_views([model], images.flip(3), scales=(1.0, 0.5), flip=True)
    torch.testing.assert_close(
        mirrored.probabilities["semantic_logits"].flip(3),
        mean.probabilities["semantic_logits"],
        rtol=1e-4,
        atol=1e-5,
    )
    dy, dx = mirrored.maps["center_offsets"].flip(3).unbind(1)
    torch.testing.assert_close(
        torch.stack((dy, -dx), 1), mean.maps["center_offsets"], rtol=1e-3, atol=1e-3
    )


def test_an_ensemble_averages_probabilities_and_offsets_of_its_members():
    first, second = network(), network()
    torch.manual_seed(1)
    for parameter in second.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    images = torch.randn(1, 3, 65, 65)
    both = average_views([first, second], images)
    alone = [average_views([model], images) for model in (first, second)]
    for name, mean in both.maps.items():
        torch.testing.assert_close(mean, (alone[0].maps[name] + alone[1].maps[name]) / 2)
    (mean,), (first, second) = (
        both.probabilities.values(),
        [one.probabilities["semantic_logits"] for one in alone],
    )
    torch.testing.assert_close(mean, (first + second) / 2)
    torch.testing.assert_close(both.prediction()["semantic_logits"].exp(), mean)
    assert not torch.allclose(alone[0].maps["center_offsets"], alone[1].maps["center_offsets"])


def test_min_sizes_of_detectron2s_augmentation_become_scales_of_each_image():
    cfg = config(
        "TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (50, 100), "TEST.AUG.MAX_SIZE", 150
    )
    averaging = AveragedSegmenter.from_config(cfg, [network()])
    # The shorter side of 100 becomes 50 and 100; the longer of 200 may not exceed 150.
    assert averaging._scales_of((100, 200)) == (0.5, 0.75)
    assert averaging.flip


@pytest.mark.slow
def test_one_view_of_one_model_and_a_model_with_itself_predict_what_the_model_does(
    dataset, tmp_path
):
    weights = tmp_path / "weights.pth"
    torch.save({"model": network().state_dict()}, weights)
    options = ["MODEL.WEIGHTS", weights]
    options += ["MODEL.DEEPLAB2.POSTPROCESSING.CENTER_THRESHOLD", -10.0]
    plain = load_test_model(config(*options))
    one_view = [*options, "TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", False]
    averaged = load_test_model(config(*one_view, "TEST.DEEPLAB2.SCALES", [1.0]))
    twice = load_test_model(config(*options), ensemble=[str(weights)])
    for (sample,) in build_test_loader(config(*options), "shapes_panoptic_val"):
        with torch.no_grad():
            expected, *found = (model([sample])[0] for model in (plain, averaged, twice))
        assert len(expected["panoptic_seg"][1]) > 2
        for output in found:
            # Log-probabilities differ from the logits by a constant a pixel.
            torch.testing.assert_close(
                output["sem_seg"].softmax(0), expected["sem_seg"].softmax(0), rtol=1e-4, atol=1e-6
            )
            is_other = output["panoptic_seg"][0] != expected["panoptic_seg"][0]
            # Near-ties of an untrained network alone.
            assert is_other.float().mean() < 1e-3


@pytest.mark.slow
def test_training_logs_throughput_and_pictures_beside_the_ground_truth(dataset, tmp_path, caplog):
    options = ["OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 5, "SOLVER.IMS_PER_BATCH", 2]
    options += ["SOLVER.DEEPLAB2.LOG_PERIOD", 2, "VIS_PERIOD", 4, "TEST.EVAL_PERIOD", 0]
    trainer = DeepLab2Trainer(config(*options))
    seen = []

    class Watch(Throughput):
        def after_step(self):
            seen.extend((name, picture.shape) for name, picture, _ in trainer.storage._vis_data)

    trainer._hooks.insert(-1, Watch(1, 10**6))
    with caplog.at_level(logging.INFO, logger="deeplab2_d2.engine.throughput"):
        trainer.train()
    assert caplog.text.count("images/s") == 2  # of the four steps after the first
    (name, shape), *_ = seen
    assert name == "predictions" and shape[0] == 3 and min(shape[1:]) > 200
    assert trainer.storage.history("images_per_second").latest() > 0
    assert list(tmp_path.glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_the_averaged_weights_are_what_is_evaluated(dataset, tmp_path):
    model, average = network(), network()
    for parameter in average.parameters():
        parameter.data.mul_(1.5)
    weights = tmp_path / "weights.pth"
    state = {"model": model.state_dict(), "average": average.state_dict()}
    torch.save(state, weights)
    with_average = config("MODEL.WEIGHTS", weights, "SOLVER.DEEPLAB2.EMA_DECAY", 0.9)
    loaded = load_model(with_average).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in average.state_dict().items())
    torch.save({"model": model.state_dict()}, weights)
    with pytest.raises(ConfigError, match="EMA_DECAY must be 0.*no averaged weights"):
        load_model(with_average)


def test_an_evaluation_needs_trained_weights_in_every_part(dataset, tmp_path):
    with pytest.raises(
        ConfigError, match="WEIGHTS must be a trained model's, got '', which leaves"
    ):
        evaluate(config())
    # Trained on ImageNet: a backbone alone.
    weights = tmp_path / "backbone.pth"
    state = {k: v for k, v in network().state_dict().items() if k.startswith("backbone.")}
    torch.save({"model": state}, weights)
    message = (
        r"backbone.pth', which leaves random head.semantic_decoder \(\d+\), head.*--allow-random"
    )
    for use in (evaluate, DeepLab2Predictor, VideoPredictor):
        with pytest.raises(ConfigError, match=message):
            use(config("MODEL.WEIGHTS", weights))
    predictor = DeepLab2Predictor(config("MODEL.WEIGHTS", weights), allow_random_weights=True)
    loaded = predictor.model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_the_input_of_an_ensemble_is_padded_for_its_coarsest_member():
    models = [
        network("MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", stride, "TEST.DEEPLAB2.PAD_TO", [0, 0])
        for stride in (16, 32, 32, 8)
    ]
    averaged, sizes = AveragedSegmenter(models), []
    for model in models:
        model.backbone.register_forward_pre_hook(
            lambda _, inputs: sizes.append(tuple(inputs[0].shape[-2:]))
        )
    with torch.no_grad():
        (output,) = averaged([{"image": torch.zeros(3, 70, 40)}])
    # 1 + the next multiple of 32, where strides of 16 and 8 would do with (81, 49) and (73, 41).
    assert sizes == [(97, 65)] * 4
    assert output["sem_seg"].shape[-2:] == (70, 40)


def test_what_is_frozen_and_random_is_named_and_what_is_frozen_stays(dataset, tmp_path, caplog):
    options = ["OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2]
    options += ["TEST.EVAL_PERIOD", 0, "DATASETS.TEST", "()", "MODEL.BACKBONE.FREEZE_AT", 3]
    trainer = DeepLab2Trainer(config(*options))
    before = {k: v.clone() for k, v in trainer.checkpointer.model.state_dict().items()}
    trainer.resume_or_load(resume=False)
    assert "FREEZE_AT 3 keeps weights as they are" in caplog.messages[-1]
    assert "backbone.stem (" in caplog.messages[-1] and "stage4" not in caplog.messages[-1]
    trainer.train()
    after = trainer.checkpointer.model.state_dict()
    moved = {k.split(".")[1] for k in before if not torch.equal(before[k], after[k])}
    assert {"stage4", "stage5"} <= moved and not moved & {"stem", "stage2", "stage3"}


def test_a_number_of_classes_that_is_not_the_datasets_is_refused():
    with pytest.raises(ValueError, match="NUM_CLASSES.*must fit the 7 classes.*got 9"):
        DeepLab2Trainer.build_model(config("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 9))
    with pytest.raises(ValueError, match="IGNORE_VALUE must be 255.*got 0"):
        DeepLab2Trainer.build_model(config("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 0))


def test_pictures_need_ground_truth(tmp_path):
    with pytest.raises(ConfigError, match="VIS_PERIOD must be 0"):
        DeepLab2Trainer(config("OUTPUT_DIR", tmp_path, "VIS_PERIOD", 5, "DATASETS.TEST", ()))


def test_a_test_split_gets_its_servers_files_instead_of_scores(tmp_path):
    cfg = config("OUTPUT_DIR", tmp_path)
    built = {
        name: [type(e).__name__ for e in build_evaluators(cfg, name)._evaluators]
        for name in ("cityscapes_fine_panoptic_test", "coco_2017_test-dev_panoptic")
    }
    assert built == {
        "cityscapes_fine_panoptic_test": [
            "CityscapesSemanticSubmission",
            "PanopticSubmission",
            "CityscapesInstanceSubmission",
        ],
        "coco_2017_test-dev_panoptic": ["PanopticSubmission"],
    }
    submission = build_evaluators(cfg, "coco_2017_test-dev_panoptic")._evaluators[0]
    assert submission._staging.folder.endswith("panoptic_test-dev2017_deeplab2_results")
