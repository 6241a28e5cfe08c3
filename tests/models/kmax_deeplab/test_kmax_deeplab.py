"""kMaX-DeepLab: its k-means step by hand, its layers' losses, its outputs when it is tested."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor

from deeplab2_d2.engine import load_config
from deeplab2_d2.layers import PixelAssignment, resize_align_corners
from deeplab2_d2.models import average_views
from deeplab2_d2.models.kmax_deeplab import RECORD
from deeplab2_d2.solver import KerasAdamW, build_optimizer

CONFIG = str(
    Path(__file__).resolve().parents[3]
    / "configs/Shapes-PanopticSegmentation"
    / "kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml"
)
NODE = "MODEL.DEEPLAB2.KMAX_DEEPLAB."
LAYER_LOSSES = ("loss_pq_class", "loss_pq_mask", "loss_mask_id", "loss_instance_discrimination")


def model(*options: Any) -> Any:
    torch.manual_seed(0)
    narrow = ("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0")
    return build_model(load_config(CONFIG, [*narrow, *map(str, options)])).eval()


def image(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, 33, 65), generator=generator).float()


def training_sample(seed: int = 1) -> dict:
    """Three things of class 0, 1, 2 side by side on the stuff of class 4; void at the right."""
    classes, things = torch.full((128,), -1), torch.full((33, 65), -1, dtype=torch.int32)
    classes[:3] = torch.arange(3)
    semantic = torch.full((33, 65), 4)
    for index in range(3):
        columns = slice(8 * index, 8 * index + 8)
        things[4:20, columns] = semantic[4:20, columns] = index
    semantic[:, 40:] = 255
    return {
        "file_name": "generated.png",
        "image": image(seed),
        "sem_seg": semantic,
        "sem_seg_weights": torch.ones(33, 65),
        "thing_masks": things,
        "thing_classes": classes,
    }


def test_a_center_gains_the_sum_of_the_pixels_that_are_nearest_to_it():
    # Four pixels, three centers: the first has pixels 0 and 3, the second pixel 1, the third none
    # (a tie goes to the first).
    logits = torch.tensor([[[5.0, 1.0, 2.0, 9.0], [0.0, 4.0, 2.0, 1.0], [1.0, 3.0, 2.0, 8.0]]])
    values = torch.tensor([[[1.0, 2.0, 4.0, 8.0], [10.0, 20.0, 40.0, 80.0]]])
    gathered = values @ PixelAssignment()(logits.view(1, 3, 2, 2), values)
    assert gathered.tolist() == [[[13.0, 2.0, 0.0], [130.0, 20.0, 0.0]]]


def test_the_assignment_has_no_gradient_and_the_values_have_that_of_their_center():
    logits = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]], requires_grad=True)
    values = torch.zeros(1, 1, 2, requires_grad=True)
    gathered = values @ PixelAssignment()(logits, values)
    (gathered * torch.tensor([3.0, 5.0])).sum().backward()
    assert logits.grad is None
    assert values.grad.tolist() == [[[3.0, 5.0]]]


@pytest.mark.parametrize("matches_each", [False, True])
def test_every_layer_learns_and_every_parameter_has_a_gradient(matches_each):
    network = model(NODE + "MATCH_EACH", matches_each).train()
    losses = network([training_sample(), training_sample(2)])
    suffixes = ["", "_aux0", "_aux1", "_aux2", "_aux3"]
    expected = {name + suffix for name in LAYER_LOSSES for suffix in suffixes}
    assert set(losses) == expected | {"loss_semantic"}
    sum(losses.values()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []


def test_layers_are_matched_as_the_last_prediction_or_each_by_itself():
    samples = [training_sample(), training_sample(2)]
    losses = []
    for value in (False, True):
        network = model(NODE + "MATCH_EACH", value).train()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(network(samples))
    for name in ("loss_pq_class", "loss_mask_id", "loss_instance_discrimination_aux0"):
        assert losses[0][name] == losses[1][name]
    # Its own matching is the best for a layer.
    assert losses[0]["loss_pq_class_aux0"] != losses[1]["loss_pq_class_aux0"]


def test_maps_of_the_layers_are_brought_to_the_size_of_the_masks():
    network = model()
    network.head.has_auxiliary_in_evaluation = True
    with torch.no_grad():
        prediction = network.predict(network.batch([{"image": image()}]).tensor)
    layers = network.auxiliary_predictions(prediction)
    assert len(layers) == 4
    for index, layer in enumerate(layers):
        assert set(layer) == {"mask_logits", "class_logits", "pixel_features"}
        raw = prediction[f"auxiliary{index}/mask_logits"]
        expected = resize_align_corners(raw, prediction["mask_logits"].shape[-2:])
        assert torch.equal(layer["mask_logits"], expected)
    # Strides 32, 16 and twice 8 of 33 x 65.
    sizes = [tuple(prediction[f"auxiliary{i}/mask_logits"].shape[-2:]) for i in range(4)]
    assert sizes == [(2, 3), (3, 5), (5, 9), (5, 9)]


def test_evaluation_computes_no_more_than_the_last_prediction_and_averages_views():
    network = model()
    images = network.batch([{"image": image()}])
    with torch.no_grad():
        prediction = network.predict(images.tensor)
        assert set(prediction) == {"mask_logits", "class_logits", "pixel_features"}
        assert RECORD.averaging is not None
        mean = average_views(
            [network], images.tensor, scales=[1.0], flip=False, averaging=RECORD.averaging
        )
    # One view is what it was.
    found, expected = mean.probabilities["mask_logits"], prediction["mask_logits"].softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_masks_of_stride_2_and_an_auxiliary_head_without_a_decoder():
    network = model(NODE + "MASK_STRIDE", 2, NODE + "AUXILIARY_DECODER", False)
    assert network.head.semantic_decoder is None
    network.head.has_semantic_in_evaluation = True
    with torch.no_grad():
        prediction = network.predict(network.batch([{"image": image()}]).tensor)
    assert tuple(prediction["mask_logits"].shape[-2:]) == (17, 33)
    # Of the backbone's last feature.
    assert tuple(prediction["semantic_logits"].shape[-2:]) == (2, 3)


@pytest.mark.parametrize(
    "key, value, rule",
    [
        ("MASK_STRIDE", 8, "one of"),
        ("CENTER_CHANNELS", 100, "a positive multiple of 16"),
        ("TRANSFORMER_LAYERS", [1, 1], "3 integers of at least 0"),
        ("CENTER_DROP_PATH", 0.0, r"in \(0, 1\]"),
    ],
)
def test_values_that_cannot_work_are_refused_by_key(key, value, rule):
    with pytest.raises(ValueError, match=f"{NODE}{key}.*{rule}"):
        model(NODE + key, value)


def test_a_backbone_without_the_features_that_are_read_is_refused():
    with pytest.raises(ValueError, match="needs a backbone with the features.*stage5"):
        model("MODEL.DEEPLAB2.BACKBONE.NAME", "mobilenet_v3_small")


def test_adamw_decays_kernels_and_no_center_norm_bias_or_position():
    # ConvNeXt has a scale a channel besides.
    options = ["MODEL.DEEPLAB2.BACKBONE.NAME", "convnext_tiny"]
    options += ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "0.1"]
    cfg = load_config(CONFIG, [*options, "MODEL.DEVICE", "meta"])
    cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL = [["stage3", 32], ["stage2", 16]]
    network = build_model(cfg)
    optimizer = build_optimizer(cfg, network)
    assert isinstance(optimizer, KerasAdamW)
    decays = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0, 0.05}
    names = {name: parameter for name, parameter in network.named_parameters()}
    still = {name for name, parameter in names.items() if id(parameter) not in decays}
    assert {name for name in names if name.endswith((".bias", "layer_scale"))} <= still
    assert "head.transformer_decoder.cluster_centers" in still
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)
    kernels = {
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, kinds)
    }
    # DeepLab2's one kernel of queries, keys and values in axial attention is a parameter by itself.
    kernels |= {name for name in names if name.endswith(".qkv_kernel")}
    assert {name for name in names if name not in still} == kernels
    assert any(name.endswith("_rpe.weight") for name in still)
