"""A further head of Panoptic-DeepLab is rows of data, a loss, an output, and a record."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from PIL import Image
from torch import nn

from deeplab2_d2.data import Layer, PanopticDatasetMapper, PanopticTargetGenerator
from deeplab2_d2.engine import DeepLab2Trainer, load_config
from deeplab2_d2.engine.evaluators import build_evaluators
from deeplab2_d2.engine.loaders import build_test_loader, build_train_loader
from deeplab2_d2.engine.pictures import PredictionSheets
from deeplab2_d2.heads import DecoderSpec, HeadSpec
from deeplab2_d2.losses import depth_loss
from deeplab2_d2.models import JointCriterion, JointInference, average_views
from deeplab2_d2.models.panoptic_deeplab import RECORD, DeepLab2PanopticDeepLab
from deeplab2_d2.models.panoptic_deeplab.pictures import CenterPictures
from deeplab2_d2.models.target_batch import stack_targets
from deeplab2_d2.postprocessing import Frames, resize_map, to_output
from deeplab2_d2.records import register
from deeplab2_d2.structures import ClassMap, select_images

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
NAME = "toy_depth"
METERS = 4.0


@dataclass(frozen=True)
class DepthCriterion:
    target_padding = {"depth": 0.0}

    def __call__(self, predictions: Any, targets: Any, sources: Any = ()) -> Any:
        depth, target = predictions[0]["depth"].float(), targets["depth"]
        size = (target.shape[-2], target.shape[-1])
        positive = nn.functional.softplus(resize_map(depth, "depth", size))[:, 0] + 0.1
        return {"loss_depth": depth_loss(positive, target).mean()}, {}


@dataclass(frozen=True)
class DepthInference:
    class_map: ClassMap
    outputs: Tuple[str, ...] = ("depth",)

    def with_outputs(self, *outputs: str) -> "DepthInference":
        return replace(self, outputs=tuple(name for name in outputs if name == "depth"))

    def __call__(self, prediction: Any, images: Any, samples: Any) -> List[Dict[str, Any]]:
        if "depth" not in self.outputs:
            return [{} for _ in samples]
        found = []
        for index, sample in enumerate(samples):
            size = images.output_size(sample, index)
            frames = Frames(images.input_size, images.image_sizes[index], size)
            one = select_images(prediction, index)["depth"]
            found.append({"depth": to_output(one, "depth", frames)[0, 0]})
        return found


class ToyDepthDeepLab(DeepLab2PanopticDeepLab):
    """Panoptic-DeepLab with a depth head on a decoder of its own."""

    @classmethod
    def describe_heads(cls, cfg: CfgNode, input_shape: Any) -> Any:
        decoders, heads = super().describe_heads(cfg, input_shape)
        node = cfg.MODEL.DEEPLAB2.INSTANCE_DECODER
        decoders["depth_decoder"] = DecoderSpec.from_config(cfg, node, input_shape)
        heads.append(HeadSpec("depth", "depth", 1, "depth_head", "depth_decoder", channels=8))
        return decoders, heads

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        parts = super().from_config(cfg)
        depth = DepthInference(parts["inference"].class_map)
        parts["criterion"] = JointCriterion((parts["criterion"], DepthCriterion()))
        parts["inference"] = JointInference(parts["inference"], (depth,))
        return parts


class DepthPictures(CenterPictures):
    titles = CenterPictures.titles + ("depth",)

    def draw_targets(self, segment_map: Any, segments: Any) -> List[np.ndarray]:
        return [*super().draw_targets(segment_map, segments), np.zeros((8, 8, 3), np.uint8)]


class DepthError(DatasetEvaluator):
    """Mean absolute difference from the depth that everything has."""

    def reset(self) -> None:
        self.errors: List[float] = []

    def process(self, inputs: Any, outputs: Any) -> None:
        for sample, output in zip(inputs, outputs):
            assert output["depth"].shape == (sample["height"], sample["width"])
            self.errors.append(float((output["depth"] - METERS).abs().mean()))

    def evaluate(self) -> Dict[str, Any]:
        return {"depth": {"error": float(np.mean(self.errors))}}


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    def build_targets(cfg: CfgNode, ignore_label: int) -> PanopticTargetGenerator:
        return PanopticTargetGenerator(ignore_label=ignore_label, sigma=4.0)

    return PanopticDatasetMapper(
        cfg,
        is_train=is_train,
        build_targets=build_targets if is_train else None,
        layers=[Layer("depth", ("depth_file_name",), "depth")],
    )


DEPTH_RECORD = replace(
    RECORD,
    # Panoptic-DeepLab's keys and names are its own.
    add_config=None,
    option_rules={},
    build_mapper=build_mapper,
    outputs=lambda cfg: (*RECORD.outputs(cfg), "depth"),
    build_evaluators=lambda cfg, name, folder: [DepthError()],
    build_pictures=DepthPictures.from_config,
)


@pytest.fixture
def toy(dataset, own_table, meta_architecture, tmp_path):
    """The model, and the images of a dataset all of one depth, until the test ends."""
    meta_architecture(ToyDepthDeepLab)
    register(ToyDepthDeepLab, DEPTH_RECORD)
    images = [dict(record) for record in DatasetCatalog.get(dataset[1])]
    for record in images:
        with Image.open(record["file_name"]) as image:
            depth = np.full((image.height, image.width), METERS * 256, np.uint16)
        record["depth_file_name"] = str(tmp_path / f"{record['image_id']}.png")
        Image.fromarray(depth).save(record["depth_file_name"])
    DatasetCatalog.register(NAME, lambda: images)
    metadata = {k: v for k, v in MetadataCatalog.get(dataset[1]).as_dict().items() if k != "name"}
    MetadataCatalog.get(NAME).set(**metadata)
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def config(*options: Any) -> CfgNode:
    return load_config(
        CONFIG,
        [
            *("MODEL.META_ARCHITECTURE", "ToyDepthDeepLab", "SOLVER.IMS_PER_BATCH", "2"),
            *("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0"),
            *("DATASETS.TRAIN", (NAME,), "DATASETS.TEST", (NAME,), "DATALOADER.NUM_WORKERS", "0"),
            *("INPUT.CROP.SIZE", "[65, 81]"),
            *map(str, options),
        ],
    )


def test_depth_of_a_scaled_training_image_is_divided_and_its_padding_unknown(toy):
    larger = next(iter(build_train_loader(config("INPUT.DEEPLAB2.SCALES", "[2.0, 2.0, 0.0]"))))
    smaller = next(iter(build_train_loader(config("INPUT.DEEPLAB2.SCALES", "[0.4, 0.4, 0.0]"))))
    for samples, expected in ((larger, {METERS / 2}), (smaller, {0.0, METERS / 0.4})):
        for sample in samples:
            assert sample["depth"].shape == sample["image"].shape[1:] == (65, 81)
            values = sample["depth"].unique().tolist()
            # Sides are whole numbers of pixels.
            assert len(values) == len(expected)
            assert values == pytest.approx(sorted(expected), rel=0.02)


def test_it_trains_evaluates_and_draws(toy, tmp_path):
    options = ("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 0)
    trainer = DeepLab2Trainer(config(*options, "TEST.EVAL_PERIOD", 4))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.storage.history("loss_depth").latest() > 0
    assert trainer.storage.history("loss_center").latest() > 0
    results = trainer._last_eval_results
    assert results["depth"]["error"] >= 0 and {"panoptic_seg", "sem_seg"} <= set(results)
    sheets = PredictionSheets(config(), NAME, 1)
    assert sheets.titles == ("image", "semantic", "panoptic", *DepthPictures.titles)
    assert sheets.draw(trainer.model).std() > 0


def test_views_of_depth_are_averaged_at_one_distance(toy):
    model = build_model(config()).eval()
    images = torch.randn(1, 3, 65, 81)
    assert list(model.head.kinds) == [
        "semantic_logits",
        "center_heatmap",
        "center_offsets",
        "depth",
    ]
    # A network that says 4 meters whatever it sees: half the size is twice as far.
    nn.init.zeros_(model.head.depth_head.final_conv.weight)
    nn.init.constant_(model.head.depth_head.final_conv.bias, METERS)
    means = average_views([model], images, scales=(1.0, 0.5), flip=True)
    depth = means.maps["depth"]
    assert depth.shape == (1, 1, 65, 81) and "depth" in means.prediction()
    torch.testing.assert_close(depth, torch.full_like(depth, (METERS + METERS / 2) / 2))


def test_outputs_have_the_size_of_the_original_and_its_distance(toy):
    model = build_model(config()).eval()
    nn.init.zeros_(model.head.depth_head.final_conv.weight)
    nn.init.constant_(model.head.depth_head.final_conv.bias, METERS)
    sample = next(iter(build_test_loader(config(), NAME)))[0]
    image = sample["image"][:, :33, :49]
    with torch.no_grad():
        plain, shrunk = model([{"image": image}, {"image": image, "height": 65, "width": 97}])
    assert set(plain) == {"sem_seg", "panoptic_seg", "instances", "depth"}
    assert plain["depth"].shape == (33, 49) and shrunk["depth"].shape == (65, 97)
    # The network saw the second at half its size, where everything looks twice as far.
    assert plain["depth"].unique().tolist() == pytest.approx([METERS])
    assert shrunk["depth"].unique().tolist() == pytest.approx([METERS / 2])
    assert set(model.inference.with_outputs("sem_seg")({}, None, [])) == set()
    assert model.inference.with_outputs("sem_seg", "depth").outputs == ("sem_seg", "depth")


def test_what_the_record_adds_to_the_evaluators_stands_beside_the_others(toy):
    names = [type(part).__name__ for part in build_evaluators(config(), NAME)._evaluators]
    assert names[-1] == "DepthError" and len(names) == 4


def test_depth_that_a_batch_pads_is_unknown():
    criterion = JointCriterion((DepthCriterion(),))
    samples = [{"depth": torch.ones(3, 5)}, {"depth": torch.ones(4, 4)}]
    targets = stack_targets(
        samples, criterion.target_padding, size=(5, 5), device=torch.device("cpu")
    )
    assert targets["depth"].sum(dim=(1, 2)).tolist() == [15, 16]
    assert targets["depth"].shape == (2, 5, 5)


def test_a_second_model_may_not_read_the_same_options(own_table):
    with pytest.raises(ValueError, match="option_rules of ToyDepthDeepLab.*panoptic_deeplab"):
        register(ToyDepthDeepLab, RECORD)
