"""The error of an output against the reference, and what is tolerated."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional

import numpy as np

# Largest error that passes, by group. The reference computed twice (once without oneDNN, single
# threaded) differs from itself by up to 4e-5 in networks.
FLOAT_TOLERANCES = {
    "networks": 1e-3,
    "meta": 1e-3,
    "layers": 1e-4,
    "losses": 1e-4,
    "targets": 1e-5,
    "postprocessing": 1e-5,
    "training": 1e-5,
    "evaluation": 1e-5,
    "crf": 1e-4,
}
# How many times as far as the reference's own approximation ours may be from what is approximated.
_APPROXIMATION_RATIO = 1.5
_GREY_LEVELS = 1e-3
_FEW_NUMBERS = 16
_ROUNDED_OPERATIONS = ("Sharpness", "Color", "Contrast")


@dataclass(frozen=True)
class Comparison:
    """
    One output of one case.

    Attributes:
        error: in the unit of ``tolerance``; None if the output is not ported.
        tolerance: the largest error that passes.
        note: what else there is to say.
    """

    case: str
    output: str
    error: Optional[float]
    tolerance: float
    note: str = ""

    @property
    def status(self) -> str:
        if self.error is None:
            return "not ported"
        return "ok" if self.error <= self.tolerance else "FAIL"


def compare(
    group: str,
    case: str,
    output: str,
    ours: Optional[np.ndarray],
    reference: np.ndarray,
    statistics: Optional[Mapping[str, Any]] = None,
) -> Comparison:
    """
    Hold an output of ours against the reference.

    Args:
        group: a key of ``FLOAT_TOLERANCES``.
        ours: None if it is not ported.
        reference: what is stored; a slice of ``ours`` if ``statistics`` say so.
        statistics: of a network's output: shape, mean, std, min and max of the whole array, of
            which only every n-th element is stored (``stored_stride`` or ``slice_strides``); of an
            approximation how far the reference's own is from ``reference``: ``mean_abs`` and
            ``labels_differ`` (arg-max over the last axis).
    """
    reference = np.asarray(reference)
    if statistics is not None and "labels_differ" in statistics:
        return _compare_approximation(case, output, ours, reference, statistics)
    is_exact = reference.dtype.kind in "iub"
    tolerance = _tolerance(group, output, is_exact)
    if ours is None:
        return Comparison(case, output, None, tolerance)
    ours = np.asarray(ours)
    stated_error = 0.0
    if statistics is not None:
        if list(ours.shape) != list(statistics["shape"]):
            note = f"shape {ours.shape}, expected {tuple(statistics['shape'])}"
            return Comparison(case, output, float("inf"), tolerance, note)
        stated_error = _statistics_error(ours, statistics)
        ours = ours[_stored_part(statistics, ours.ndim)]
    if ours.shape != reference.shape:
        note = f"shape {ours.shape}, expected {reference.shape}"
        return Comparison(case, output, float("inf"), tolerance, note)
    if is_exact or _is_image(group, output):
        error = _largest_difference(ours, reference)
    else:
        error = max(relative_error(ours, reference), stated_error)
    return Comparison(case, output, error, tolerance)


def _compare_approximation(
    case: str,
    output: str,
    ours: Optional[np.ndarray],
    exact: np.ndarray,
    theirs: Mapping[str, Any],
) -> Comparison:
    """The error is the larger of two ratios of distances, ours to theirs."""
    if ours is None:
        return Comparison(case, output, None, _APPROXIMATION_RATIO)
    if ours.shape != exact.shape:
        note = f"shape {ours.shape}, expected {exact.shape}"
        return Comparison(case, output, float("inf"), _APPROXIMATION_RATIO, note)
    distance = {
        "mean_abs": float(np.abs(_as_float(ours) - _as_float(exact)).mean()),
        "labels_differ": int((ours.argmax(-1) != exact.argmax(-1)).sum()),
    }
    # Of nothing at all, nothing more is tolerated; NaN is no distance.
    ratios = [
        0.0 if value == 0 else value / theirs[name] if theirs[name] else float("inf")
        for name, value in distance.items()
    ]
    error = float("inf") if np.isnan(ratios).any() else max(ratios)
    note = ", ".join(f"{name} {value:.3g} ({theirs[name]})" for name, value in distance.items())
    return Comparison(case, output, error, _APPROXIMATION_RATIO, note)


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """
    ``max |a - b| / max(std(b), 1e-3 max |b|, 1e-6)``; NaN equals NaN, and nothing else.

    Of fewer than 16 numbers the standard deviation says little (of two equal ones it is 0, and a
    digit of float32 would be an error): there it is ``max(std(b), rms(b))``.

    Args:
        ours, reference: of one shape.
    """
    ours, reference = _as_float(ours), _as_float(reference)
    finite = reference[np.isfinite(reference)]
    scale = 1e-6
    if finite.size:
        spread = float(finite.std())
        if reference.size < _FEW_NUMBERS:
            spread = max(spread, float(np.sqrt(np.square(finite).mean())))
        scale = max(spread, 1e-3 * float(np.abs(finite).max()), scale)
    return _largest_difference(ours, reference) / scale


def _largest_difference(ours: np.ndarray, reference: np.ndarray) -> float:
    ours, reference = _as_float(ours), _as_float(reference)
    if ours.size == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(ours - reference)
    same = (ours == reference) | (np.isnan(ours) & np.isnan(reference))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return float(difference.max())


def _as_float(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def _statistics_error(ours: np.ndarray, stated: Mapping[str, Any]) -> float:
    values = _as_float(ours)
    scale = max(stated["std"], 1e-3 * max(abs(stated["min"]), abs(stated["max"])), 1e-6)
    found = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    return max(abs(found[name] - stated[name]) / scale for name in found)


def _stored_part(statistics: Mapping[str, Any], num_dimensions: int) -> Any:
    if "slice_strides" in statistics:
        strides = statistics["slice_strides"]
    else:
        stride = statistics.get("stored_stride", 1)
        strides = [1, stride, stride] + [1] * (num_dimensions - 3)
    return tuple(slice(None, None, stride) for stride in strides[:num_dimensions])


def _is_image(group: str, output: str) -> bool:
    return group == "targets" and "image" in output.rpartition("/")[2]


def _tolerance(group: str, output: str, is_exact: bool) -> float:
    if is_exact:
        operation = output.split("/")[1] if output.count("/") == 2 else ""
        return 1.0 if group == "targets" and operation in _ROUNDED_OPERATIONS else 0.0
    return _GREY_LEVELS if _is_image(group, output) else FLOAT_TOLERANCES[group]
