"""Heat-geodesic embedding of what users bring: heaps, duplicates, few points, noise, outliers."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from sklr.datasets import make_geodesic_swiss_roll
from sklr.geometry import neighbors_graph
from sklr.manifold import HeatGeodesicEmbedding
from sklr.manifold._heat_distances import build_graph
from sklr.manifold._short_cuts import drop_short_cuts
from sklr.manifold._vertices import distinct_rows

WARNS = pytest.mark.filterwarnings("ignore::UserWarning")


def rank_score(true, Y):
    found = cdist(Y, Y)
    return float(np.mean([spearmanr(a, b)[0] for a, b in zip(true, found)]))


def heaps(scale=1.0):
    return scale * np.repeat(np.random.default_rng(0).random((10, 3)), 30, axis=0)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 10.0, 1e6])
def test_heaps_are_told_apart_in_any_unit(scale):
    with pytest.warns(UserWarning, match="n_neighbors=10 .* n_samples = 10"):
        Y = HeatGeodesicEmbedding(random_state=0).fit_transform(heaps(scale))
    found = KMeans(10, n_init=3, random_state=0).fit_predict(Y)
    assert adjusted_rand_score(np.repeat(np.arange(10), 30), found) == 1.0


@WARNS
def test_heaps_in_a_matrix_of_distances():
    D = 1.0 - np.kron(np.eye(10), np.ones((30, 30)))
    model = HeatGeodesicEmbedding(affinity="precomputed_distance", random_state=0)
    found = KMeans(10, n_init=3, random_state=0).fit_predict(model.fit_transform(D))
    assert adjusted_rand_score(np.repeat(np.arange(10), 30), found) == 1.0


@pytest.mark.parametrize("kernel", ["alpha", "adaptive", "gaussian", "binary"])
def test_graphs_with_heaps_do_not_depend_on_the_unit(kernel):
    X = np.repeat([[0.0], [0.9], [2.5]], 5, axis=0)
    W = neighbors_graph(X, 2, kernel=kernel)
    for scale in (1e-9, 1e9):
        assert_allclose(neighbors_graph(scale * X, 2, kernel=kernel).toarray(), W.toarray())
    assert np.isfinite(W.data).all()


@WARNS
def test_duplicates_share_a_position_that_transform_gives_again():
    X = make_geodesic_swiss_roll(120, noise=0.1, random_state=0)[0]
    many = np.random.default_rng(1).permutation(np.repeat(X, 4, axis=0))
    model = HeatGeodesicEmbedding(t=3.0, random_state=0).fit(many)
    assert len(model.prototypes_) == 120
    assert_allclose(model.transform(many), model.embedding_, atol=1e-9)
    assert_allclose(model.embedding_.mean(axis=0), 0.0, atol=1e-9)


def test_distinct_rows_keep_the_order():
    X = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    first, vertex = distinct_rows(X)
    assert_array_equal(first, [0, 1, 3])
    assert_array_equal(X[first][vertex], X)


@WARNS
@pytest.mark.parametrize("n", [11, 14, 30])
def test_few_points_keep_their_distances(n):
    """A graph of ten neighbours joins everything: .68 to .83 with it."""
    scores = []
    for seed in range(3):
        X = np.random.default_rng(seed).standard_normal((n, 2))
        Y = HeatGeodesicEmbedding(random_state=0).fit_transform(X)
        scores.append(rank_score(cdist(X, X), Y))
    assert np.mean(scores) > 0.85


def test_a_graph_that_joins_everything_is_refused_with_a_warning():
    X = np.random.default_rng(0).standard_normal((120, 2))
    with pytest.warns(UserWarning, match="n_neighbors=110 joins most .* 39 are taken"):
        model = HeatGeodesicEmbedding(n_neighbors=110, random_state=0).fit(X)
    assert model.n_neighbors_ == 39
    assert rank_score(cdist(X, X), model.embedding_) > 0.8


@pytest.mark.parametrize("shape", ["cloud", "grid"])
def test_as_many_neighbours_as_points(shape):
    X = np.random.default_rng(0).standard_normal((60, 2))
    if shape == "grid":
        X = np.array([[i, j] for i in range(5) for j in range(5)], dtype=float)
    model = HeatGeodesicEmbedding(n_neighbors=len(X) - 1, random_state=0)
    assert rank_score(cdist(X, X), model.fit_transform(X)) > 0.85


@pytest.mark.parametrize("n, seed", [(500, 7), (800, 5)])
def test_noise_that_brings_sheets_together(n, seed):
    """Noise of sd 1 at defaults: without pruning .35 to .50."""
    X, flat = make_geodesic_swiss_roll(n, noise=1.0, random_state=seed)
    Y = HeatGeodesicEmbedding(n_landmarks=200, random_state=0).fit_transform(X)
    assert rank_score(cdist(flat, flat), Y) > 0.7


@pytest.mark.parametrize("shape", ["roll", "square", "cube", "circle", "blobs"])
def test_nothing_is_pruned_where_there_are_no_short_cuts(shape):
    rng = np.random.default_rng(3)
    if shape == "roll":
        X = make_geodesic_swiss_roll(600, noise=0.1, random_state=0)[0]
    elif shape in ("square", "cube"):
        X = rng.uniform(size=(400, 2 if shape == "square" else 3))
    elif shape == "circle":
        angle = rng.uniform(0, 2 * np.pi, 400)
        X = np.c_[np.cos(angle), np.sin(angle)] + 0.1 * rng.standard_normal((400, 2))
    else:
        X = np.repeat(4 * rng.standard_normal((5, 6)), 80, axis=0) + rng.standard_normal((400, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        W, _ = build_graph(X)
    kept = drop_short_cuts(W, lambda a, b: cdist(X[a], X[b]), np.random.RandomState(0))
    assert W.nnz - kept.nnz <= 0.002 * W.nnz


def test_a_far_outlier_is_marked_and_changes_nothing_else():
    X = make_geodesic_swiss_roll(200, noise=0.1, random_state=0)[0]
    plain = HeatGeodesicEmbedding(t=3.0, random_state=0).fit(X)
    with pytest.warns(UserWarning, match=r"1 point is far from all others \(row 200"):
        model = HeatGeodesicEmbedding(t=3.0, random_state=0).fit(np.r_[X, [[1e6, 0, 0]]])
    assert_array_equal(np.flatnonzero(model.outliers_), [200])
    assert_allclose(cdist(*[model.embedding_[:200]] * 2), cdist(*[plain.embedding_] * 2), atol=1e-6)
    with pytest.warns(UserWarning, match="2 of 3 points"):
        model.transform(np.r_[X[:1], X[:2] + 1e3])


def test_metric_params():
    X = make_geodesic_swiss_roll(150, random_state=0)[0]
    scale = X.std(axis=0, ddof=1)
    model = HeatGeodesicEmbedding(
        t=3.0, metric="seuclidean", metric_params={"V": scale**2}, random_state=0
    )
    same = HeatGeodesicEmbedding(t=3.0, random_state=0).fit_transform(X / scale)
    assert_allclose(cdist(*[model.fit_transform(X)] * 2), cdist(same, same), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("affinity", ["precomputed", "precomputed_distance"])
def test_rounding_of_single_precision_is_no_fault(affinity):
    X = make_geodesic_swiss_roll(100, noise=0.1, random_state=0)[0].astype(np.float32)
    D = cdist(X, X).astype(np.float32)
    M = D if affinity == "precomputed_distance" else np.exp(-D)
    M = M * (1 + 1e-7 * np.random.default_rng(0).standard_normal(M.shape)).astype(np.float32)
    if affinity == "precomputed_distance":
        np.fill_diagonal(M, -1e-7)
    model = HeatGeodesicEmbedding(t=3.0, affinity=affinity, random_state=0)
    assert np.isfinite(model.fit_transform(M)).all()
    with pytest.raises(ValueError, match="symmetric"):
        model.fit(M + 1e-3 * np.triu(M))


@WARNS
def test_sparse_points_and_sparse_distances():
    from scipy.sparse import csr_array
    from sklearn.neighbors import KNeighborsTransformer
    from sklearn.pipeline import make_pipeline

    X, _ = make_geodesic_swiss_roll(150, noise=0.1, random_state=0)
    plain = HeatGeodesicEmbedding(t=3.0, random_state=0)
    same = HeatGeodesicEmbedding(t=3.0, random_state=0).fit(csr_array(X))
    assert_allclose(same.embedding_, plain.fit_transform(X))
    assert_allclose(same.transform(csr_array(X)), same.embedding_, atol=1e-9)
    lists = make_pipeline(
        KNeighborsTransformer(n_neighbors=20),
        HeatGeodesicEmbedding(t=3.0, affinity="precomputed_distance", random_state=0),
    )
    full = HeatGeodesicEmbedding(t=3.0, pruning=0, random_state=0).fit(X)
    found = lists.fit_transform(X)
    assert abs(lists[-1].affinity_matrix_ - full.affinity_matrix_).max() < 1e-9
    assert rank_score(cdist(*[full.embedding_] * 2), found) > 0.99
    with pytest.raises(ValueError, match="fewer than n_neighbors=10"):
        lists.set_params(kneighborstransformer__n_neighbors=5).fit(X)


def test_an_anndata_object_is_refused_with_a_way_out():
    class AnnData:
        obs, obsm, obsp = {}, {"X_pca": 0}, {}

    with pytest.raises(ValueError, match=r"annotated object.*X\.X and those in .obsm.*X_pca"):
        HeatGeodesicEmbedding().fit(AnnData())


@pytest.mark.parametrize("affinity", ["alpha", "precomputed_distance"])
def test_far_points_beside_each_other_are_marked(affinity):
    X = np.random.default_rng(0).standard_normal((200, 3))
    X[:2] = 1e4 + np.array([[0.0], [1.0]])
    X[2] = -3e4
    given = X if affinity == "alpha" else cdist(X, X)
    with pytest.warns(UserWarning, match="3 points are far from all others"):
        model = HeatGeodesicEmbedding(affinity=affinity, random_state=0).fit(given)
    assert_array_equal(np.flatnonzero(model.outliers_), [0, 1, 2])
    # A sparse part beside a dense one is no outlier.
    X[:20], X[20:] = 3 * X[100:120], 0.05 * X[20:]
    assert not HeatGeodesicEmbedding(random_state=0).fit(X).outliers_[20:].any()
