"""A model that says it returns tracks and depth is scored on them, beside its frames' scores."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_videos as videos
from detectron2.data import MetadataCatalog

from deeplab2_d2.engine.evaluators import build_evaluators
from deeplab2_d2.engine.setup import load_config
from deeplab2_d2.evaluation import GroundTruthPredictor
from deeplab2_d2.models.panoptic_deeplab import RECORD, DeepLab2PanopticDeepLab
from deeplab2_d2.records import register

CONFIG = str(
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation"
    / "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
NAME = "deeplab2_d2_videos_of_a_record"
FRAMES = ("sem_seg", "panoptic_seg", "instances")


class ToyTracker(DeepLab2PanopticDeepLab):
    """Known by its record alone."""


@pytest.fixture
def build(own_table, meta_architecture, tmp_path):
    """Dataset dicts, outputs, and a call that builds the evaluators for names of outputs."""
    meta_architecture(ToyTracker)
    records, outputs, metadata = videos.make_video_dataset(tmp_path)
    videos.register(NAME, records, metadata)

    def _build(*names, **changes):
        MetadataCatalog.get(NAME).set(**changes)
        table = replace(RECORD, add_config=None, option_rules={}, outputs=lambda cfg: names)
        register(ToyTracker, table)
        cfg = load_config(CONFIG, ["MODEL.META_ARCHITECTURE", "ToyTracker"])
        return build_evaluators(cfg, NAME, str(tmp_path))

    yield records, outputs, _build
    videos.remove(NAME)


@pytest.mark.parametrize(
    "names, wanted",
    [
        (("track",), ["stq", "vpq"]),
        (("track", "depth"), ["stq", "vpq", "dstq", "dvpq", "depth"]),
        ((*FRAMES, "track"), ["sem_seg", "panoptic_seg", "segm", "stq", "vpq"]),
    ],
)
def test_its_outputs_decide_on_the_scores(build, names, wanted):
    pytest.importorskip("panopticapi")
    records, outputs, build = build
    evaluators = build(*names)
    predict = GroundTruthPredictor(num_classes=len(videos.CLASSES), thing_ids=videos.THINGS)
    evaluators.reset()
    for record, output in zip(records, outputs):
        evaluators.process([record], [{**predict([record])[0], **output}])
    results = evaluators.evaluate()
    assert list(results) == wanted
    if "panoptic_seg" in results:
        assert results["panoptic_seg"]["PQ"] == 100.0
        assert results["segm"]["AP"] == pytest.approx(100.0)


def test_a_test_split_of_videos_gets_files_of_its_server_alone(build):
    _, _, build = build
    evaluators = build(*FRAMES, "track", has_ground_truth=False)
    assert [type(part).__name__ for part in evaluators._evaluators] == ["VideoSubmission"]
