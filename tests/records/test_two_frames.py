"""A model of two frames with a state needs its class and its record, and no shared room changed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_backbone, build_model
from detectron2.utils import comm
from torch import Tensor

from deeplab2_d2.config import outputs_from_config
from deeplab2_d2.data import Layer, PanopticDatasetMapper, PanopticTargetGenerator
from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, load_config
from deeplab2_d2.engine.loaders import build_test_loader, build_train_loader
from deeplab2_d2.engine.testing import load_test_model
from deeplab2_d2.heads import DecoderSpec, DenseHeads, HeadSpec
from deeplab2_d2.layers import Norm
from deeplab2_d2.models import Segmenter, class_map_from_config
from deeplab2_d2.models.image_batch import ImageBatch
from deeplab2_d2.ops import upsampled_cross_entropy
from deeplab2_d2.postprocessing import Frames, crop_to_image, resize_map, semantic_scores
from deeplab2_d2.records import Averaging, ModelRecord, register
from deeplab2_d2.structures import ClassMap, select_images
from deeplab2_d2.video import SequenceRunner

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
NAME = "toy_video"
# Frames of two videos, by the images of a dataset.
VIDEOS = ("left", "left", "left", "right")


class ToyState(NamedTuple):
    """
    Attributes:
        image: (3, h, w) of the frame before.
        heatmap: (1, h, w) that was predicted of it, in its pixels.
        count: frames until now.
    """

    image: Tensor
    heatmap: Tensor
    count: int


@dataclass(frozen=True)
class ToyCriterion:
    weight: float

    @property
    def target_padding(self) -> Dict[str, Any]:
        return {"sem_seg": 255, "center_heatmap": 0}

    def __call__(self, predictions: Any, targets: Any, sources: Any) -> Any:
        (prediction,), labels = predictions, targets["sem_seg"]
        semantic = upsampled_cross_entropy(
            prediction["semantic_logits"], labels, None, ignore_label=255
        )
        size = (labels.shape[-2], labels.shape[-1])
        heatmap = resize_map(prediction["heatmap"], "heatmap", size)
        error = (heatmap - targets["center_heatmap"]).square().mean()
        return {"loss_semantic": semantic.mean(), "loss_heatmap": self.weight * error}, {}


@dataclass(frozen=True)
class ToyInference:
    class_map: ClassMap
    outputs: Tuple[str, ...] = ("sem_seg",)

    def with_outputs(self, *outputs: str) -> "ToyInference":
        return replace(self, outputs=outputs)

    def __call__(self, prediction: Any, images: ImageBatch, samples: Any) -> List[Dict[str, Any]]:
        outputs = []
        for index, sample in enumerate(samples):
            size, one = images.image_sizes[index], select_images(prediction, index)
            frames = Frames(images.input_size, size, images.output_size(sample, index))
            heatmap = resize_map(crop_to_image(one["heatmap"], frames), "heatmap", size)[0]
            count = sample["state"].count + 1 if "state" in sample else 1
            scores = semantic_scores(one["semantic_logits"], frames, class_map=self.class_map)
            state = ToyState(sample["image"], heatmap, count)
            outputs.append({"sem_seg": scores[0], "state": state})
        return outputs


class ToyTwoFrames(Segmenter):
    """Classes and a heatmap, from a frame, the frame before, and the heatmap of that."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        backbone, norm = build_backbone(cfg), Norm.from_config(cfg)
        shape, node = backbone.output_shape(), cfg.MODEL.DEEPLAB2
        decoder = DecoderSpec.from_config(cfg, node.SEMANTIC_DECODER, shape)
        heads = [
            HeadSpec("semantic_logits", "logits", 7, "semantic_head", "decoder", channels=8),
            HeadSpec("heatmap", "heatmap", 1, "heatmap_head", "decoder", channels=8),
        ]
        return {
            **super().from_config(cfg),
            "backbone": backbone,
            "head": DenseHeads({"decoder": decoder}, heads, shape, norm=norm),
            "criterion": ToyCriterion(node.TOY.HEATMAP_WEIGHT),
            "inference": ToyInference(class_map_from_config(cfg)),
        }

    def network_input(self, sample: Any) -> Tensor:
        image = sample["image"]
        if self.training:
            before, heatmap = sample["previous_image"], sample["center_heatmap"]
        elif "state" in sample:
            before, heatmap, _ = sample["state"]
        else:
            before, heatmap = sample.get("previous_image", image), torch.zeros_like(image[:1])
        return torch.cat([image, before, heatmap])


def add_config(cfg: CfgNode) -> None:
    cfg.MODEL.DEEPLAB2.TOY = CfgNode()
    cfg.MODEL.DEEPLAB2.TOY.HEATMAP_WEIGHT = 10.0


def check_config(cfg: CfgNode) -> None:
    if cfg.MODEL.DEEPLAB2.TOY.HEATMAP_WEIGHT < 0:
        raise ValueError("config key MODEL.DEEPLAB2.TOY.HEATMAP_WEIGHT must be at least 0")


def build_targets(cfg: CfgNode, ignore_label: int) -> PanopticTargetGenerator:
    return PanopticTargetGenerator(ignore_label=ignore_label, sigma=4.0)


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    layers = [Layer("previous_image", ("previous_file_name", "file_name"), "image")]
    return PanopticDatasetMapper(
        cfg, is_train=is_train, build_targets=build_targets if is_train else None, layers=layers
    )


RECORD = ModelRecord(
    add_config=add_config,
    check_config=check_config,
    build_mapper=build_mapper,
    outputs=lambda cfg: tuple(name for name in outputs_from_config(cfg) if name == "sem_seg"),
    averaging=Averaging(),
)


@pytest.fixture
def toy(dataset, own_table, meta_architecture):
    """The model, and the images of a dataset as two videos, until the test ends."""
    meta_architecture(ToyTwoFrames)
    register(ToyTwoFrames, RECORD)
    images = DatasetCatalog.get(dataset[0])

    def frames() -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = []
        for number, (record, video) in enumerate(zip(images, VIDEOS)):
            frame = {**record, "sequence": video, "frame": number}
            if found and found[-1]["sequence"] == video:
                frame["previous_file_name"] = found[-1]["file_name"]
            found.append(frame)
        return found

    DatasetCatalog.register(NAME, frames)
    metadata = {k: v for k, v in MetadataCatalog.get(dataset[0]).as_dict().items() if k != "name"}
    MetadataCatalog.get(NAME).set(**metadata)
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def config(*options: Any) -> CfgNode:
    return load_config(
        CONFIG,
        [
            *("MODEL.META_ARCHITECTURE", "ToyTwoFrames"),
            *("MODEL.PIXEL_MEAN", "[127.5, 127.5, 127.5, 127.5, 127.5, 127.5, 0.0]"),
            *("MODEL.PIXEL_STD", "[127.5, 127.5, 127.5, 127.5, 127.5, 127.5, 1.0]"),
            *("MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0"),
            *("DATASETS.TRAIN", (NAME,), "DATASETS.TEST", (NAME,), "DATALOADER.NUM_WORKERS", "0"),
            *("SOLVER.IMS_PER_BATCH", "2", "INPUT.CROP.SIZE", "[65, 81]"),
            *map(str, options),
        ],
    )


def test_a_training_sample_has_both_frames_transformed_alike_and_its_place(toy):
    # Frames that are equal must stay so, whatever is drawn.
    for sample in next(iter(build_train_loader(config("SOLVER.IMS_PER_BATCH", 4, "SEED", 3)))):
        assert sample["sequence"] == VIDEOS[sample["frame"]]
        is_first = sample["frame"] in (0, 3)
        assert torch.equal(sample["previous_image"], sample["image"]) == is_first
        assert sample["previous_image"].shape == sample["image"].shape == (3, 65, 81)


def test_it_trains_and_is_evaluated_by_the_products_trainer(toy, tmp_path):
    options = ("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 8, "SOLVER.WARMUP_ITERS", 0)
    trainer = DeepLab2Trainer(config(*options, "TEST.EVAL_PERIOD", 8, "SOLVER.BASE_LR", 0.002))
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = trainer._last_eval_results
    assert trainer.model.backbone.stem.conv.weight.shape[1] == 7
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert len(losses) == 8 and min(losses[-3:]) < losses[0]
    assert set(results) == {"sem_seg"} and results["sem_seg"]["mIoU"] >= 0


def test_the_state_goes_from_frame_to_frame_of_a_sequence_and_never_further(toy):
    model = build_model(config()).eval()
    samples = [s for (s,) in build_test_loader(config(), NAME)]
    runner, expected = SequenceRunner(model), []
    with torch.no_grad():
        found = [runner([sample])[0] for sample in samples]
        state = None
        for number, sample in enumerate(samples):
            assert "frame" in sample and "previous_image" in sample
            if number in (0, 3):
                state = None
            (output,) = model([sample if state is None else {**sample, "state": state}])
            state = output["state"]
            expected.append((output["sem_seg"], state.count))
    assert [count for _, count in expected] == [1, 2, 3, 1]
    for output, (scores, _) in zip(found, expected):
        assert set(output) == {"sem_seg"} and torch.equal(output["sem_seg"], scores)
    # The state matters.
    assert not torch.equal(model([samples[1]])[0]["sem_seg"], found[1]["sem_seg"])


def test_two_streams_of_one_model_do_not_mix(toy):
    model = build_model(config()).eval()
    samples = [s for (s,) in build_test_loader(config(), NAME)][:2]
    streams = [SequenceRunner(model), SequenceRunner(model)]
    with torch.no_grad():
        alone = [SequenceRunner(model)(samples)[1]["sem_seg"]][0]
        for sample in samples:
            both = [stream([sample])[0]["sem_seg"] for stream in streams]
    assert all(torch.equal(scores, alone) for scores in both)
    with pytest.raises(ValueError, match="frames of sequence 'left' must come in their order"):
        streams[0]([samples[0]])
    # It would go on without its state.
    (other,) = [s for (s,) in build_test_loader(config(), NAME)][3:]
    with torch.no_grad(), pytest.raises(ValueError, match="got one of 'left' after one of 'right'"):
        streams[1]([other, samples[1]])
    # Another dataset may have a sequence of that name; an evaluation begins so.
    with torch.no_grad():
        (again,) = streams[0].eval()([samples[0]])
        (first,) = SequenceRunner(model)([samples[0]])
    assert torch.equal(again["sem_seg"], first["sem_seg"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_sequence_is_cut_between_processes_or_workers(toy, num_workers, monkeypatch):
    seen = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_test_loader(config("DATALOADER.NUM_WORKERS", num_workers), NAME)
        seen.append([(sample["sequence"], sample["frame"]) for (sample,) in loader])
    assert seen == [[("left", 0), ("left", 1), ("left", 2)], [("right", 3)]]


def test_views_are_averaged_with_the_state(toy):
    options = ("TEST.AUG.ENABLED", True, "TEST.DEEPLAB2.SCALES", "[0.5, 1.0]")
    runner = SequenceRunner(load_test_model(config(*options), allow_random_weights=True))
    samples = [s for (s,) in build_test_loader(config(), NAME)][:2]
    with torch.no_grad():
        outputs = runner(samples)
    assert [set(output) for output in outputs] == [{"sem_seg"}] * 2
    assert runner._state.count == 2


def test_its_config_is_checked(toy):
    with pytest.raises(ConfigError, match="TOY.HEATMAP_WEIGHT must be at least 0"):
        config("MODEL.DEEPLAB2.TOY.HEATMAP_WEIGHT", -1.0)
    with pytest.raises(ValueError, match="copy_paste must be None.*'previous_image'"):
        build_train_loader(config("INPUT.DEEPLAB2.COPY_PASTE.SCALE", 0.5))
