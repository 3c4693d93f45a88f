"""Rows of unit length, whatever their size."""

import torch


def unit_rows(z: torch.Tensor) -> torch.Tensor:
    """Return the rows over their lengths; zero rows stay zero.

    Rows are first brought near 1 by a power of two, which rounds nothing: a norm in single
    precision overflows from 2e19 on, and vanishes below 1e-23.
    """
    with torch.no_grad():
        largest = z.detach().abs().amax(dim=-1, keepdim=True)
        exponent = torch.frexp(largest).exponent
        # In two halves, since 2^exponent itself may be out of range. As factors: torch's gradient
        # of ldexp is wrong for integer exponents.
        one, half = torch.ones_like(largest), exponent // 2
        first, second = torch.ldexp(one, -half), torch.ldexp(one, half - exponent)
    return torch.nn.functional.normalize(z * first * second, dim=-1)
