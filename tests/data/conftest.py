import pytest
from detectron2.config import get_cfg
from shapes_video_dataset import video_dataset  # noqa: F401

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.data.shapes import ShapesOptions, prepare_shapes, shapes_metadata
from deeplab2_d2.data.shapes_scene import SceneOptions


@pytest.fixture(scope="session")
def shapes_options():
    """Six images of 64 x 80 with a crowd in each."""
    scene = SceneOptions(height=64, width=80, radius=(8.0, 14.0), crowd_probability=1.0)
    return ShapesOptions(num_train=4, num_val=2, seed=3, scene=scene)


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory, shapes_options):
    """A small generated dataset; not to be changed."""
    folder = tmp_path_factory.mktemp("datasets") / "shapes"
    prepare_shapes(str(folder), shapes_options)
    return folder


@pytest.fixture
def registered_shapes(shapes_folder):
    """Names of its train and val split, registered for one test."""
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_panoptic

    names = []
    for split in ("train", "val"):
        names.append(f"test_shapes_{split}")
        register_coco_panoptic(
            names[-1],
            shapes_metadata(),
            str(shapes_folder / split),
            str(shapes_folder / f"panoptic_{split}"),
            str(shapes_folder / "annotations" / f"panoptic_{split}.json"),
            str(shapes_folder / "annotations" / f"instances_{split}.json"),
        )
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def shapes_cfg(registered_shapes):
    """A config of a 65 x 97 crop on the small dataset."""
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.SEED = 7
    cfg.DATASETS.TRAIN = (registered_shapes[0],)
    cfg.DATASETS.TEST = (registered_shapes[1],)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.CROP.SIZE = [65, 97]
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.INPUT.MAX_SIZE_TEST = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg
