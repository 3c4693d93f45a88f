"""What Chebyshev-Tucker functions are made from: columns of sums of products, axes of grids."""

import numpy as np

from sklr.decomposition._chebyshev import cheb_points, cheb_values_to_coefficients, tail
from sklr.decomposition._chebyshev_tucker_build import FIRST_DEGREE, next_degree
from sklr.decomposition._tucker import moderate, orthonormalize, rank_of


def degrees_up_to(cap):
    """Yield the degrees that are tried, each about twice the one before."""
    m = FIRST_DEGREE
    while m < cap:
        yield m
        m = next_degree(m, cap)
    yield cap


def trim_factors(core, V, tol):
    """Drop trailing coefficients of orthonormal factors that the core makes small."""
    core, scale = moderate(core)
    threshold = 0.1 * tol * np.linalg.norm(core) / np.sqrt(core.ndim)
    short = []
    for k, C in enumerate(V):
        # Norm of a row of the unfolded coefficients: the other factors are orthonormal.
        unfolded = np.moveaxis(core, k, 0).reshape(core.shape[k], -1)
        sizes = np.linalg.norm(C @ unfolded, axis=1) if unfolded.shape[1] < 10 * len(C) else None
        if sizes is None:
            sizes = np.sqrt(np.einsum("ia,ab,ib->i", C, unfolded @ unfolded.T, C).clip(0))
        short.append(C[: rank_of(sizes, threshold)])
    core, short = orthonormalize(core, short)
    return core * scale if scale != 1.0 else core, short


def call_terms(given, n_terms, k, x):
    """Values (n, R) of the functions of one coordinate."""
    if callable(given):
        values = np.asarray(given(x), dtype=np.float64)
    else:
        values = np.column_stack([np.broadcast_to(g(x), x.shape) for g in given]).astype(float)
    if values.shape != (len(x), n_terms):
        raise ValueError(
            f"factors[{k}] must give values of shape ({len(x)}, {n_terms}): points by terms, "
            f"got {values.shape}."
        )
    if not np.isfinite(values).all():
        i, r = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"factors[{k}] is {values[i, r]} in term {r} at {float(x[i])}.")
    return values


def resolve(call, weights, side, m, cap, tol, C=None):
    """Return coefficients of callables, their tail beside the largest, number of points.

    `C` are coefficients that are there already.
    """
    n = 0
    while True:
        if C is None or len(C) != m:
            C = cheb_values_to_coefficients(call(cheb_points(m, side)))
            n += m
        # A term whose coefficients are small, or whose weight is, need not be resolved as well.
        weighted = C * (np.abs(weights) / max(np.abs(weights).max(), 1e-300))
        last = tail(weighted) / max(np.abs(weighted).max(), 1e-300)
        if last < tol or m >= cap:
            return C, last, n
        m = next_degree(m, cap)


def check_grid_axes(values, grid):
    grid = [np.asarray(x, dtype=np.float64) for x in grid]
    if values.ndim == 0 or len(grid) != values.ndim:
        several = (
            " Values with several outputs are compressed one output at a time: "
            "[ChebyshevTucker().fit_grid(values[..., j], grid) for j in range(values.shape[-1])]."
            if values.ndim == len(grid) + 1
            else ""
        )
        raise ValueError(f"values has {values.ndim} axes and grid {len(grid)} arrays.{several}")
    for k, x in enumerate(grid):
        if x.shape != (values.shape[k],):
            raise ValueError(
                f"grid[{k}] must have as many coordinates as values along axis {k}, "
                f"{values.shape[k]}, got shape {x.shape}."
            )
        if len(x) > 1 and x[0] > x[-1]:
            grid[k], values = x[::-1], np.flip(values, k)
            x = grid[k]
        if not np.isfinite(x).all() or not (np.diff(x) > 0).all():
            raise ValueError(f"grid[{k}] must be finite and ascending, or descending.")
    if not np.isfinite(values).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        point = tuple(float(x[i]) for x, i in zip(grid, where, strict=True))
        raise ValueError(
            f"values must be finite, values{where} is {values[tuple(where)]} at {point}."
        )
    return values, grid


def are_chebyshev(x, side):
    return np.abs(x - cheb_points(len(x), side)).max() <= 1e-13 * (side[1] - side[0])


def line(x, values):
    """Return the polynomial through two or three values."""
    from scipy.interpolate import BarycentricInterpolator

    return BarycentricInterpolator(x, values)
