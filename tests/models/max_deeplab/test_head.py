import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec

from deeplab2_d2.heads import PredictionHead
from deeplab2_d2.layers import Norm
from deeplab2_d2.models.max_deeplab import MaXDeepLabHead
from deeplab2_d2.structures import Encoded, Memory, MemoryShape

NORM = Norm(name="BN")
SHAPES = {
    "feature_panoptic": ShapeSpec(channels=6, stride=4),
    "feature_semantic": ShapeSpec(channels=5, stride=4),
}
MEMORY_SHAPE = MemoryShape(num_slots=4, class_channels=7, mask_channels=8)


def head(shapes=SHAPES, num_classes=3, with_semantic=True):
    torch.manual_seed(0)
    return MaXDeepLabHead(
        input_shape=shapes,
        memory_shape=MEMORY_SHAPE,
        num_classes=num_classes,
        pixel_head=PredictionHead(6, channels=32, out_channels=9, norm=NORM),
        pixel_channels=9,
        norm=NORM,
        semantic_head=(
            PredictionHead(5, channels=32, out_channels=3, norm=NORM) if with_semantic else None
        ),
    )


def features(num_images=2, height=5, width=7, num_slots=4):
    generator = torch.Generator().manual_seed(0)
    maps = {
        "feature_panoptic": torch.randn(num_images, 6, height, width, generator=generator),
        "feature_semantic": torch.randn(num_images, 5, height, width, generator=generator),
    }
    memory = Memory(
        class_features=torch.randn(num_images, 7, num_slots, generator=generator),
        mask_features=torch.randn(num_images, 8, num_slots, generator=generator),
    )
    return Encoded(maps, memory)


def test_masks_are_the_normalised_products_of_pixel_features_and_mask_features():
    network, inputs = head().eval(), features()
    prediction = network(inputs)
    kernels = network.transformer_mask_head(inputs.memory.mask_features)
    norm = network.pixel_space_mask_batch_norm
    # A new batch norm has mean 0, variance 1, shift 0; the scale begins at 0.1.
    scale = 0.1 / math.sqrt(1 + norm.eps)
    expected = scale * torch.einsum("ndhw,ndk->nkhw", prediction["pixel_features"], kernels)
    # Sums of nine products in another order.
    torch.testing.assert_close(prediction["mask_logits"], expected, rtol=1e-5, atol=1e-6)
    lengths = prediction["pixel_features"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-5, atol=0)


def test_one_mean_and_variance_normalise_the_masks_of_all_slots():
    network = head().train()
    mask_logits = network(features())["mask_logits"]
    # Batch norm with scale 0.1 over everything.
    assert abs(float(mask_logits.detach().mean())) < 1e-6
    assert float(mask_logits.detach().std(unbiased=False)) == pytest.approx(0.1, rel=0.05)


def test_an_untrained_slot_is_void_with_nine_tenths():
    prediction = head(num_classes=50)(features())
    void = F.softmax(prediction["class_logits"], dim=2)[..., -1]
    # The weights begin with a standard deviation of 0.01, so the logits are close to their bias.
    torch.testing.assert_close(void, torch.full_like(void, 0.9), rtol=0.02, atol=0)


def test_there_is_no_semantic_prediction_without_its_head():
    assert "semantic_logits" not in head(with_semantic=False)(features())
    network = head()
    semantic = network(features())["semantic_logits"]
    # The head alone, whose batch norm sees the same batch.
    expected = network.semantic_head(features().features["feature_semantic"])
    torch.testing.assert_close(semantic, expected)


def test_the_semantic_branch_runs_in_evaluation_only_if_asked():
    network, called = head().eval(), []
    network.semantic_head.register_forward_hook(lambda *_: called.append(True))
    prediction = network(features())
    assert "semantic_logits" not in prediction and not called
    network.has_semantic_in_evaluation = True
    asked = network(features())
    assert torch.equal(
        asked["semantic_logits"], network.semantic_head(features().features["feature_semantic"])
    )
    assert torch.equal(asked["mask_logits"], prediction["mask_logits"])


def test_a_backbone_without_pixel_features_is_refused():
    shapes = {"feature_semantic": SHAPES["feature_semantic"], "res5": ShapeSpec(channels=9)}
    with pytest.raises(ValueError, match="'feature_panoptic'.*res5"):
        head(shapes)


def test_the_heads_compile_into_one_graph_and_export():
    network, inputs = head().eval(), features()
    expected = network(inputs)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)(inputs)
    # The same operators, in the same order.
    assert torch.equal(compiled["mask_logits"], expected["mask_logits"])

    exported = torch.export.export(network, (inputs,)).module()(inputs)
    assert list(exported) == list(expected)
    assert torch.equal(exported["mask_logits"], expected["mask_logits"])
    assert torch.equal(exported["class_logits"], expected["class_logits"])
