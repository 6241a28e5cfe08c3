"""What the demo of DeepLab v2 and v3+ compares is what evaluation says of the trained model."""

from pathlib import Path
from typing import Any

import pytest

from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.engine.demo_semantic import CONFIGS, train_and_evaluate
from deeplab2_d2.engine.testing import evaluate

ROOT = Path(__file__).resolve().parents[2]
CRF = "MODEL.DEEPLAB2.CRF.ENABLED"


def config(folder: Path, *options: Any) -> Any:
    own = ["OUTPUT_DIR", folder, "SOLVER.MAX_ITER", 2, "DATALOADER.NUM_WORKERS", 0]
    own += ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0]
    own += ["MODEL.DEEPLAB2.CRF.NUM_ITERATIONS", 1, *options]
    return load_config(str(ROOT / CONFIGS[1]), list(map(str, own)))


@pytest.mark.slow
def test_the_scores_are_those_of_the_model_without_and_with_the_crf(
    dataset: Any, tmp_path: Path
) -> None:
    plain, refined = train_and_evaluate(config(tmp_path))
    expected = [
        evaluate(config(tmp_path, CRF, is_refined), resume=True)["sem_seg"]["mIoU"]
        for is_refined in (False, True)
    ]
    assert [plain, refined] == expected and plain != refined


def test_a_config_that_refines_by_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CRF.ENABLED must be False"):
        train_and_evaluate(config(tmp_path, CRF, True))
