"""The score of kept distances, against SciPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.stats import pearsonr, spearmanr

from sklr.metrics import geodesic_preservation_score


def test_equals_scipy_row_by_row():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    Y = Y + X[:, :2]
    D, E = cdist(X, X), cdist(Y, Y)
    scores = geodesic_preservation_score(D, Y, n_neighbors=5)
    off = ~np.eye(40, dtype=bool)
    rows = [(a[o], b[o]) for a, b, o in zip(D, E, off)]
    assert_allclose(scores.spearman, np.mean([spearmanr(a, b)[0] for a, b in rows]))
    assert_allclose(scores.pearson, np.mean([pearsonr(a, b)[0] for a, b in rows]))
    shared = [len(set(np.argsort(a)[:5]) & set(np.argsort(b)[:5])) / 5 for a, b in rows]
    assert_allclose(scores.precision, np.mean(shared))
    again = geodesic_preservation_score(D, E, n_neighbors=5, metric="precomputed")
    assert_allclose(list(again.values()), list(scores.values()))
    best = (D * E).sum() / (E * E).sum()
    assert_allclose(scores.frobenius, np.linalg.norm(D - best * E) / np.linalg.norm(D))


def test_perfect_and_constant_embeddings():
    X = np.random.default_rng(0).standard_normal((30, 2))
    D = cdist(X, X)
    perfect = geodesic_preservation_score(D, 2 * X, n_rows=10, random_state=0)
    assert_allclose([perfect.spearman, perfect.pearson, perfect.precision], 1.0)
    assert perfect.frobenius < 1e-12
    constant = geodesic_preservation_score(D, np.zeros((30, 2)))
    assert constant.spearman == constant.pearson == 0 and constant.frobenius == 1


@pytest.mark.parametrize(
    "args, message",
    [
        ((np.ones((3, 4)), np.ones((3, 2))), "D_true must be a square"),
        ((np.ones((4, 4)), np.ones((3, 2))), "does not fit 4 points"),
        ((np.ones((2, 2)), np.ones((2, 2))), "at least 3 points"),
    ],
)
def test_bad_input(args, message):
    with pytest.raises(ValueError, match=message):
        geodesic_preservation_score(*args)
    D = np.ones((12, 12))
    with pytest.raises(ValueError, match="metric must be"):
        geodesic_preservation_score(D, D, metric="cosine")
    with pytest.raises(ValueError, match="n_neighbors"):
        geodesic_preservation_score(D, D, n_neighbors=12)
    with pytest.raises(ValueError, match="NaN"):
        geodesic_preservation_score(D, np.full((12, 2), np.nan))


def test_no_distances_at_all_are_refused():
    with pytest.raises(ValueError, match="D_true is zero everywhere"):
        geodesic_preservation_score(np.zeros((5, 5)), np.arange(5.0)[:, None])
