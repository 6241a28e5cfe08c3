import numpy as np
import pytest

from deeplab2_d2.data import build_train_loader
from deeplab2_d2.data.copy_paste import PADDING, LabeledImage, PanopticCopyPaste
from deeplab2_d2.data.segment_map import SegmentTable
from deeplab2_d2.models.panoptic_deeplab.targets import build_mapper

# Rows: void, thing of class 1, crowd of class 1, stuff of class 5, padding.
_SOURCE_MAP = np.array([[0, 1, 2, 3, PADDING]], np.int32)


def _table(*rows):
    classes, things, crowds = (np.array(column) for column in zip(*rows))
    return SegmentTable(classes, things.astype(bool), crowds.astype(bool))


def _paste(seed=0, **options):
    base = LabeledImage(
        np.zeros((1, 5, 3), np.float32), np.ones((1, 5), np.int32), _table((7, 0, 0))
    )
    source = LabeledImage(
        np.full((1, 5, 3), 9, np.float32), _SOURCE_MAP, _table((1, 1, 0), (1, 1, 1), (5, 0, 0))
    )
    result = PanopticCopyPaste(**options)(base, source, np.random.default_rng(seed))
    assert np.array_equal(result.image[..., 0] == 9, result.segment_map != 1)
    return result


def test_all_pastes_everything_but_padding():
    result = _paste(thing="all", stuff="all", void="all")
    assert result.segment_map.tolist() == [[0, 2, 3, 4, 1]]
    assert result.segments.category_ids.tolist() == [7, 1, 1, 5]
    assert result.segments.is_crowd.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "options, wanted",
    [
        ({"thing": "all", "stuff": "none", "void": "none"}, [1, 2, 3, 1, 1]),
        ({"thing": "none", "stuff": "all", "void": "none"}, [1, 1, 1, 4, 1]),
        ({"thing": "none", "stuff": "none", "void": "all"}, [0, 1, 1, 1, 1]),
        ({"thing": "none", "stuff": "none", "void": "none"}, [1, 1, 1, 1, 1]),
    ],
)
def test_each_kind_has_its_own_option(options, wanted):
    assert _paste(**options).segment_map.tolist() == [wanted]


def test_random_draws_every_number_of_segments_and_never_padding():
    maps = [_paste(seed, void="random").segment_map[0] for seed in range(300)]
    pasted = {tuple((m != 1).tolist()) for m in maps}
    # Four labels that may be pasted or not.
    assert len(pasted) == 16 and all(not p[4] for p in pasted)


def test_images_of_different_size_are_refused():
    small = LabeledImage(
        np.zeros((1, 1, 3), np.float32), np.ones((1, 1), np.int32), _table((7, 0, 0))
    )
    big = LabeledImage(
        np.zeros((2, 1, 3), np.float32), np.ones((2, 1), np.int32), _table((7, 0, 0))
    )
    with pytest.raises(ValueError, match=r"one size, got \(1, 1\) and \(2, 1\)"):
        PanopticCopyPaste()(small, big, np.random.default_rng(0))


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match="stuff must be one of .*'some'"):
        PanopticCopyPaste(stuff="some")


def test_the_loader_brings_a_partner_and_the_samples_have_things_of_both(shapes_cfg):
    def instance_pixels(scale):
        shapes_cfg.INPUT.DEEPLAB2.COPY_PASTE.SCALE = scale
        shapes_cfg.INPUT.DEEPLAB2.COPY_PASTE.PASTED = ["all", "none", "none"]
        loader = iter(build_train_loader(shapes_cfg, build_mapper(shapes_cfg, is_train=True)))
        samples = [sample for _ in range(6) for sample in next(loader)]
        return np.mean([float(sample["offset_weights"].mean()) for sample in samples])

    assert instance_pixels(1.0) > 1.2 * instance_pixels(0.0)


def test_a_mapper_that_pastes_refuses_to_work_without_a_partner(shapes_cfg):
    from detectron2.data import DatasetCatalog

    shapes_cfg.INPUT.DEEPLAB2.COPY_PASTE.SCALE = 1.0
    mapper = build_mapper(shapes_cfg, is_train=True)
    assert mapper.needs_partner
    with pytest.raises(ValueError, match="partner must be given"):
        mapper(DatasetCatalog.get(shapes_cfg.DATASETS.TRAIN[0])[0], np.random.default_rng(0))
