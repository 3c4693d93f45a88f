"""Lowest eigenpairs of Laplacians: both solvers, multiple eigenvalues."""

import numpy as np
from numpy.testing import assert_allclose

from sklr.gaussian_process._laplacian_eigenpairs import lowest_eigenpairs
from sklr.geometry import connection_laplacian


def fibonacci_sphere(n):
    i = np.arange(n) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    return np.column_stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    )


def test_multiple_eigenvalues_are_not_cut():
    """An orientable surface has every eigenvalue twice: five pairs become four."""
    for n in (200, 300):  # dense and sparse solvers
        L = connection_laplacian(fibonacci_sphere(n))
        values, vectors = lowest_eigenpairs(L, 5)
        assert len(values) == 4 and vectors.shape == (2 * n, 4)
        values, vectors = lowest_eigenpairs(L, 6)
        assert len(values) == 6
        assert_allclose(L @ vectors, vectors * values, atol=1e-9)
        assert_allclose(values, np.linalg.eigvalsh(L.toarray())[:6], atol=1e-10)
