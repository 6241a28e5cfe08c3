from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.utils.visualizer import Visualizer

from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.engine.predictor import DeepLab2Predictor
from deeplab2_d2.models.panoptic_deeplab import LossTerm, PanopticDeepLabCriterion
from deeplab2_d2.structures import deeplab2_coco_class_map, identity_class_map

CONFIG = str(
    Path(__file__).resolve().parents[3]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
# Every center of an untrained network, and no area limit: maps with many segments.
OPTIONS = [
    "MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER",
    "1.0",
    "MODEL.DEEPLAB2.POSTPROCESSING.CENTER_THRESHOLD",
    "-10.0",
    "MODEL.DEEPLAB2.POSTPROCESSING.STUFF_AREA_LIMIT",
    "0",
]


def config(*options):
    return load_config(CONFIG, [*OPTIONS, *options])


def model(*options):
    torch.manual_seed(0)
    return build_model(config(*options)).eval()


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator).float()


def training_sample(height=33, width=49):
    generator = torch.Generator().manual_seed(1)
    return {
        "file_name": "generated.png",
        "image": image(height, width),
        "sem_seg": torch.randint(0, 7, (height, width), generator=generator),
        "sem_seg_weights": torch.ones(height, width),
        "center_heatmap": torch.rand(1, height, width, generator=generator),
        "center_weights": torch.ones(height, width),
        "center_offsets": 5 * torch.randn(2, height, width, generator=generator),
        "offset_weights": torch.ones(height, width),
    }


def test_training_gives_three_losses_by_their_formulas_whose_gradients_reach_every_parameter():
    network = without_dropout(model().train())
    samples = [training_sample(), training_sample()]
    losses = network(samples)
    raw = network.predict(network.batch(samples).tensor)
    whole = {
        name: F.interpolate(values, (33, 49), mode="bilinear", align_corners=True)
        for name, values in raw.items()
    }
    targets = {
        name: torch.stack([sample[name] for sample in samples])
        for name in ("sem_seg", "center_heatmap", "center_offsets")
    }
    # Offsets are in pixels of the raw map, and the targets in those of the image.
    offsets = whole["center_offsets"] * 4
    expected = {
        "loss_semantic": F.cross_entropy(whole["semantic_logits"], targets["sem_seg"]),
        "loss_center": 200 * F.mse_loss(whole["center_heatmap"], targets["center_heatmap"]),
        "loss_offset": 0.01 * F.l1_loss(offsets, targets["center_offsets"]),
    }
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        # float32 means over 3234 pixels in another order.
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=0)
    sum(losses.values()).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]


def test_the_ablations_heatmap_learns_by_the_cross_entropy_of_its_sigmoid():
    options = ("LOSS.CENTER_ERROR", "cross_entropy", "LOSS.CENTER", "[3.0,1.0]")
    options += ("INSTANCE_SHARES", "decoder")
    options = [f"MODEL.DEEPLAB2.{word}" if k % 2 == 0 else word for k, word in enumerate(options)]
    network = without_dropout(model(*options).train())
    sample = training_sample()
    losses = network([sample, sample])
    sum(losses.values()).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    heatmap = network.predict(network.batch([sample, sample]).tensor)["center_heatmap"]
    whole = F.interpolate(heatmap, (33, 49), mode="bilinear", align_corners=True)
    target = torch.stack([sample["center_heatmap"]] * 2)
    expected = 3 * F.binary_cross_entropy(whole, target)
    torch.testing.assert_close(losses["loss_center"], expected, rtol=1e-5, atol=0)
    assert 0 < heatmap.min() and heatmap.max() < 1
    with torch.no_grad():
        assert "panoptic_seg" in network.eval()([{"image": image(40, 30)}])[0]


@pytest.mark.parametrize(
    "key, value, rule",
    [
        ("INSTANCE_SHARES", "head", "one of 'nothing', 'aspp', 'decoder'"),
        ("LOSS.CENTER_ERROR", "mse", "one of 'squared', 'cross_entropy'"),
    ],
)
def test_an_ablation_that_the_paper_does_not_have_is_refused(key, value, rule):
    with pytest.raises(ConfigError, match=f"{key} must be {rule}, got '{value}'"):
        config(f"MODEL.DEEPLAB2.{key}", value)


def test_a_semantic_only_model_has_one_loss_and_one_output():
    network = model("MODEL.DEEPLAB2.INSTANCE_ENABLED", "False")
    with torch.no_grad():
        assert set(network([{"image": image(40, 30)}])[0]) == {"sem_seg"}
    assert set(network.train()([training_sample(), training_sample()])) == {"loss_semantic"}


def test_a_sample_without_targets_is_named():
    sample = training_sample()
    del sample["center_offsets"]
    with pytest.raises(KeyError, match="center_offsets.*generated.png"):
        model().train()([sample, sample])


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (33, 49), (130, 97)])
def test_outputs_have_the_size_asked_for_and_agree_with_each_other(size):
    output_size = (size[0] + 7, size[1] * 2)
    sample = {"image": image(*size), "height": output_size[0], "width": output_size[1]}
    with torch.no_grad():
        output = model()([sample])[0]
    segment_map, segments = output["panoptic_seg"]
    assert output["sem_seg"].shape == (7, *output_size)
    assert tuple(segment_map.shape) == output_size
    areas = {segment["id"]: segment["area"] for segment in segments}
    assert areas == {int(i): int((segment_map == i).sum()) for i in segment_map.unique() if i > 0}
    semantic = output["sem_seg"].argmax(0)
    for segment in segments:
        inside = semantic[segment_map == segment["id"]]
        # A stuff segment is made of pixels of its class, an instance has it in the majority.
        votes = inside.bincount(minlength=7)
        assert votes.argmax() == segment["category_id"]
        assert segment["isthing"] == (segment["category_id"] < 4)
        assert segment["isthing"] or votes.max() == len(inside)
    things = [segment for segment in segments if segment["isthing"]]
    instances = output["instances"]
    assert len(instances) == len(things)
    assert sorted(instances.scores.tolist(), reverse=True) == instances.scores.tolist()
    for mask, box, category in zip(
        instances.pred_masks, instances.pred_boxes.tensor, instances.pred_classes
    ):
        ids = segment_map[mask].unique()
        assert len(ids) == 1 and int(mask.sum()) == areas[int(ids)]
        ys, xs = mask.nonzero(as_tuple=True)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert {s["category_id"] for s in things if s["id"] == int(ids)} == {int(category)}


def test_a_batch_of_two_images_of_one_size_equals_two_batches_of_one():
    network = model()
    samples = [{"image": image(40, 60, seed)} for seed in (1, 2)]
    with torch.no_grad():
        together = network(samples)
        alone = [network([sample])[0] for sample in samples]
    for one, other in zip(together, alone):
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-4, atol=1e-5)
        different = (one["panoptic_seg"][0] != other["panoptic_seg"][0]).float().mean()
        assert different < 1e-2  # convolutions of another batch size may round otherwise


def test_images_of_different_sizes_in_one_batch_are_padded_to_the_largest():
    samples = [{"image": image(40, 60)}, {"image": image(25, 90)}]
    # 1 + multiples of 16.
    padded = model("TEST.DEEPLAB2.PAD_TO", "[49, 97]")
    with torch.no_grad():
        together = model()(samples)
        alone = [padded([sample])[0] for sample in samples]
    for one, other in zip(together, alone):
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-4, atol=1e-5)
        different = one["panoptic_seg"][0] != other["panoptic_seg"][0]
        assert different.float().mean() < 1e-2  # as above
    assert [tuple(o["panoptic_seg"][0].shape) for o in together] == [(40, 60), (25, 90)]


@pytest.mark.parametrize(
    "predictor_class", [DefaultPredictor, partial(DeepLab2Predictor, allow_random_weights=True)]
)
def test_predictor_and_visualizer_of_detectron2_take_the_outputs_unchanged(predictor_class):
    cfg = config("MODEL.WEIGHTS", "")
    predictor = predictor_class(cfg)
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    output = predictor(picture)
    # The predictor takes BGR, the model of this config RGB.
    channels_first = torch.as_tensor(picture[:, :, ::-1].transpose(2, 0, 1).astype("float32"))
    with torch.no_grad():
        (expected,) = predictor.model([{"image": channels_first}])
    assert torch.equal(output["panoptic_seg"][0], expected["panoptic_seg"][0])
    visualizer = Visualizer(picture[:, :, ::-1], MetadataCatalog.get(cfg.DATASETS.TEST[0]))
    drawn = visualizer.draw_panoptic_seg(*output["panoptic_seg"]).get_image()
    assert drawn.shape == picture.shape and (drawn != picture[:, :, ::-1]).any()
    instances = output["instances"].to("cpu")
    assert Visualizer(picture).draw_instance_predictions(instances).get_image().shape[2] == 3


def test_losses_compare_at_the_size_of_the_crop_and_rescale_offsets():
    # A map of 2 x 2 becomes 5 x 5: corners stay, and an offset of 1 pixel there is 4 here.
    criterion = PanopticDeepLabCriterion(
        ignore_label=255,
        class_map=identity_class_map(2),
        semantic=LossTerm(1.0),
        center=LossTerm(10.0),
        offset=LossTerm(0.5),
    )
    prediction = {
        "semantic_logits": torch.zeros(1, 2, 2, 2),
        "center_heatmap": torch.full((1, 1, 2, 2), 0.5),
        "center_offsets": torch.ones(1, 2, 2, 2),
    }
    ones = torch.ones(1, 5, 5)
    targets = {
        "sem_seg": torch.zeros(1, 5, 5, dtype=torch.int64),
        "sem_seg_weights": ones,
        "center_heatmap": torch.zeros(1, 1, 5, 5),
        "center_weights": ones,
        "center_offsets": torch.full((1, 2, 5, 5), 3.0),
        "offset_weights": ones,
    }
    losses, _ = criterion([prediction], targets)
    assert losses["loss_semantic"].item() == pytest.approx(np.log(2))
    assert losses["loss_center"].item() == pytest.approx(10 * 0.5**2)
    # DeepLab2 averages |4 - 3| over both coordinates.
    assert losses["loss_offset"].item() == pytest.approx(0.5 * 1.0)


def test_labels_go_to_the_channels_of_deeplab2s_coco_models():
    criterion = PanopticDeepLabCriterion(
        ignore_label=255,
        class_map=deeplab2_coco_class_map(),
        semantic=LossTerm(1.0),
        center=LossTerm(1.0),
        offset=LossTerm(1.0),
        has_instances=False,
    )
    logits = torch.zeros(1, 134, 1, 1)
    logits[0, 5] = 100.0  # channel 5 is contiguous class 4
    ones = torch.ones(1, 1, 1)

    def loss(label):
        targets = {"sem_seg": torch.full((1, 1, 1), label), "sem_seg_weights": ones}
        losses, _ = criterion([{"semantic_logits": logits}], targets)
        return losses["loss_semantic"].item()

    assert loss(4) == pytest.approx(0.0, abs=1e-6)
    assert loss(5) == pytest.approx(100.0)
    assert loss(255) == 0.0


def test_pixels_of_the_void_channel_are_void_in_every_output():
    network = model(
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "134", "MODEL.DEEPLAB2.CLASS_MAP", "deeplab2_coco"
    )
    logits = torch.zeros(1, 134, 9, 9)
    logits[0, 0, :, :5] = 1.0  # void on the left
    logits[0, 100, :, 5:] = 1.0  # channel 100, so class 99, on the right
    prediction = {
        "semantic_logits": logits,
        "center_heatmap": torch.zeros(1, 1, 9, 9),
        "center_offsets": torch.zeros(1, 2, 9, 9),
    }
    images = network.batch([{"image": image(33, 33)}])
    output = network.postprocess(prediction, images, [{}])[0]
    segment_map, segments = output["panoptic_seg"]
    assert [segment["category_id"] for segment in segments] == [99]
    assert output["sem_seg"].shape[0] == 133
    assert (segment_map[:, :16] == 0).all() and (segment_map[:, 20:] != 0).all()
