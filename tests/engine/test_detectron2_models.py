"""Detectron2's Mask R-CNN in our trainer: it trains, resumes its place, and is evaluated."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from deeplab2_d2.engine import ConfigError, DeepLab2Trainer, load_config
from deeplab2_d2.engine.preflight import check_run

MASK_RCNN = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res2, res3, res4, res5], NORM: BN}
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64], [96], [128]]}
  RPN:
    IN_FEATURES: [p2, p3, p4, p5, p6]
    BATCH_SIZE_PER_IMAGE: 16
    POST_NMS_TOPK_TRAIN: 50
    POST_NMS_TOPK_TEST: 20
  MASK_ON: True
  ROI_HEADS:
    NAME: StandardROIHeads
    IN_FEATURES: [p2, p3, p4, p5]
    NUM_CLASSES: 4
    BATCH_SIZE_PER_IMAGE: 16
    SCORE_THRESH_TEST: 0.0
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 32, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD:
    NAME: MaskRCNNConvUpsampleHead
    NUM_CONV: 1
    CONV_DIM: 16
    POOLER_RESOLUTION: 14
INPUT: {MASK_FORMAT: bitmask, MIN_SIZE_TRAIN: [96], MIN_SIZE_TEST: 96}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 2, DEEPLAB2: {LOG_PERIOD: 1}}
DATALOADER: {NUM_WORKERS: 0}
TEST: {EVAL_PERIOD: 0}
VERSION: 2
"""
NAMES = ("mask_rcnn_train", "mask_rcnn_val")

pytestmark = pytest.mark.slow


@pytest.fixture
def coco_sets(dataset):
    """The generated shapes as a user registers a COCO file, which names its classes itself."""
    for name, shapes in zip(NAMES, dataset):
        metadata = MetadataCatalog.get(shapes)
        register_coco_instances(name, {}, metadata.json_file, metadata.image_root)
    yield NAMES
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def config(coco_sets, tmp_path):
    (tmp_path / "mask_rcnn.yaml").write_text(MASK_RCNN)

    def load(*options):
        names = ["DATASETS.TRAIN", (coco_sets[0],), "DATASETS.TEST", (coco_sets[1],)]
        names += ["OUTPUT_DIR", str(tmp_path / "output")]
        return load_config(str(tmp_path / "mask_rcnn.yaml"), [*names, *options])

    return load


def test_mask_rcnn_trains_and_is_scored_by_boxes_and_masks(config, tmp_path):
    cfg = config()
    check_run(cfg, trains=True)
    (tmp_path / "output").mkdir()
    trainer = DeepLab2Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    # At a threshold of 0 even this network finds something to score.
    scores = trainer._last_eval_results
    assert set(scores) == {"bbox", "segm"}
    assert {"AP", "AP-disc", "AP-star"} <= set(scores["bbox"])
    rows = (tmp_path / "output" / "metrics.json").read_text().splitlines()
    losses = {name for name in json.loads(rows[0]) if name.startswith("loss")}
    assert losses == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    resumed = DeepLab2Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2


def test_the_classes_of_another_dataset_are_refused_before_the_run(config):
    with pytest.raises(
        ConfigError, match="MODEL.ROI_HEADS.NUM_CLASSES must be 4, the things of .*got 80"
    ):
        check_run(config("MODEL.ROI_HEADS.NUM_CLASSES", 80), trains=True)
    with pytest.raises(
        ValueError, match="'mask_rcnn_val' must have an evaluator_type .*got 'coco'"
    ):
        check_run(config("MODEL.META_ARCHITECTURE", "SemanticSegmentor"), trains=False)
