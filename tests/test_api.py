"""load_model and what it returns, on a model whose predictions are known: colors are classes."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from PIL import Image
from shapes_dataset import dataset  # noqa: F401
from torch import nn

import deeplab2_d2
from deeplab2_d2 import Model, load_model
from deeplab2_d2.engine import ConfigError
from deeplab2_d2.engine.checkpointing import build_checkpointer
from deeplab2_d2.engine.image_input import NamedImage
from deeplab2_d2.engine.palette import Palette
from deeplab2_d2.engine.result import result_of_output
from deeplab2_d2.structures import read_depth, read_panoptic_png

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/Shapes-PanopticSegmentation"
CONFIG = str(CONFIG / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml")
NARROW = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", 1.0]

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


# Classes of the shapes: disc (a thing), stripes and checker.
DISC, STRIPES, CHECKER = 0, 4, 5


class ColorModel(nn.Module):
    """Red pixels are a disc, green ones stripes and blue ones checker; each is one segment."""

    def __init__(self, cfg):
        super().__init__()
        self.passes = []

    def forward(self, samples):
        self.passes.append(len(samples))
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample):
        scores = torch.full((7, *sample["image"].shape[1:]), -1000.0)
        scores[[DISC, STRIPES, CHECKER]] = sample["image"] / 10
        panoptic = torch.where(scores.amax(dim=0) > 0, scores.argmax(dim=0) * 1000 + 1, 0)
        segments = [
            {"id": k * 1000 + 1, "category_id": k, "isthing": k == DISC, "score": 0.5 + 0.05 * k}
            for k in (DISC, STRIPES, CHECKER)
            if (panoptic == k * 1000 + 1).any()
        ]
        return {"sem_seg": scores, "panoptic_seg": (panoptic.to(torch.int32), segments)}


META_ARCH_REGISTRY._obj_map.setdefault("ColorModel", ColorModel)


@pytest.fixture(scope="module")
def model(dataset):  # noqa: F811
    return load_model(CONFIG, opts=["MODEL.META_ARCHITECTURE", "ColorModel"], device="cpu")


@pytest.fixture(scope="module")
def narrow(dataset):  # noqa: F811
    torch.manual_seed(0)
    return load_model(CONFIG, opts=NARROW, device="cpu", random_weights=True)


def flag():
    """(4, 6, 3): a row of black, below it two red columns, one green and three blue ones."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[1:, :2], image[1:, 2:3], image[1:, 3:] = RED, GREEN, BLUE
    return image


def test_maps_and_segments_are_those_of_the_pixels(model):
    result = model(flag(), semantic_scores=True)
    assert result.panoptic.tolist() == [[0] * 6] + [[1, 1, 4001, 5001, 5001, 5001]] * 3
    assert result.panoptic.dtype == np.int32
    assert result.semantic[1:].tolist() == [[0, 0, 4, 5, 5, 5]] * 3
    red, green, blue = result.segments
    assert [s.name for s in result.segments] == ["disc", "stripes", "checker"]
    assert (red.area, green.area, blue.area) == (6, 3, 9)
    assert (red.box, blue.box) == ((0, 1, 2, 4), (3, 1, 6, 4))
    assert red.is_thing and not blue.is_thing and blue.score == pytest.approx(0.75)
    assert result.mask(green).sum() == 3 and result.mask(green)[1:, 2].all()
    assert result.semantic_scores[STRIPES, 1, :3].tolist() == [0, 0, 20]
    assert model(flag()).semantic_scores is None
    assert result.depth is None and result.instances is None


def test_every_kind_of_input_is_one_image(model, tmp_path):
    image = flag()
    path = tmp_path / "a flag.png"
    Image.fromarray(image).save(path)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    sources = [image, str(path), path, Image.fromarray(image), Image.open(path), tensor]
    results = model(sources)
    for result in results:
        assert np.array_equal(result.panoptic, results[0].panoptic)
        assert np.array_equal(result.image, image)
    assert [result.name for result in results] == [
        *("image_0", "a flag", "a flag", "image_3", "a flag", "image_5")
    ]
    gray = np.full((2, 3), 90, np.uint8)
    assert model(gray).image.tolist() == model(torch.from_numpy(gray)[None]).image.tolist()


def test_photos_are_turned_upright(model, tmp_path):
    # Orientation 6: stored turned by 90 degrees to the left.
    stored = Image.fromarray(flag()).transpose(Image.Transpose.ROTATE_90)
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(model(source).image, flag())


@pytest.mark.parametrize(
    "source, message",
    [
        (np.zeros((4, 4, 3)), "an array must be uint8, 0 to 255, got float64"),
        (torch.zeros(3, 4, 4), "a tensor must be uint8, 0 to 255, got torch.float32"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\); leave alpha out"),
        (np.zeros((2, 4, 4, 3), np.uint8), "give a batch as a list"),
        (torch.zeros(2, 3, 4, 4).byte(), "give a batch as a list"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (Image.new("I;16", (4, 4)), "got mode I;16; give its path"),
    ],
)
def test_what_is_no_image_is_refused_with_the_rule(model, source, message):
    with pytest.raises(ValueError, match=message):
        model(source)
    with pytest.raises(TypeError, match="must be a path, a PIL image, .* got a int"):
        model(3)
    with pytest.raises(FileNotFoundError, match="image no.jpg does not exist"):
        model("no.jpg")


def test_images_of_one_size_go_through_the_network_together(model):
    passes = model.network.passes
    passes.clear()
    wide, tall = flag(), flag().transpose(1, 0, 2).copy()
    results = model([wide, tall, wide, wide, tall], batch_size=2)
    # The first two wide ones and both tall ones fill a batch; the last wide one is left.
    assert passes == [2, 2, 1]
    assert [result.panoptic.shape for result in results] == [(4, 6), (6, 4), (4, 6), (4, 6), (6, 4)]
    assert model([]) == []
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        model([wide], batch_size=0)


def test_uncertain_segments_are_left_out(model):
    result = model(flag(), confidence=0.6)
    assert [segment.class_id for segment in result.segments] == [STRIPES, CHECKER]
    assert result.panoptic[1].tolist() == [0, 0, 4001, 5001, 5001, 5001]
    assert result.semantic[1].tolist() == [0, 0, 4, 5, 5, 5]


def test_files_are_cocos(model, tmp_path):
    from panopticapi.evaluation import pq_compute

    Image.fromarray(flag()).save(tmp_path / "flag.png")
    result = model(tmp_path / "flag.png")
    overlay, png, text = result.save(tmp_path / "out")
    assert read_panoptic_png(png).tolist() == result.panoptic.tolist()
    content = json.loads(Path(text).read_text())
    (annotation,) = content["annotations"]
    ids = {category["name"]: category["id"] for category in content["categories"]}
    assert content["categories"] == list(model.categories)
    for segment, entry in zip(result.segments, annotation["segments_info"]):
        assert entry["category_id"] == ids[segment.name] == segment.category_id
    assert annotation["segments_info"][2]["bbox"] == [3, 1, 3, 3]
    # As truth and as prediction it is what panopticapi takes.
    folder = str(tmp_path / "out")
    scores = pq_compute(text, text, folder, folder)
    assert scores["All"]["pq"] == 1.0 and scores["All"]["n"] == 3
    with pytest.raises(ValueError, match="flag.png is one; choose another"):
        result.save(tmp_path / "flag.png")
    (only,) = result.save(tmp_path / "picture.jpg")
    assert Image.open(only).size == Image.open(overlay).size
    assert Image.open(overlay).height > 4 and result.overlay().size == (6, 4)
    with pytest.raises(ValueError, match="got '../flag'"):
        result.save(tmp_path / "out", name="../flag")
    annotation, picture = result.to_coco(image_id=7)
    assert annotation["image_id"] == 7 and annotation["file_name"] == "flag_panoptic.png"
    assert np.asarray(picture)[1, 2].tolist() == [4001 % 256, 4001 // 256, 0]


def test_depth_and_instances_come_along_and_a_semantic_map_from_segments(model, tmp_path):
    from detectron2.structures import Instances

    instances = Instances((1, 2))
    instances.scores = torch.tensor([0.9, 0.2])
    output = {
        "panoptic_seg": (torch.tensor([[5, 0]]), [{"id": 5, "category_id": 1, "isthing": True}]),
        "instances": instances,
        "depth": torch.tensor([[2.0, 3.5]]),
    }
    palette = Palette(model._predictor.metadata)
    image = NamedImage(np.zeros((1, 2, 3), np.float32))
    result = result_of_output(image, output, palette, name="x", confidence=0.5)
    assert result.semantic.tolist() == [[1, -1]] and result.segments[0].score is None
    assert len(result.instances) == 1
    files = result.save(tmp_path)
    assert read_depth(files[3]).tolist() == [[2.0, 3.5]]


def test_a_model_of_videos_takes_an_image_as_the_first_frame(tmp_path):
    config = ROOT / "configs/ShapesVideo-PanopticSegmentation"
    config = config / "vip_deeplab_tiny_os16_poly_bs8_crop_129_257.yaml"
    torch.manual_seed(0)
    model = load_model(config, weights="", device="cpu", random_weights=True)
    image = np.random.default_rng(0).integers(0, 255, (33, 49, 3), np.uint8)
    result = model(image)
    sample = {"image": torch.from_numpy(image).permute(2, 0, 1).float()}
    with torch.no_grad():
        (output,) = model.network([{**sample, "next_image": sample["image"]}])
    assert np.array_equal(result.depth, output["depth"].numpy())
    assert result.depth.shape == (33, 49) and result.depth.min() > 0
    files = result.save(tmp_path)
    assert np.abs(read_depth(files[3]) - result.depth).max() <= 0.5 / 256


def test_threads_share_a_model(narrow):
    images = [
        np.random.default_rng(seed).integers(0, 255, (33, 49, 3), np.uint8) for seed in (0, 1)
    ]
    expected = [narrow(image, semantic_scores=True).semantic_scores for image in images]
    found = {}

    def predict(index):
        found[index] = narrow(images[index % 2], semantic_scores=True).semantic_scores

    threads = [threading.Thread(target=predict, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[index], expected[index % 2]) for index in range(6))
    assert not narrow.network.training


def test_scores_are_those_of_detectron2s_model(narrow):
    image = np.random.default_rng(0).integers(0, 255, (40, 61, 3), np.uint8)
    model = build_model(narrow.cfg).eval()
    model.load_state_dict(narrow.network.state_dict())
    with torch.no_grad():
        sample = {"image": torch.from_numpy(image).permute(2, 0, 1).float()}
        (output,) = model([sample])
    result = narrow(image, semantic_scores=True)
    assert np.array_equal(result.semantic_scores, output["sem_seg"].numpy())
    assert np.array_equal(result.panoptic, output["panoptic_seg"][0].numpy())


def test_a_checkpoint_carries_its_config(narrow, tmp_path):
    cfg = narrow.cfg
    cfg.defrost()
    cfg.OUTPUT_DIR = str(tmp_path)
    build_checkpointer(cfg, narrow.network).save("model_final", iteration=1)
    image = np.random.default_rng(0).integers(0, 255, (33, 49, 3), np.uint8)
    expected = narrow(image, semantic_scores=True).semantic_scores
    for source in (tmp_path / "model_final.pth", tmp_path):
        loaded = load_model(source, device="cpu")
        assert loaded.cfg.MODEL.WEIGHTS == str(tmp_path / "model_final.pth")
        assert np.array_equal(loaded(image, semantic_scores=True).semantic_scores, expected)
    # One of before has it beside.
    old = torch.load(tmp_path / "model_final.pth", weights_only=True)
    del old["config_yaml"]
    (tmp_path / "old").mkdir()
    torch.save(old, tmp_path / "old" / "model_0000099.pth")
    with pytest.raises(
        ConfigError, match=r"does not hold its config.* load_model\(CONFIG, weights"
    ):
        load_model(tmp_path / "old" / "model_0000099.pth")
    (tmp_path / "old" / "config.yaml").write_text(cfg.dump())
    loaded = load_model(tmp_path / "old", opts={"TEST.DETECTIONS_PER_IMAGE": 7})
    assert loaded.cfg.TEST.DETECTIONS_PER_IMAGE == 7
    assert np.array_equal(loaded(image, semantic_scores=True).semantic_scores, expected)


def test_a_config_with_a_trap_in_a_checkpoint_runs_nothing(tmp_path):
    trap = f"!!python/object/apply:os.mkdir ['{tmp_path}/trapped']"
    torch.save({"model": {}, "config_yaml": f"SEED: {trap}\n"}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="x.pth"):
        load_model(tmp_path / "x.pth")
    assert not (tmp_path / "trapped").exists()


def test_wrong_names_are_answered_with_near_ones(dataset, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match="near it are panoptic_deeplab/resnet50_os32_cityscapes"):
        load_model("panoptic_deeplab/resnet_50_os32_cityscapes")
    with pytest.raises(ConfigError, match="the zoo has no 'resnet50'"):
        load_model("deeplab2://resnet50")
    with pytest.raises(ConfigError, match="ImageNet.* has no configuration"):
        load_model("resnet50_imagenet1k")
    with pytest.raises(FileNotFoundError, match="config file no.yaml does not exist"):
        load_model("no.yaml")
    with pytest.raises(ConfigError, match="has no checkpoint of a training"):
        load_model(tmp_path)
    with pytest.raises(ConfigError, match=r"random_weights=True\) uses it anyway"):
        load_model(CONFIG, opts=NARROW, device="cpu")
    with pytest.raises(ConfigError, match="config override MODEL.WIDTH 1"):
        load_model(CONFIG, opts={"MODEL.WIDTH": 1})


def test_devices_that_are_not_there_are_refused(narrow):
    count = torch.cuda.device_count()
    with pytest.raises(ConfigError, match="MODEL.DEVICE must be"):
        narrow.to(f"cuda:{count}")
    assert narrow.to("cpu") is narrow and narrow.device == torch.device("cpu")


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives(narrow):
    image = np.random.default_rng(0).integers(0, 255, (40, 61, 3), np.uint8)
    expected = narrow(image, semantic_scores=True).semantic_scores
    try:
        found = narrow.to("cuda")(image, semantic_scores=True).semantic_scores
        assert narrow.network.device.type == "cuda"
    finally:
        narrow.to("cpu")
    # TF32 has ten bits.
    assert np.abs(found - expected).max() < 1e-2 * np.abs(expected).max()


def test_the_package_has_the_names():
    assert {"load_model", "Model", "Result", "Segment"} <= set(dir(deeplab2_d2))
    assert deeplab2_d2.Model is Model
    with pytest.raises(AttributeError, match="no attribute 'load_modell'"):
        deeplab2_d2.load_modell
