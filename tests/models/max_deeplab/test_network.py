from pathlib import Path

import numpy as np
import plain_forms
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.utils.visualizer import Visualizer

from deeplab2_d2.engine import load_config
from deeplab2_d2.losses import MaskOutputs, build_mask_targets
from deeplab2_d2.models.max_deeplab.averaging import match_slots
from deeplab2_d2.models.target_batch import stack_targets

CONFIG = str(
    Path(__file__).resolve().parents[3]
    / "configs/Shapes-PanopticSegmentation"
    / "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
LOSSES = {
    "loss_pq_class",
    "loss_pq_mask",
    "loss_mask_id",
    "loss_instance_discrimination",
    "loss_semantic",
}


def model(*options):
    torch.manual_seed(0)
    return build_model(load_config(CONFIG, list(options))).eval()


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator).float()


def training_sample(height=33, width=49, num_things=3, seed=1):
    """Three vertical things of class 0, 1, 2 on the stuff of class 4; void at the right."""
    classes = torch.full((128,), -1)
    classes[:num_things] = torch.arange(num_things)
    things = torch.full((height, width), -1, dtype=torch.int32)
    semantic = torch.full((height, width), 4)
    for index in range(num_things):
        things[4:20, 8 * index : 8 * index + 8] = index
        semantic[4:20, 8 * index : 8 * index + 8] = index
    semantic[:, 40:] = 255
    return {
        "file_name": "generated.png",
        "image": image(height, width, seed),
        "sem_seg": semantic,
        "sem_seg_weights": torch.ones(height, width),
        "thing_masks": things,
        "thing_classes": classes,
    }


def plain_losses(network, samples):
    """The losses of a network in training by the plain forms, left to autograd."""
    criterion = network.criterion
    images = network.batch(samples)
    targets = stack_targets(
        samples, criterion.target_padding, size=images.tensor.shape[-2:], device=network.device
    )
    prediction = network.predict(images.tensor)
    masks = build_mask_targets(
        targets["sem_seg"],
        targets["thing_masks"],
        targets["thing_classes"],
        size=prediction["mask_logits"].shape[-2:],
        thing_ids=criterion.thing_ids,
        stuff_ids=criterion.stuff_ids,
        ignore_label=255,
    )
    outputs = MaskOutputs(
        prediction["mask_logits"].flatten(2),
        prediction["class_logits"],
        prediction["pixel_features"].flatten(2),
    )
    # As in DeepLab2, labels are those of the pixels that logits at stride 4 are centered on.
    labels = targets["sem_seg"][:, ::4, ::4]
    losses, _ = plain_forms.mask_transformer_losses(
        [outputs], masks, criterion.options, prediction["semantic_logits"], labels, None, 255
    )
    return {name: loss.mean() for name, loss in losses.items()}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("MODEL.DEEPLAB2.LOSS.PQ_STYLE_SIMILARITY", "sum"),
        (
            "MODEL.DEEPLAB2.LOSS.UNMATCHED_WEIGHT",
            "one",
            "MODEL.DEEPLAB2.LOSS.MASK_ID",
            "[2.0, 0.3]",
        ),
    ],
    ids=["default", "sum", "other weights"],
)
def test_training_gives_the_losses_and_gradients_of_their_plain_forms(options):
    samples = [training_sample(), training_sample(seed=2)]
    networks = [without_dropout(model(*options).train()) for _ in range(2)]
    found, expected = networks[0](samples), plain_losses(networks[1], samples)
    assert set(found) == set(expected) == LOSSES
    for name, loss in expected.items():
        # Means over pixels in another order.
        torch.testing.assert_close(found[name], loss, rtol=1e-4, atol=1e-6)
        assert found[name].dtype == torch.float32
    for losses in (found, expected):
        sum(losses.values()).backward()
    for (name, parameter), other in zip(networks[0].named_parameters(), networks[1].parameters()):
        error = (parameter.grad - other.grad).norm()
        assert error <= 1e-3 * other.grad.norm() + 1e-6, name


def test_a_weight_of_zero_leaves_a_loss_out():
    network = model(
        *("MODEL.DEEPLAB2.LOSS.MASK_ID", "[0.0, 1.0]"),
        *("MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION", "[0.0, 1.0]"),
        *("MODEL.DEEPLAB2.MAX_DEEPLAB.AUXILIARY_SEMANTIC", "False"),
    )
    losses = network.train()([training_sample(), training_sample()])
    assert set(losses) == {"loss_pq_class", "loss_pq_mask"}


@pytest.mark.parametrize(
    "left_out, remaining",
    [
        (["SEMANTIC"], LOSSES - {"loss_semantic"}),
        (["PQ_STYLE"], LOSSES - {"loss_pq_class", "loss_pq_mask"}),
        (["PQ_STYLE", "MASK_ID", "INSTANCE_DISCRIMINATION"], {"loss_semantic"}),
    ],
    ids=lambda names: "-".join(sorted(names)),
)
def test_what_no_loss_is_left_for_has_a_gradient_of_zero(left_out, remaining):
    # Without any, training in several processes stops at the second step.
    options = [("MODEL.DEEPLAB2.LOSS." + name, "[0.0, 1.0]") for name in left_out]
    network = model(*sum(options, ())).train()
    losses = network([training_sample(), training_sample(seed=2)])
    assert set(losses) == remaining
    sum(losses.values()).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    idle = network.head.transformer_class_head if "PQ_STYLE" in left_out else None
    idle = idle or network.head.semantic_head.final_conv
    assert all(torch.all(p.grad == 0) for p in idle.parameters())


def test_images_of_different_sizes_are_padded_with_pixels_that_have_no_loss():
    network = model().train()
    small, large = training_sample(33, 49), training_sample(49, 65)
    padding = network.criterion.target_padding
    targets = stack_targets([small, large], padding, size=(49, 65), device=network.device)
    assert targets["sem_seg"].shape == (2, 49, 65)
    assert torch.all(targets["sem_seg"][0, 33:] == 255)
    assert torch.all(targets["thing_masks"][0, 33:] == -1)
    assert torch.all(targets["sem_seg_weights"][0, 33:] == 0)


def test_images_without_things_or_without_any_label_have_no_loss_of_them():
    stuff, void = training_sample(num_things=0), training_sample(num_things=0)
    void["sem_seg"].fill_(255)
    losses = model().train()([void, void])
    losses = {name: loss.item() for name, loss in losses.items()}
    # Slots are to be void all the same.
    assert losses.pop("loss_pq_class") > 0
    assert losses == dict.fromkeys(LOSSES - {"loss_pq_class"}, 0.0)
    losses = model().train()([stuff, void])
    assert losses.pop("loss_instance_discrimination").item() == 0.0
    assert all(0 < loss.item() < 100 for loss in losses.values())


def test_a_batch_without_images_is_refused():
    for network in (model(), model().train()):
        with pytest.raises(ValueError, match="images must hold at least one image, got none"):
            network([])


def test_an_image_with_more_masks_than_slots_is_named_or_loses_its_smallest():
    options = [
        "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.MEMORY.NUM_SLOTS",
        "3",
        "MODEL.DEEPLAB2.LOSS.SURPLUS_MASKS",
    ]
    few, many = training_sample(num_things=2), training_sample(num_things=3)
    many["file_name"] = "crowded.png"
    # Two things and a stuff class fit into three slots, three things do not.
    message = r"image 1 of the batch \(crowded.png\) has 4 masks, more than the 3 slots.*SURPLUS"
    with pytest.raises(ValueError, match=message):
        model(*options, "error").train()([few, many])
    for surplus in ("largest", "unmatched"):
        losses = model(*options, surplus).train()([few, many])
        assert all(torch.isfinite(loss) for loss in losses.values())
        # DeepLab2's, of pixels whose mask has no slot, is huge.
        assert (losses["loss_mask_id"] > 100) == (surplus == "unmatched")


def test_more_samples_than_pixels_are_refused_where_the_loss_has_a_weight():
    key = "MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION"
    # The masks of 33 x 49 pixels have 9 x 13.
    options = (f"{key}_SAMPLING", "[118, 0.6]")
    with pytest.raises(ValueError, match=f"{key}_SAMPLING must be of at most 117 .*got 118"):
        model(*options).train()([training_sample()])
    losses = model(*options, key, "[0.0, 1.0]").train()([training_sample()])
    assert set(losses) == LOSSES - {"loss_instance_discrimination"}
    assert set(model(f"{key}_SAMPLING", "[117, 0.6]").train()([training_sample()])) == LOSSES


def test_training_and_evaluation_give_the_class_channels_the_same_classes():
    # Of Cityscapes' 19 classes the things are the last eight: the first channels are theirs.
    network = model(
        *("DATASETS.TRAIN", "('cityscapes_fine_panoptic_train',)"),
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "19"),
    )
    criterion = network.criterion
    classes = (*criterion.thing_ids, *criterion.stuff_ids)
    assert classes == (*range(11, 19), *range(11))
    prediction = confident_prediction(num_channels=20)
    # Slot 3 says channel 1, slot 5 channel 8, the first after the things.
    prediction["class_logits"][:, 5, 6] = 0.0
    prediction["class_logits"][:, 5, 8] = 20.0
    images = network.batch([{"image": image(33, 49)}])
    _, segments = network.postprocess(prediction, images, [{}])[0]["panoptic_seg"]
    assert [s["category_id"] for s in segments] == [0, 12]
    assert [s["isthing"] for s in segments] == [False, True]
    semantic = torch.full((1, 33, 49), 0)
    semantic[:, :, :20] = 12
    targets = {
        "sem_seg": semantic,
        "sem_seg_weights": torch.ones(1, 33, 49),
        "thing_masks": torch.where(semantic == 12, 0, -1),
        "thing_classes": torch.tensor([[12, -1]]),
    }
    right, _ = criterion([prediction], targets)
    targets["thing_classes"] = torch.tensor([[13, -1]])
    wrong, _ = criterion([prediction], targets)
    assert float(right["loss_pq_class"]) < float(wrong["loss_pq_class"])


def test_a_sample_without_masks_is_named():
    sample = training_sample()
    del sample["thing_classes"]
    with pytest.raises(KeyError, match="thing_classes.*generated.png"):
        model().train()([sample, sample])


def confident_prediction(height=9, width=13, num_slots=128, num_channels=8):
    """Slot 3 is class 1 (a thing) on the left, slot 5 class 6 (stuff) on the right."""
    masks = torch.zeros(1, num_slots, height, width)
    masks[:, 3, :, :6] = 20.0
    masks[:, 5, :, 6:] = 20.0
    classes = torch.zeros(1, num_slots, num_channels)
    classes[..., -1] = 10.0
    classes[:, 3, 1] = classes[:, 5, 6] = 20.0
    features = torch.zeros(1, 4, height, width)
    semantic = torch.zeros(1, num_channels - 1, height, width)
    return {
        "mask_logits": masks,
        "class_logits": classes,
        "pixel_features": features,
        "semantic_logits": semantic,
    }


@pytest.mark.parametrize("mode", ["pixelwise", "maskwise"])
def test_outputs_have_the_size_asked_for_and_agree_with_each_other(mode):
    network = model("MODEL.DEEPLAB2.POSTPROCESSING.MASK_MODE", mode)
    images = network.batch([{"image": image(33, 49)}])
    sample = {"height": 66, "width": 98}
    output = network.postprocess(confident_prediction(), images, [sample])[0]
    panoptic_map, segments = output["panoptic_seg"]
    assert panoptic_map.shape == (66, 98)
    assert [s["category_id"] for s in segments] == [1, 6]
    assert [s["isthing"] for s in segments] == [True, False]
    areas = {s["id"]: s["area"] for s in segments}
    assert {k: int((panoptic_map == k).sum()) for k in areas} == areas
    assert output["sem_seg"].shape == (7, 66, 98)
    semantic = output["sem_seg"].argmax(0)
    assert torch.equal(
        semantic[panoptic_map > 0], (panoptic_map[panoptic_map > 0] - 1).long() // 1000
    )
    instances = output["instances"]
    assert instances.pred_classes.tolist() == [1] and float(instances.scores[0]) > 0.99
    assert torch.equal(instances.pred_masks[0], panoptic_map == segments[0]["id"])


def test_limits_on_area_make_segments_void():
    network = model("MODEL.DEEPLAB2.POSTPROCESSING.THING_AREA_LIMIT", "100000")
    images = network.batch([{"image": image(33, 49)}])
    output = network.postprocess(confident_prediction(), images, [{}])[0]
    assert [s["category_id"] for s in output["panoptic_seg"][1]] == [6]


def test_predictor_and_visualizer_of_detectron2_take_the_outputs(tmp_path):
    options = ["MODEL.DEEPLAB2.POSTPROCESSING.CONFIDENCE_THRESHOLDS", "[0.0, 0.0]"]
    network = model(*options)
    path = tmp_path / "weights.pth"
    torch.save({"model": network.state_dict()}, path)
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", str(path), *options])
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    panoptic_map, segments = DefaultPredictor(cfg)(picture)["panoptic_seg"]
    with torch.no_grad():
        # The predictor takes BGR, the model of this config RGB.
        channels_first = torch.as_tensor(picture[:, :, ::-1].transpose(2, 0, 1).astype("float32"))
        ((expected_map, expected_segments),) = (
            output["panoptic_seg"] for output in network([{"image": channels_first}])
        )
    assert torch.equal(panoptic_map, expected_map) and segments == expected_segments
    visualizer = Visualizer(picture, MetadataCatalog.get(cfg.DATASETS.TEST[0]))
    drawn = visualizer.draw_panoptic_seg_predictions(panoptic_map, segments).get_image()
    assert segments and (drawn != picture).any()


def test_views_of_which_the_slots_are_shuffled_average_to_the_first_view():
    prediction = confident_prediction()
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    masks, classes = prediction["mask_logits"].softmax(1), prediction["class_logits"].softmax(2)
    found = match_slots(masks, classes, masks[:, order], classes[:, order])
    # Slots 3 and 5 are found again; the others have nothing to be told apart by.
    assert order[found[0, 3]] == 3 and order[found[0, 5]] == 5
