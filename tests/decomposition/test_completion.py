"""Alternating minimisation: recovery, solvers against each other, the objective."""

import numpy as np

from sklr.decomposition import alternating_minimization


def test_exact_recovery():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 50))
    R = np.where(rng.random(M.shape) < 0.6, M, np.nan)
    U, V, _ = alternating_minimization(R, 3, random_state=0)
    assert np.abs(U @ V.T - M).max() < 1e-5
