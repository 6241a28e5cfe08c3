"""A small generated dataset of videos for tests that read frames."""

from typing import Iterator, Tuple

import pytest

from deeplab2_d2.data.builtin import register_all
from deeplab2_d2.data.shapes_video import (
    ShapesVideoOptions,
    prepare_shapes_video,
    register_shapes_video,
)


@pytest.fixture(scope="module")
def video_dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[str, str]]:
    """Names for training and evaluation, with a slow and a fast sequence each."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    folder = tmp_path_factory.mktemp("datasets")
    options = ShapesVideoOptions(num_train=2, num_val=2)
    prepare_shapes_video(str(folder / "shapes_video"), options)
    names = ("shapes_video_train", "shapes_video_val")
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_shapes_video(str(folder))
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_all()
