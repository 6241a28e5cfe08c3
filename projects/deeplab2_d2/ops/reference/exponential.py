"""exp and log from additions and multiplications alone, so that every device gives the same."""

import math
from typing import Sequence

import torch
from torch import Tensor

_LN_2 = 0.6931471805599453


def exp_nonpositive(x: Tensor) -> Tensor:
    """
    exp(x) for float32 x <= 0, within 2.5e-7 relative; below -87 it is exp(-87).

    Cody-Waite reduction and a Taylor polynomial, operation by operation as in
    ``csrc/exponential.h``.
    """
    x = x.clamp(min=-87.0)
    n = (x * 1.44269504 - 0.5).to(torch.int32)
    whole = n.float()
    r = (x - whole * 0.693359375) - whole * -2.12194440e-4
    p = torch.full_like(r, 1.0 / 720.0)
    for coefficient in (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0):
        p = p * r + coefficient
    power = ((n + 127) * 2**23).view(torch.float32)
    return p * power


def exp_nonpositive_double(x: Tensor) -> Tensor:
    """The same for float64, within 1e-15; below -700 it is exp(-700)."""
    x = x.clamp(min=-700.0)
    n = (x * 1.4426950408889634 - 0.5).to(torch.int64)
    whole = n.double()
    r = (x - whole * 0.693147180369123816490) - whole * 1.90821492927058770002e-10
    p = torch.full_like(r, 1.0 / math.factorial(13))
    for power in range(12, -1, -1):
        p = p * r + 1.0 / math.factorial(power)
    return p * ((n + 1023) * 2**52).view(torch.float64)


def log_positive(x: Tensor) -> Tensor:
    """log(x) for float64 x > 0, within 2e-14: exponent times ln 2, and the series of artanh."""
    mantissa, exponent = torch.frexp(x)
    is_small = mantissa < 0.75
    mantissa = torch.where(is_small, mantissa * 2.0, mantissa)
    exponent = (exponent - is_small.to(exponent.dtype)).double()
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    series = torch.full_like(z, 1.0 / 21.0)
    for odd in range(19, 0, -2):
        series = series * square + 1.0 / odd
    return exponent * _LN_2 + 2.0 * z * series


def sum_in_order(terms: Sequence[Tensor]) -> Tensor:
    """``((terms[0] + terms[1]) + terms[2]) + ...``"""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
