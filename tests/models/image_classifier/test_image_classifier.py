"""The classifier of images: its loss, its weights in other models, published classifiers."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from narrow_backbones import narrow_backbone

from deeplab2_d2 import add_deeplab2_config
from deeplab2_d2.backbones import build_backbone_by_name
from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.load import find_parameter
from deeplab2_d2.config import merge_config_file, validate_config
from deeplab2_d2.layers import Norm
from deeplab2_d2.models.image_classifier import DeepLab2ImageClassifier

# One of each family, and what differs in how the last map is found.
FAMILIES = (
    *("resnet_tiny", "axial_resnet_l", "convnext_tiny", "moat0", "mobilenet_v3_small"),
    *("xception_41", "vgg16", "resnet50_torchvision", "auto_deeplab_s_short"),
    *("hrnet_w18_plus", "hrnet_w18_concatenated"),
)


def classifier(backbone, **options):
    return DeepLab2ImageClassifier(
        backbone=backbone,
        num_classes=5,
        pixel_mean=[127.5] * 3,
        pixel_std=[127.5] * 3,
        **options,
    )


def batch(count=2, side=64):
    return [
        {"image": 255 * torch.rand(3, side, side), "class_id": torch.tensor(k)}
        for k in range(count)
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_of_every_family_learns(name):
    # What has no gradient would also stop a training in several processes.
    model = classifier(narrow_backbone(name, 32)).train()
    with torch.no_grad():
        model.classifier.logits.weight.normal_()
    model(batch())["loss_classification"].backward()
    still = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert still == []
    assert (model.classifier.norm is not None) == name.startswith(("convnext", "moat"))


def test_the_loss_is_cross_entropy_against_a_smoothed_target():
    model = classifier(narrow_backbone("resnet_tiny", 32), label_smoothing=0.1)
    samples = batch()
    model.train()
    logits = model.logits(torch.stack([s["image"] for s in samples]) / 127.5 - 1)
    log_probabilities = logits - logits.exp().sum(1, keepdim=True).log()
    # 0.9 on the class and 0.1 / 5 on each of the five.
    target = torch.full((2, 5), 0.02)
    target[0, 0] += 0.9
    target[1, 1] += 0.9
    expected = -(target * log_probabilities).sum(1).mean()
    assert torch.allclose(model(samples)["loss_classification"], expected, atol=1e-5)


def test_scores_of_an_image_are_the_linear_layer_of_the_averaged_map():
    model = classifier(narrow_backbone("moat0", 32)).eval()
    (sample,) = batch(1)
    with torch.no_grad():
        pixels = sample["image"][None] / 127.5 - 1
        pooled = model.backbone.endpoints(pixels)["stage5"].mean((2, 3))[0]
        centered = pooled - pooled.mean()
        # Layer norm with MOAT's epsilon.
        normed = centered / (centered.square().mean() + 1e-5).sqrt()
        head = model.classifier
        normed = normed * head.norm.weight + head.norm.bias
        expected = head.logits.weight[:, :, 0, 0] @ normed + head.logits.bias
        (output,) = model([sample])
    assert torch.allclose(output["class_scores"], expected, atol=1e-5)


def test_in_mixed_precision_the_loss_is_float32():
    model = classifier(narrow_backbone("resnet_tiny", 32)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(batch())["loss_classification"].dtype == torch.float32


@pytest.mark.parametrize(
    "name, words", [("max_deeplab_tiny", "without a memory path"), ("hrnet_w18", "branches meet")]
)
def test_networks_of_which_a_part_would_not_learn_are_refused(name, words):
    backbone = build_backbone_by_name(name, norm=Norm("BN"))
    with pytest.raises(ValueError, match=words):
        classifier(backbone)


def config(file, *options):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    merge_config_file(cfg, f"configs/{file}.yaml")
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *options])
    validate_config(cfg)
    return cfg


def test_its_weights_are_those_of_a_segmentation_model_with_the_backbone(tmp_path):
    pretrained = build_model(
        config("Shapes-Classification/resnet_tiny_os32_cosine_bs32_crop_33_33")
    )
    DeepLab2Checkpointer(pretrained, str(tmp_path)).save("model_final")
    shapes = "Shapes-PanopticSegmentation"
    for file, width in (
        ("panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161", 1.0),
        ("kmax_deeplab_tiny_os32_poly_bs8_crop_129_161", 1.0),
    ):
        options = ("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", width)
        model = build_model(config(f"{shapes}/{file}", *options))
        checkpointer = DeepLab2Checkpointer(model)
        checkpointer.load(str(tmp_path / "model_final.pth"))
        assert not any(name.startswith("backbone.") for name in checkpointer.unloaded)
        images = torch.randn(1, 3, 65, 65)
        with torch.no_grad():
            found = model.backbone.eval().endpoints(images)
            expected = pretrained.backbone.eval().endpoints(images)
        for name in ("res2", "res3"):
            assert torch.equal(found[name], expected[name])


def test_published_classifiers_have_their_parameters():
    norm = find_parameter("moat/final_layer_norm/gamma")
    logits = find_parameter("moat/logits_head/kernel")
    assert (norm.name, norm.shape((768,))) == ("classifier.norm.weight", (768,))
    assert logits.name == "classifier.logits.weight"
    assert logits.shape((1, 1, 768, 1000)) == (1000, 768, 1, 1)


def test_of_tf_slims_1001_classes_the_first_is_none():
    weights = find_parameter("xception_65/logits/weights")
    biases = find_parameter("xception_65/logits/biases")
    values = torch.arange(1001.0).expand(1, 1, 3, 1001).numpy()
    assert weights.name, biases.name == ("classifier.logits.weight", "classifier.logits.bias")
    assert weights.to_layout(values)[:, 0, 0, 0].tolist() == list(range(1, 1001))
    assert biases.to_layout(values[0, 0, 0]).tolist() == list(range(1, 1001))


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("MODEL.DEEPLAB2.IMAGE_CLASSIFIER.LABEL_SMOOTHING", 1.0, r"in \[0, 1\)"),
        ("MODEL.DEEPLAB2.IMAGE_CLASSIFIER.DROPOUT", -0.1, r"in \[0, 1\)"),
        ("INPUT.DEEPLAB2.CLASSIFICATION.AREA_RANGE", [0.5, 0.1], "share in"),
        ("INPUT.DEEPLAB2.CLASSIFICATION.ASPECT_RANGE", [0.0, 1.0], "positive ratio"),
        ("INPUT.DEEPLAB2.CLASSIFICATION.COLOR_POLICY", "mixup", "one of"),
        ("INPUT.DEEPLAB2.CLASSIFICATION.CROP_FRACTION", 0.0, r"in \(0, 1\]"),
        ("INPUT.CROP.SIZE", [0, 33], "in pixels"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 1, "at least 2"),
        ("TEST.AUG.ENABLED", True, "one of False"),
    ],
)
def test_values_that_cannot_work_are_refused_by_key(key, value, words):
    with pytest.raises(ValueError, match=words) as error:
        config("Shapes-Classification/resnet_tiny_os32_cosine_bs32_crop_33_33", key, value)
    assert key in str(error.value)
