"""Rows of unit length, whatever their size."""

import math

import torch


def unit_rows(z: torch.Tensor) -> torch.Tensor:
    """Return the rows over their lengths; zero rows stay zero.

    Rows are first brought near 1 by a power of two, which rounds nothing: a norm in single
    precision overflows from 2e19 on, and vanishes below 1e-23.
    """
    with torch.no_grad():
        largest = z.detach().abs().amax(dim=-1, keepdim=True)
        exponent = torch.frexp(largest).exponent
        # The power itself must be in range; numbers that are left beyond 1 have squares that are.
        # As a factor: torch's gradient of ldexp is wrong for integer exponents.
        most = -math.frexp(torch.finfo(z.dtype).tiny)[1]
        factor = torch.ldexp(torch.ones_like(largest), -exponent.clamp(-most, most))
    return torch.nn.functional.normalize(z * factor, dim=-1)
