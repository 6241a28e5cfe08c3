"""The error rule of the golden set."""

import numpy as np
import pytest
from parity.comparison import compare, relative_error


def test_error_is_relative_to_the_standard_deviation_of_the_reference() -> None:
    reference = np.tile([0.0, 2.0, 4.0], 6)  # 18 numbers; std = sqrt(8 / 3)
    assert relative_error(reference + 0.1, reference) == pytest.approx(0.1 / np.sqrt(8 / 3))


def test_of_few_numbers_the_root_mean_square_counts_if_it_is_larger() -> None:
    reference = np.array([0.0, 2.0, 4.0])  # rms = sqrt(20 / 3), std = sqrt(8 / 3)
    assert relative_error(reference + 0.1, reference) == pytest.approx(0.1 / np.sqrt(20 / 3))
    # Two equal losses, of which one differs in the last digit of float32.
    loss = np.full(2, 4.0, np.float32)
    other = np.array([4.0, np.nextafter(np.float32(4.0), np.float32(5.0))])
    assert relative_error(other, loss) == pytest.approx(2.0**-21 / 4.0)


def test_constant_reference_is_scaled_by_a_thousandth_of_its_size() -> None:
    assert relative_error(np.full(16, 2.0 + 1e-4), np.full(16, 2.0)) == pytest.approx(0.05)


def test_nan_equals_nan_and_nothing_else() -> None:
    reference = np.array([np.nan, 1.0])
    assert relative_error(np.array([np.nan, 1.0]), reference) == 0.0
    assert relative_error(np.array([0.0, 1.0]), reference) == np.inf
    assert relative_error(np.array([np.nan, np.nan]), reference) == np.inf


def test_integers_must_be_equal() -> None:
    reference = np.arange(4, dtype=np.int32)
    assert compare("networks", "c", "out", reference, reference).status == "ok"
    assert compare("networks", "c", "out", reference + 1, reference).status == "FAIL"


def test_missing_output_is_not_ported_and_another_shape_fails() -> None:
    reference = np.zeros((2, 3))
    assert compare("layers", "c", "out", None, reference).status == "not ported"
    assert compare("layers", "c", "out", np.zeros((3, 2)), reference).status == "FAIL"


def test_stated_statistics_catch_an_error_outside_of_the_stored_slice() -> None:
    ours = np.random.default_rng(0).normal(size=(1, 4, 4, 2))
    stated = {
        "shape": [1, 4, 4, 2],
        "stored_stride": 2,
        "mean": ours.mean(),
        "std": ours.std(),
        "min": ours.min(),
        "max": ours.max(),
    }
    stored = ours[:, ::2, ::2]
    assert compare("networks", "c", "raw/x", ours, stored, stated).status == "ok"
    wrong = ours.copy()
    wrong[0, 1, 1, 0] += 1.0
    assert compare("networks", "c", "raw/x", wrong, stored, stated).status == "FAIL"


def test_grey_levels_of_images_are_absolute_and_rounded_operations_may_differ_by_one() -> None:
    image = np.full((2, 2, 3), 100.0, np.float32)
    assert compare("targets", "c", "out/image", image + 9e-4, image).status == "ok"
    assert compare("targets", "c", "out/image", image + 2e-3, image).status == "FAIL"
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert compare("targets", "c", "out/Color/3.4", grey + 1, grey).status == "ok"
    assert compare("targets", "c", "out/Invert/0", grey + 1, grey).status == "FAIL"


def test_approximation_may_be_half_as_far_again_as_the_references_own() -> None:
    exact = np.array([[0.9, 0.1], [0.4, 0.6]])
    theirs = {"mean_abs": 0.125, "labels_differ": 1}
    # 3/16 everywhere, and the second arg-max is another.
    ours = exact + np.array([[-0.1875, 0.1875], [0.1875, -0.1875]])
    result = compare("crf", "c", "lattice", ours, exact, {**theirs, "mean_abs": 0.126})
    assert result.status == "ok" and result.error == pytest.approx(0.1875 / 0.126)
    assert compare("crf", "c", "lattice", ours, exact, {**theirs, "mean_abs": 0.124}).error > 1.5
    assert compare("crf", "c", "lattice", exact[::-1], exact, theirs).status == "FAIL"
    assert compare("crf", "c", "lattice", ours * np.nan, exact, theirs).status == "FAIL"
    none = {"mean_abs": 0.5, "labels_differ": 0}
    assert compare("crf", "c", "lattice", ours, exact, none).status == "FAIL"
    assert compare("crf", "c", "lattice", exact, exact, none).error == 0.0
    assert compare("crf", "c", "lattice", None, exact, theirs).status == "not ported"
