"""Mean field of the dense CRF: the rule, the lattice beside brute force, the kernel beside both."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab2_d2 import ops
from deeplab2_d2.ops import reference

needs_extension = pytest.mark.skipif(
    not ops.has_extension("dense_crf"), reason="the compiled operators are not built"
)
OPTIONS = {
    "num_iterations": 3, "w1": 4.0, "theta_alpha": 9.0, "theta_beta": 12.0, "w2": 3.0,
    "theta_gamma": 2.0, "normalization": "after",
}  # fmt: skip


def lists(options):
    """The options as kernel and references take them."""
    names = ("num_iterations", "normalization")
    return {
        **{name: options[name] for name in names},
        "weights": [options["w1"], options["w2"]],
        "thetas": [options[f"theta_{name}"] for name in ("alpha", "beta", "gamma")],
    }


def scene(seed, classes, height, width, dtype=torch.float32):
    """Noisy scores of patches, and an image of other patches with noise."""
    generator = torch.Generator().manual_seed(seed)

    def patches(channels):
        coarse = torch.randn(1, channels, 4, 5, generator=generator)
        return torch.nn.functional.interpolate(coarse, size=(height, width))[0]

    def noise(channels):
        return torch.randn(channels, height, width, generator=generator)

    logits = (2 * patches(classes) + noise(classes)).to(dtype)
    image = (128 + 50 * patches(3) + 5 * noise(3)).clamp(0, 255).byte()
    return logits, image


def test_two_pixels_by_hand():
    # One kernel, 1 within a pixel and exp(-1 / (2 theta^2)) = 1 / 2 between the two. Rows of sum 1:
    # a pixel hears 2/3 of itself and 1/3 of the other.
    logits = torch.tensor([[[math.log(3), 0.0]], [[0.0, 0.0]]], dtype=torch.float64)
    # First marginals 3/4, 1/4 and 1/2, 1/2. Messages differ by w (2/3 * 1/2 + 0) = w / 3 at the
    # first and by w (1/3 * 1/2) = w / 6 at the second pixel; with w = 3 log 2 by log 2 and half it.
    options = {**OPTIONS, "num_iterations": 1, "w1": 0.0, "w2": 3 * math.log(2)}
    options["theta_gamma"] = math.sqrt(1 / (2 * math.log(2)))
    image = torch.zeros(3, 1, 2)
    expected = torch.tensor([6 / 7, math.sqrt(2) / (1 + math.sqrt(2))], dtype=torch.float64)
    for normalization in ("after", "symmetric"):  # the same: both rows have the sum 3/2
        options["normalization"] = normalization
        marginals = reference.exact_dense_crf(logits, image, **lists(options))
        torch.testing.assert_close(marginals[0, 0], expected)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("classes", [1, 2, 8, 21, 33])
def test_equal_scores_everywhere_hear_themselves_whatever_the_image(classes):
    # Rows of sum 1: the message is w1 + w2 times the marginals, which are the same at all pixels.
    scores = torch.linspace(-1, 2, classes, dtype=torch.float64)
    expected = scores.softmax(0)
    for _ in range(3):
        expected = (scores + 7 * expected).softmax(0)
    _, image = scene(0, 1, 13, 17)
    logits = scores[:, None, None].expand(classes, 13, 17)
    marginals = ops.dense_crf(logits, image, **OPTIONS)
    torch.testing.assert_close(marginals, expected[:, None, None].expand_as(logits))


@pytest.mark.usefixtures("both_ways")
def test_no_iteration_is_the_softmax_and_large_scores_are_no_problem():
    logits, image = scene(0, 3, 5, 6)
    marginals = ops.dense_crf(logits, image, **{**OPTIONS, "num_iterations": 0})
    torch.testing.assert_close(marginals, logits.softmax(0))
    marginals = ops.dense_crf(1e4 * logits, image, **OPTIONS)
    torch.testing.assert_close(marginals, (1e4 * logits).softmax(0))


@needs_extension
@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 42),
    size=st.tuples(st.integers(1, 20), st.integers(1, 24)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    thetas=st.tuples(*[st.sampled_from([0.4, 1.0, 3.0, 20.0, 500.0])] * 3),
    weights=st.tuples(*[st.sampled_from([0.0, 0.5, 3.0])] * 2),
    normalization=st.sampled_from(["after", "symmetric"]),
    seed=st.integers(0, 1000),
)
def test_kernel_equals_the_lattice_in_pytorch(
    classes, size, dtype, thetas, weights, normalization, seed
):
    logits, image = scene(seed, classes, *size, dtype=dtype)
    options = {
        "num_iterations": 2, "w1": weights[0], "w2": weights[1], "theta_alpha": thetas[0],
        "theta_beta": thetas[1], "theta_gamma": thetas[2], "normalization": normalization,
    }  # fmt: skip
    logits, image = logits.transpose(1, 2), image.transpose(1, 2)
    kept = logits.clone()
    ours = ops.dense_crf(logits, image, **options)
    assert torch.equal(logits, kept) and ours.dtype == dtype
    with ops.use_reference():
        expected = ops.dense_crf(logits.double(), image, **options)
    # The kernel's shares are float32 of points that are float32, too.
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-5)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("seed, thetas", [(0, (9, 12, 2)), (1, (49, 5, 3)), (2, (5, 30, 1))])
def test_lattice_is_near_brute_force(normalization, seed, thetas):
    logits, image = scene(seed, 4, 24, 32)
    alpha, beta, gamma = map(float, thetas)
    options = {
        **OPTIONS, "theta_alpha": alpha, "theta_beta": beta, "theta_gamma": gamma,
        "normalization": normalization,
    }  # fmt: skip
    ours = ops.dense_crf(logits, image, **options)
    exact = reference.exact_dense_crf(logits, image, **lists(options))
    distance = (ours - exact).abs().mean()
    # A tenth of what the CRF changes: cases of parity/crf differ by 1 to 5 hundredths.
    assert distance < 0.1 * (logits.softmax(0) - exact).abs().mean()


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(dtype):
    # Three bands of pixels, and more than one grain of vertices.
    logits, image = scene(0, 5, 120, 170, dtype)
    num_threads, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(ops.dense_crf(logits, image, **OPTIONS))
    finally:
        torch.set_num_threads(num_threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": torch.zeros(2, 3)}, r"logits must be \(C, H, W\), got \(2, 3\)"),
        ({"logits": torch.zeros(2, 3, 4).half()}, "logits must be float32 or float64, got"),
        ({"logits": torch.zeros(0, 3, 4)}, r"at least a class and a pixel, got \(0, 3, 4\)"),
        ({"image": torch.zeros(3, 4, 4)}, r"image must be \(3, 3, 4\), got \(3, 4, 4\)"),
        ({"image": torch.zeros(1, 3, 4)}, r"image must be \(3, 3, 4\), got \(1, 3, 4\)"),
        ({"num_iterations": -1}, "num_iterations must be at least 0, got -1"),
        ({"w1": -1.0}, "w1 must be at least 0, got -1.0"),
        ({"w2": float("nan")}, "w2 must be at least 0, got nan"),
        ({"theta_alpha": 0.0}, "theta_alpha must be positive, got 0.0"),
        ({"theta_beta": -3.0}, "theta_beta must be positive, got -3.0"),
        ({"normalization": "before"}, "must be one of 'after', 'symmetric', got 'before'"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"logits": torch.zeros(2, 3, 4), "image": torch.zeros(3, 3, 4), **OPTIONS}
    with pytest.raises(ValueError, match=message):
        ops.dense_crf(**{**arguments, **change})


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["logits", "image"])
def test_what_is_not_finite_is_an_error(name, value):
    arguments = {"logits": torch.zeros(2, 3, 4), "image": torch.zeros(3, 3, 4)}
    arguments[name][1, 2, 3] = value
    with pytest.raises((ValueError, RuntimeError), match=f"{name} must be finite, got"):
        ops.dense_crf(**arguments, **OPTIONS)


def test_tensor_on_a_gpu_gets_a_sentence():
    with FakeTensorMode():
        logits = torch.zeros(2, 3, 4, device="cuda")
        with pytest.raises(ValueError, match=r"must be on the CPU .* logits.cpu\(\) .* got cuda"):
            ops.dense_crf(logits, torch.zeros(3, 3, 4), **OPTIONS)


@needs_extension
def test_lattice_that_is_too_fine_for_its_keys_is_an_error():
    logits, image = scene(0, 2, 6, 7)
    with pytest.raises(RuntimeError, match="theta_gamma must be larger for an image of this size"):
        ops.dense_crf(logits, image, **{**OPTIONS, "theta_alpha": 1e-12, "theta_beta": 1e-12})


@needs_extension
def test_operator_is_registered_as_torch_expects():
    torch.library.opcheck(
        torch.ops.deeplab2_d2.dense_crf.default, scene(0, 3, 6, 7), lists(OPTIONS)
    )
