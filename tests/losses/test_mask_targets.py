import pytest
import torch

from deeplab2_d2.losses import build_mask_targets


def _build(semantic, thing_masks, thing_classes, **options):
    options = {"size": (1, 5), "thing_ids": [4, 2], "stuff_ids": [0, 3], **options}
    return build_mask_targets(
        torch.tensor([[semantic]]),
        torch.tensor([[thing_masks]]),
        torch.tensor([thing_classes]),
        ignore_label=255,
        **options,
    )


def test_things_come_first_then_stuff_and_absent_masks_have_no_class():
    # Pixels: thing 1 (class 2), stuff 3, stuff 3, a crowd of class 4, void. Thing 0 has no pixel.
    targets = _build([2, 3, 3, 4, 255], [1, -1, -1, -1, -1], [4, 2, -1])
    # Masks 0..2 are things, 3 and 4 stuff.
    assert targets.mask_ids.tolist() == [[1, 4, 4, -1, -1]]
    # Channels of the class head: 4, 2, then 0, 3.
    assert targets.classes.tolist() == [[-1, 1, -1, -1, 3]]
    assert targets.areas.tolist() == [[0.0, 1.0, 0.0, 0.0, 2.0]]
    assert targets.is_labeled.tolist() == [[True, True, True, True, False]]
    assert targets.is_thing.tolist() == [[True, False, False, False, False]]
    assert targets.one_hot_masks()[0, 4].tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_masks_that_vanish_at_the_smaller_size_are_absent():
    semantic = [3, 2, 3, 3, 3, 3, 3, 3, 3]
    things = [-1, 0, -1, -1, -1, -1, -1, -1, -1]
    targets = build_mask_targets(
        torch.tensor(semantic).expand(1, 3, 9),
        torch.tensor(things).expand(1, 3, 9),
        torch.tensor([[2]]),
        size=(2, 5),
        thing_ids=[2],
        stuff_ids=[3],
        ignore_label=255,
    )
    assert targets.classes.tolist() == [[-1, 1]]
    assert targets.areas.tolist() == [[0.0, 10.0]]


def test_all_void_image_has_no_masks():
    targets = _build([255] * 5, [-1] * 5, [-1, -1])
    assert not targets.exists.any()
    assert not targets.is_labeled.any()


def test_size_without_a_whole_stride_is_refused():
    with pytest.raises(ValueError, match="whole"):
        _build([0] * 5, [-1] * 5, [-1], size=(1, 4))
