"""The tutorial's commands, run as they stand on a few generated images."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab2_d2.data.shapes import shapes_categories
from deeplab2_d2.data.shapes_scene import THING_NAMES, SceneOptions, draw_scene

_ROOT = pathlib.Path(__file__).parents[2]
_TUTORIAL = _ROOT / "docs" / "tutorial_own_data.md"


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", _TUTORIAL.read_text(), flags=re.DOTALL)


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write_own_images(folder):
    """Photos, masks and maps in the layout of the tutorial, of scenes with things and a crowd."""
    ids = {category["name"]: category["id"] for category in shapes_categories()}
    options = SceneOptions(crowd_probability=0.5, num_things=(3, 5))
    for split, num_images in (("train", 3), ("val", 1)):
        for k in range(num_images):
            scene = draw_scene(options, np.random.default_rng([len(split), k]))
            _save(folder / "photos" / split / f"{k:04d}.jpg", scene.image)
            semantic = np.zeros(scene.segment_map.shape, np.uint8)
            for index, segment in enumerate(scene.segments):
                mask = scene.segment_map == index + 1
                if segment.name in THING_NAMES:
                    crowd = "_crowd" if segment.is_crowd else ""
                    name = f"{segment.name}{crowd}_{index}.png"
                    _save(folder / "masks" / split / f"{k:04d}" / name, mask.astype(np.uint8) * 255)
                else:
                    semantic[mask] = ids[segment.name]
            _save(folder / "maps" / split / f"{k:04d}.png", semantic)


@pytest.mark.slow
def test_every_command_of_the_tutorial_works_and_ends_with_a_panoptic_quality(tmp_path):
    _write_own_images(tmp_path)
    (categories,), (yaml,) = _blocks("json"), _blocks("yaml")
    assert [c["name"] for c in json.loads(categories)] == [c["name"] for c in shapes_categories()]
    (tmp_path / "categories.json").write_text(categories)
    # Two iterations of two images instead of a thousand of eight.
    yaml = yaml.replace("$CONFIGS", str(_ROOT / "configs"))
    yaml = yaml.replace("MAX_ITER: 1000", "MAX_ITER: 2\n  IMS_PER_BATCH: 2")
    (tmp_path / "shop.yaml").write_text(yaml)

    script = "set -e\n" + "\n".join(_blocks("bash"))
    environment = {
        **os.environ,
        "REPOSITORY": str(_ROOT),
        "PYTHONPATH": str(_ROOT / "projects"),
        "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-4000:]
    assert "shop_train: 3 images, 0 errors" in output and "shop_val: 1 images, 0 errors" in output
    assert Image.open(tmp_path / "samples.png").size[0] > 5 * 161
    assert (tmp_path / "output" / "model_final.pth").is_file()
    assert len(re.findall(r"PQ,SQ,RQ", output)) >= 2
