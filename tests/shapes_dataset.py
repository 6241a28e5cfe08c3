"""A small generated dataset for tests that read images."""

from typing import Iterator, Tuple

import pytest

from deeplab2_d2.data.builtin import register_all
from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes, register_shapes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[str, str]]:
    """Names of a small generated dataset for training and evaluation."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    folder = tmp_path_factory.mktemp("datasets")
    prepare_shapes(str(folder / "shapes"), ShapesOptions(num_train=4, num_val=2))
    names = ("shapes_panoptic_train", "shapes_panoptic_val")
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_shapes(str(folder))
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_all()
