"""What is said of a network's slots is what the network computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.engine.loaders import build_test_loader
from deeplab2_d2.engine.slot_images import NUM_MASKS, SlotImages
from deeplab2_d2.engine.testing import load_test_model
from deeplab2_d2.layers import record_memory_attention
from deeplab2_d2.visualization.slots.__main__ import main
from deeplab2_d2.visualization.slots.sizes import resize

CONFIGS = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
CONFIG = str(CONFIGS / "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml")
KMAX = str(CONFIGS / "kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml")
PANOPTIC = CONFIG.replace("max_deeplab", "panoptic_deeplab")
both_models = pytest.mark.parametrize("config", [CONFIG, KMAX], ids=["MaX", "kMaX"])
NODE = "MODEL.DEEPLAB2.POSTPROCESSING"
# A narrow network; every slot of an untrained one is confident enough.
OPTIONS = [
    *("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "DATALOADER.NUM_WORKERS", "0"),
    *(f"{NODE}.CONFIDENCE_THRESHOLDS", "[0.0, 0.0]"),
]
COLORS = np.arange(21, dtype=np.uint8).reshape(7, 3) * 10


def model_and_samples(*options, config=CONFIG):
    cfg = load_config(config, [*OPTIONS, *map(str, options)])
    model = load_test_model(cfg, allow_random_weights=True)
    return model, [s for (s,) in build_test_loader(cfg, "shapes_panoptic_val")]


def cut(sample, height, width):
    """The upper left part of a sample's image: the network pads it."""
    return {
        **sample,
        "image": sample["image"][:, :height, :width],
        "height": height,
        "width": width,
    }


@pytest.mark.slow
@both_models
def test_things_are_counted_as_the_model_returns_them(dataset, config):
    model, samples = model_and_samples(config=config)
    slots = SlotImages(model, COLORS)
    expected = np.zeros((32, 7), int)
    for sample in samples:
        assert slots.look(sample, is_pictured=False) is None
        with torch.no_grad():
            _, segments = model([sample])[0]["panoptic_seg"]
        for segment in segments:
            if segment["isthing"]:
                # Pixel-wise, a thing's number is its slot + 1.
                expected[segment["instance_id"] - 1, segment["category_id"]] += 1
    things = list(model.inference.thing_ids)
    assert expected.sum() > 2
    assert slots.statistics.firings[:, things].tolist() == expected[:, things].tolist()


@pytest.mark.slow
@both_models
def test_average_masks_are_softmax_probabilities_within_the_image(dataset, config):
    model, samples = model_and_samples(config=config)
    # 128 x 160 is padded to 129 x 161; 100 x 150, at stride 16, to 113 x 161 with masks of 29 x 41.
    parts = [samples[0], cut(samples[1], 100, 150)]
    slots = SlotImages(model, COLORS)
    sums, counts = np.zeros((32, 52, 65)), np.zeros(32)
    for sample in parts:
        slots.look(sample, is_pictured=False)
        with torch.no_grad():
            images = model.batch([sample])
            probabilities = model.predict(images.tensor)["mask_logits"].softmax(dim=1)
        height, width = sample["image"].shape[-2:]
        padded = images.tensor.shape[-2:]
        # From -1 at the first pixel to 1 at the last of the padded input.
        y = torch.linspace(-1, 2 * (height - 1) / (padded[0] - 1) - 1, 52)
        x = torch.linspace(-1, 2 * (width - 1) / (padded[1] - 1) - 1, 65)
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
        masks = F.grid_sample(probabilities, grid, align_corners=True)[0].numpy()
        result = model.inference.segment(
            model.predict(images.tensor), images, 0, (sample["height"], sample["width"])
        )
        kept = result.slot_map[result.panoptic_map >= 0].unique().numpy()
        sums[kept] += masks[kept]
        counts[kept] += 1
    assert slots.statistics.totals.tolist() == counts.tolist()
    for slot in slots.statistics.firing_slots():
        # Float32 coordinates of the sampling, of maps that vary by far less than 1 a pixel.
        np.testing.assert_allclose(
            slots.statistics.average_mask(slot), sums[slot] / counts[slot], atol=1e-5
        )


@pytest.mark.slow
def test_attention_is_that_of_the_largest_segments(dataset):
    model, samples = model_and_samples()
    found = SlotImages(model, COLORS).look(samples[0], is_pictured=True)
    images = model.batch([samples[0]])
    with record_memory_attention(model) as recorded, torch.no_grad():
        model.predict(images.tensor)
    areas = [segment.area for segment in found.chosen]
    assert len(areas) == NUM_MASKS and areas == sorted(areas, reverse=True)
    largest = np.bincount(found.slot_map[found.slot_map >= 0]).argmax()
    assert found.chosen[0].slot == largest
    assert [layer.title for layer in found.layers] == [
        "stage5 block1\nstride 16",
        "stage5_extra block1\nstride 16",
    ]
    chosen = [segment.slot for segment in found.chosen]
    for layer, attention in zip(found.layers, recorded.values()):
        # The image of 128 x 160 is the upper left part of the input, 129 x 161.
        pixels = attention.to_pixels[0][:, chosen]
        whole = F.interpolate(pixels, (129, 161), mode="bilinear", align_corners=True)
        expected = whole[..., :128, :160]
        np.testing.assert_allclose(layer.weights, expected.numpy(), atol=1e-6)
        np.testing.assert_allclose(layer.pixel_share, pixels.sum((2, 3)).numpy(), rtol=1e-5)


@pytest.mark.slow
def test_attention_of_kmeans_is_the_assignment_by_the_masks_of_each_layer(dataset):
    model, samples = model_and_samples(config=KMAX)
    found = SlotImages(model, COLORS).look(samples[0], is_pictured=True)
    model.head.has_auxiliary_in_evaluation = True
    with torch.no_grad():
        prediction = model.predict(model.batch([samples[0]]).tensor)
    titles = [f"kmax_decoder {k} block1\nstride {s}" for k, s in enumerate((32, 16, 8, 8))]
    assert [layer.title for layer in found.layers] == titles
    chosen = [segment.slot for segment in found.chosen]
    assert len(chosen) > 1
    for index, layer in enumerate(found.layers):
        owners = prediction[f"auxiliary{index}/mask_logits"][0].argmax(0)
        is_own = torch.stack([owners == slot for slot in chosen]).float()[None]
        # The image of 128 x 160 is the upper left part of the input, 129 x 161.
        whole = F.interpolate(is_own, (129, 161), mode="bilinear", align_corners=True)
        np.testing.assert_allclose(layer.weights, whole[..., :128, :160].numpy(), atol=1e-6)
        has_pixels = is_own.amax((2, 3)).numpy()
        np.testing.assert_allclose(layer.pixel_share, has_pixels)


@pytest.mark.slow
def test_chosen_slots_need_no_segment(dataset):
    model, samples = model_and_samples(f"{NODE}.CONFIDENCE_THRESHOLDS", [1.0, 0.4])
    slots = SlotImages(model, COLORS, masks=[5, 3])
    found = slots.look(samples[0], is_pictured=True)
    assert [tuple(segment) for segment in found.chosen] == [(5, -1, 0), (3, -1, 0)]
    assert not slots.statistics.firing_slots() and (found.slot_map == -1).all()
    with pytest.raises(ConfigError, match="--masks must be slots below 32, got 32"):
        SlotImages(model, COLORS, masks=[32]).look(samples[0], is_pictured=False)


@pytest.mark.slow
def test_three_pixel_features_are_shown_as_they_are(dataset):
    model, samples = model_and_samples("MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_CHANNELS", 3)
    found = SlotImages(model, COLORS).look(samples[0], is_pictured=True)
    with torch.no_grad():
        features = model.predict(model.batch([samples[0]]).tensor)["pixel_features"][0]
    assert torch.allclose(features.norm(dim=0), torch.ones(()))
    colors = ((features + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    expected = resize(colors, found.pictures["image"].shape[:2])
    # A value between two integers may be rounded either way.
    assert np.abs(found.pictures["pixel features"].astype(int) - expected).max() <= 1


def test_a_network_of_which_no_slot_reads_pixels_is_refused():
    network = nn.Module()
    network.backbone = nn.Conv2d(3, 3, 1)
    with pytest.raises(
        ConfigError, match="must have dual-path transformer .* got Module with none"
    ):
        SlotImages(network, COLORS)


def messages(capsys, *arguments):
    """What the command prints when it fails."""
    assert main(list(map(str, arguments))) == 1
    return capsys.readouterr().err


def test_another_meta_architecture_is_refused(capsys):
    message = messages(capsys, "--config-file", PANOPTIC)
    assert "MODEL.META_ARCHITECTURE must be of a model with mask slots" in message
    assert "got 'DeepLab2PanopticDeepLab'" in message


def test_a_config_without_dataset_needs_one(capsys):
    message = messages(capsys, "--config-file", CONFIG, "DATASETS.TEST", "()")
    assert "DATASETS.TEST must name a dataset without --dataset, got ()" in message
    message = messages(capsys, "--config-file", CONFIG, "--dataset", "no_such_set")
    assert message.startswith("slots: no such dataset: 'no_such_set' is not registered")


def test_a_dataset_without_images_is_refused(capsys):
    DatasetCatalog.register("no_images", list)
    try:
        message = messages(capsys, "--config-file", CONFIG, "--dataset", "no_images")
    finally:
        DatasetCatalog.remove("no_images")
        MetadataCatalog.remove("no_images")
    assert (
        message == "slots: dataset no_images must have an annotated image, got none of its loader\n"
    )


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--images", "000001,nine"], "--images must name images of the first 2"),
        (["MODEL.WEIGHTS", "no_such_file.pth"], "no_such_file.pth"),
        (
            ["MODEL.DEEPLAB2.BACKBONE.NAME", "resnet50"],
            "must have a backbone with a memory path",
        ),
    ],
)
def test_what_is_not_there_is_named(dataset, capsys, options, expected):
    assert expected in messages(capsys, "--config-file", CONFIG, *options)


@pytest.mark.parametrize("option", [["--num-images", "0"], ["--masks", "one"]])
def test_numbers_must_be_numbers(option, capsys):
    with pytest.raises(SystemExit):
        main(["--config-file", CONFIG, *option])
    assert f"argument {option[0]}" in capsys.readouterr().err
