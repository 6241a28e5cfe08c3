import numpy as np
import pytest
import torch
from torch.nn import functional

from deeplab2_d2.checkpoint import parameter_for_key


@pytest.mark.parametrize(
    "key, name",
    [
        (
            "encoder/_stage2/_block1/_conv1_bn_act/_batch_norm/gamma",
            "backbone.stage2.block1.conv1_bn_act.batch_norm.weight",
        ),
        (
            "encoder/_stage2/_block1/_conv1_bn_act/_batch_norm/moving_variance",
            "backbone.stage2.block1.conv1_bn_act.batch_norm.running_var",
        ),
        (
            "encoder/_blocks/1/_squeeze_excitation/_se_reduce/bias",
            "backbone.blocks.1.squeeze_excitation.se_reduce.bias",
        ),
        (
            "encoder/_stage5/_block1/_conv2_bn_act/_conv/_switch/kernel",
            "backbone.stage5.block1.conv2_bn_act.conv.switch.weight",
        ),
        (
            "encoder/_stage4/_block2/_attention/_height_axis/_query_rpe/embeddings",
            "backbone.stage4.block2.attention.height_axis.query_rpe.weight",
        ),
        ("semantic_last_layer/kernel", "head.semantic_head.final_conv.weight"),
        (
            "semantic_head_without_last_layer/_conv1_bn_act/_pointwise/_conv/kernel",
            "head.semantic_head.conv1_bn_act.pointwise.conv.weight",
        ),
        ("instance_center_head_last_layer/bias", "head.center_head.final_conv.bias"),
        ("instance_regression_head_last_layer/bias", "head.offset_head.final_conv.bias"),
        # As the TensorFlow Model Garden saves the encoder it trained.
        ("backbone/_encoder/_stem/_conv/kernel", "backbone.stem.conv.weight"),
    ],
)
def test_a_key_keeps_its_words(key, name):
    assert parameter_for_key(key).name == name


@pytest.mark.parametrize("key", ["classifier/kernel", "encoder/_stem/_conv/unheard_of", "save"])
def test_what_no_model_has_gets_no_name(key):
    assert parameter_for_key(key) is None


def converted(key, array):
    return torch.from_numpy(np.array(parameter_for_key(key).to_layout(array)))


def test_a_kernel_convolves_as_before():
    # y[o] at a pixel is the sum over i, j, c of x[i, j, c] * kernel[i, j, c, o].
    random = np.random.default_rng(0)
    image, kernel = random.normal(size=(3, 3, 2)), random.normal(size=(3, 3, 2, 5))
    weight = converted("encoder/_stem/_conv/kernel", kernel)
    out = functional.conv2d(torch.from_numpy(image).permute(2, 0, 1)[None], weight)
    assert np.allclose(out.flatten().numpy(), np.einsum("ijc,ijco->o", image, kernel))


def test_a_depthwise_kernel_convolves_as_before():
    # TensorFlow: output channel c * multiplier + m is from input c.
    random = np.random.default_rng(0)
    image, kernel = random.normal(size=(3, 3, 4)), random.normal(size=(3, 3, 4, 2))
    weight = converted("encoder/_blocks/1/_conv2_bn_act/_depthwise_conv/depthwise_kernel", kernel)
    out = functional.conv2d(torch.from_numpy(image).permute(2, 0, 1)[None], weight, groups=4)
    assert np.allclose(out.flatten().numpy(), np.einsum("ijc,ijcm->cm", image, kernel).ravel())


def test_a_kernel_over_sequences_convolves_as_before():
    random = np.random.default_rng(0)
    sequence, kernel = random.normal(size=(7, 3)), random.normal(size=(1, 3, 4))
    key = "encoder/_stage5/_block1_transformer/_memory_qkv_conv_bn/_conv/kernel"
    out = functional.conv1d(torch.from_numpy(sequence).T[None], converted(key, kernel))
    assert np.allclose(out[0].T.numpy(), sequence @ kernel[0])


def test_batch_norm_of_attention_becomes_channels_term_by_term():
    gamma = np.arange(24.0).reshape(3, 1, 8, 1, 1)
    key = "encoder/_stage4/_block2/_attention/_height_axis/_batch_norm_similarity/gamma"
    assert converted(key, gamma).tolist() == list(range(24))


def test_words_that_python_reserves_get_an_underscore():
    key = "encoder/_stage4/_block1/_attention/_global/_batch_norm_qkv/gamma"
    name = "backbone.stage4.block1.attention.global_.batch_norm_qkv.weight"
    assert parameter_for_key(key).name == name


def test_shapes_are_found_without_values():
    key = "encoder/_blocks/1/_conv2_bn_act/_depthwise_conv/depthwise_kernel"
    assert parameter_for_key(key).shape((5, 5, 288, 1)) == (288, 1, 5, 5)
    huge = parameter_for_key("encoder/_stem/_conv/kernel").shape((1, 1, 1 << 20, 1 << 20))
    assert huge == (1 << 20, 1 << 20, 1, 1)
