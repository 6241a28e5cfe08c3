"""Views and models with mask slots are averaged slot by slot, of MaX-DeepLab and kMaX-DeepLab."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from deeplab2_d2.engine import load_config
from deeplab2_d2.models import average_views
from deeplab2_d2.models.max_deeplab.averaging import match_slots
from deeplab2_d2.records import Averaging, find_record

CONFIGS = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
# Config, the learned start of every slot, and the key that decides their number.
MODELS = {
    "MaX": (
        "max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml",
        "backbone.memory_feature",
        "MODEL.DEEPLAB2.BACKBONE.RESIDUAL.MEMORY.NUM_SLOTS",
    ),
    "kMaX": (
        "kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml",
        "head.transformer_decoder.cluster_centers",
        "MODEL.DEEPLAB2.KMAX_DEEPLAB.NUM_CENTERS",
    ),
}
NARROW = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0"]


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def build(name, *options):
    torch.manual_seed(0)
    return build_model(load_config(str(CONFIGS / MODELS[name][0]), [*NARROW, *options])).eval()


def image_batch(network):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 33, 49), generator=generator).float()
    return network.batch([{"image": image}]).tensor


def make_sure(network):
    """Masks without doubt, whose overlap with themselves is the largest there is."""
    head = network.head
    torch.nn.init.constant_(head.pixel_space_mask_batch_norm.weight, 1e4)
    torch.nn.init.normal_(head.transformer_class_head.weight)
    return network


def test_a_model_whose_slots_are_in_another_order_does_not_change_the_average(name):
    first, second = make_sure(build(name)), make_sure(build(name))
    start = second.get_parameter(MODELS[name][1])
    num_slots = 32
    order = torch.randperm(num_slots, generator=torch.Generator().manual_seed(1))
    start.data[:, :num_slots] = start.data[:, order]
    images, averaging = image_batch(first), find_record(first).averaging
    alone = average_views([first], images, averaging=averaging).probabilities
    both = average_views([first, second], images, averaging=averaging).probabilities
    torch.testing.assert_close(both["mask_logits"], alone["mask_logits"], rtol=1e-4, atol=1e-4)
    # Slots without a pixel have nothing to be told apart by.
    has_pixels = alone["mask_logits"][0].sum((1, 2)) > 0.5
    assert 2 < has_pixels.sum()
    torch.testing.assert_close(
        both["class_logits"][:, has_pixels], alone["class_logits"][:, has_pixels]
    )
    unordered = average_views([first, second], images, averaging=Averaging(at_input_size=False))
    assert (unordered.probabilities["mask_logits"] - alone["mask_logits"]).abs().max() > 0.4


def test_a_flipped_view_mirrors_the_average(name):
    network = build(name)
    averaging, images = find_record(network).averaging, image_batch(network)
    network.head.has_semantic_in_evaluation = True
    mean = average_views([network], images, flip=True, averaging=averaging).prediction()
    mirrored = average_views([network], images.flip(3), flip=True, averaging=averaging).prediction()
    # The order of the slots is that of the first view.
    order = match_slots(
        mean["mask_logits"].softmax(1),
        mean["class_logits"].softmax(2),
        mirrored["mask_logits"].softmax(1).flip(3),
        mirrored["class_logits"].softmax(2),
    )
    index = order[:, :, None].expand_as(mean["class_logits"])
    # The same two views, so the same sums wherever the slots were matched alike.
    torch.testing.assert_close(
        mean["semantic_logits"], mirrored["semantic_logits"].flip(3), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        mean["class_logits"].exp().sum(1),
        mirrored["class_logits"].gather(1, index).exp().sum(1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_models_with_other_numbers_of_slots_cannot_be_averaged(name):
    key = MODELS[name][2]
    networks = [build(name), build(name, key, "16")]
    images, averaging = image_batch(networks[0]), find_record(networks[0]).averaging
    message = rf"same number of mask slots \(config key {key}\), got 32 and 16"
    with pytest.raises(ValueError, match=message):
        average_views(networks, images, averaging=averaging)
