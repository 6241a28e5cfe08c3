"""A key of an earlier version is refused with the new way."""

import pytest
from detectron2.config import get_cfg

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.config.vanished import VANISHED_KEYS
from deeplab2_d2.engine.setup import ConfigError, load_config


@pytest.mark.parametrize(
    "key, value, new",
    [
        ("MODEL.DEEPLAB2.LOSS.SEMANTIC_TOP_K", "0.2", "MODEL.DEEPLAB2.LOSS.SEMANTIC holds"),
        ("MODEL.DEEPLAB2.BACKBONE.STEM", "conv3x3", "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.STEM"),
        ("SOLVER.DEEPLAB2.CLIP_GLOBAL_NORM", "10.0", "SOLVER.CLIP_GRADIENTS"),
    ],
)
def test_an_old_override_is_refused_with_the_new_key(key: str, value: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*{new}"):
        load_config("", [key, value])


def test_an_old_file_is_refused_with_the_new_key(tmp_path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("VERSION: 2\nINPUT:\n  DEEPLAB2:\n    MIN_SCALE: 0.5\n")
    with pytest.raises(ConfigError, match="INPUT.DEEPLAB2.MIN_SCALE.*INPUT.DEEPLAB2.SCALES holds"):
        load_config(str(path))


def test_no_vanished_key_exists() -> None:
    cfg = get_cfg()
    add_deeplab2_config(cfg)

    def exists(key: str) -> bool:
        node = cfg
        for part in key.split("."):
            if part not in node:
                return False
            node = node[part]
        return True

    assert [key for key in VANISHED_KEYS if exists(key)] == []
