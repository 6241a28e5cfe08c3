import torch

from deeplab2_d2.structures import select_images


def test_one_image_is_a_batch_of_one_of_every_map():
    prediction = {
        "semantic_logits": torch.arange(12.0).view(3, 2, 1, 2),
        "class_logits": torch.arange(6.0).view(3, 1, 2),
    }
    chosen = select_images(prediction, 1)
    assert set(chosen) == set(prediction)
    assert chosen["semantic_logits"].tolist() == [[[[4.0, 5.0]], [[6.0, 7.0]]]]
    assert chosen["class_logits"].tolist() == [[[2.0, 3.0]]]
    # A part of what there is, not a copy of it.
    assert chosen["class_logits"].data_ptr() == prediction["class_logits"][1].data_ptr()
