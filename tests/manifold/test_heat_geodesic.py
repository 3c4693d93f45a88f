"""Heat-geodesic distances and embedding: the paper's claims, invariances, bad input."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.datasets import make_geodesic_swiss_roll, make_random_walk_tree
from sklr.geometry import graph_laplacian, heat_kernel, neighbors_graph
from sklr.manifold import (
    EmbeddingDisplay,
    HeatEntropyDisplay,
    HeatGeodesicEmbedding,
    ShepardDisplay,
    heat_geodesic_distances,
)
from sklr.manifold._heat_distances import build_graph, choose_time, heat_entropy
from sklr.manifold._smoothing import prune_short_cuts, smooth_points
from sklr.metrics import geodesic_preservation_score


def cycle(n):
    i = np.arange(n)
    A = sp.coo_array((np.ones(n), (i, (i + 1) % n)), shape=(n, n))
    return sp.csr_array(A + A.T)


def roll(n=400, noise=0.1, seed=0):
    X, flat = make_geodesic_swiss_roll(n, noise=noise, random_state=seed)
    return X, cdist(flat, flat)


def score(D, Y, **options):
    return geodesic_preservation_score(D, Y, **options).spearman


# The paper's claims.


@pytest.mark.parametrize(
    "t, found", [(100.0, {10: 10.01, 30: 30.01, 60: 59.85}), (20.0, {10: 10.04, 30: 29.54})]
)
def test_distance_emerges_on_a_long_cycle(t, found):
    """Varadhan's formula with the Harnack correction gives arc lengths when t >> d / 2."""
    d = heat_geodesic_distances(cycle(200), t, affinity="precomputed")
    for steps, length in found.items():
        assert_allclose(d[0, steps], length, atol=0.006)


def test_embedding_keeps_geodesics_of_the_swiss_roll():
    X, D = roll(800)
    model = HeatGeodesicEmbedding(random_state=0).fit(X)
    assert score(D, model.embedding_) > 0.99
    assert score(D, heat_geodesic_distances(X, model.t_), metric="precomputed") > 0.99
    # Far from what straight distances give.
    assert score(D, PCA(2).fit_transform(X)) < 0.6


def test_automatic_time_is_nearly_the_best():
    X, D = roll()
    best = max(
        score(D, HeatGeodesicEmbedding(t=t, random_state=0).fit_transform(X))
        for t in (0.3, 1.0, 3.0, 10.0, 30.0)
    )
    auto = score(D, HeatGeodesicEmbedding(random_state=0).fit_transform(X))
    assert auto > best - 0.01


def test_phate_is_the_triplet_distance_of_squared_dissimilarities():
    """|log H_i - log H_j| = |d_i^2 - d_j^2| / 4t with harnack=0, row by row."""
    X, _ = roll(120)
    t = 3.0
    W = neighbors_graph(X, 8, decay=5.0)
    logs = np.log(heat_kernel(graph_laplacian(W), t, method="uniformization"))
    np.fill_diagonal(logs, 0.0)
    potential = cdist(logs, logs)
    d = heat_geodesic_distances(
        W, t, affinity="precomputed", harnack=0.0, scale_factor=2.0, denoise=1.0,
        method="uniformization",
    )  # fmt: skip
    off = ~np.eye(120, dtype=bool)
    # The triplet distance is scaled to the mean of what it replaces.
    ratio = d[off] / potential[off]
    assert_allclose(ratio, ratio.mean(), rtol=1e-9)


def test_short_times_count_hops_and_long_times_stay_finite():
    X, _ = roll(150)
    W = neighbors_graph(X, 10, kernel="binary")
    hops = sp.csgraph.shortest_path(W, unweighted=True)
    short = heat_geodesic_distances(W, 1e-6, affinity="precomputed", harnack=0.0)
    # Hops dominate the logarithm; how many paths there are adds a little.
    assert score(hops, short, metric="precomputed") > 0.97
    for t in (1e3, 1e5):
        with pytest.warns(UserWarning, match="heat is even"):
            d = heat_geodesic_distances(W, t, affinity="precomputed")
        assert np.isfinite(d).all()


def test_flat_patch_is_recovered():
    side = np.linspace(0, 1, 20)
    X = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    X = X + 0.01 * np.random.default_rng(0).standard_normal(X.shape)
    Y = HeatGeodesicEmbedding(t=3.0, random_state=0).fit_transform(X)
    scores = geodesic_preservation_score(cdist(X, X), Y)
    assert scores.pearson > 0.99
    assert scores.frobenius < 0.1


def test_tree_keeps_its_branches():
    X, _, D = make_random_walk_tree(4, 100, noise=0.5, random_state=0)
    assert score(D, HeatGeodesicEmbedding(random_state=0).fit_transform(X)) > 0.8


# Distances.


@pytest.mark.parametrize("options", [{}, {"denoise": 0.5}, {"harnack": 0.0, "scale_factor": 2.0}])
def test_distances_are_symmetric_and_invariant(options):
    X, _ = roll(150)
    options = {"t": 2.0, "n_neighbors": 6, **options}
    d = heat_geodesic_distances(X, **options)
    assert_array_equal(d, d.T)
    assert (d >= 0).all() and not d.diagonal().any() and np.isfinite(d).all()
    order = np.random.default_rng(0).permutation(150)
    assert_allclose(
        heat_geodesic_distances(X[order], **options), d[np.ix_(order, order)], rtol=1e-6, atol=1e-5
    )
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    # d is the root of what may be rounding: 1e-12 becomes 1e-6.
    assert_allclose(heat_geodesic_distances(9 * X @ Q - 4, **options), d, rtol=1e-6, atol=1e-5)


def test_landmark_columns_are_those_of_the_whole_matrix():
    X, _ = roll(200)
    rows = [3, 50, 120]
    whole = heat_geodesic_distances(X, 3.0, harnack=0.0)
    part = heat_geodesic_distances(X, 3.0, harnack=0.0, landmarks=rows)
    assert_allclose(part, whole[:, rows], rtol=1e-6, atol=1e-6)
    whole = heat_geodesic_distances(X, 3.0)
    part = heat_geodesic_distances(X, 3.0, landmarks=np.arange(0, 200, 4))
    assert_allclose(part[::4], whole[::4, ::4], rtol=1e-6, atol=1e-6)
    # Elsewhere the diagonal of the heat kernel is interpolated.
    assert np.abs(part - whole[:, ::4]).max() < 0.1 * whole.max()


@pytest.mark.parametrize("method", ["chebyshev", "uniformization", "squaring"])
def test_methods_give_the_same_distances(method):
    X, _ = roll(150)
    d = heat_geodesic_distances(X, 2.0)
    assert_allclose(heat_geodesic_distances(X, 2.0, method=method), d, rtol=1e-5, atol=1e-5)
    assert np.isfinite(heat_geodesic_distances(X, 2.0, method="euler")).all()
    assert np.isfinite(heat_geodesic_distances(X, 2.0, method="exact")).all()


def test_entropy_of_heat():
    L = sp.csr_array(graph_laplacian(cycle(50)))
    times = np.array([1e-6, 0.1, 1.0, 10.0, 1e4])
    entropy = heat_entropy(heat_kernel(L, times), L, times, np.arange(50))
    shares = np.exp(-times[:, None] * np.linalg.eigvalsh(L.toarray()))
    shares /= shares.sum(axis=1, keepdims=True)
    assert_allclose(entropy, -(shares * np.log(np.maximum(shares, 1e-300))).sum(1), atol=1e-9)
    assert_allclose(entropy[[0, -1]], [np.log(50), 0.0], atol=1e-6)
    # On a cycle all columns say the same.
    some = np.array([3, 30])
    heat = heat_kernel(L, times, np.eye(50)[:, some])
    assert_allclose(heat_entropy(heat, L, times, some), entropy, atol=1e-9)


def test_automatic_time_leaves_noise_behind():
    X = np.random.default_rng(0).standard_normal((300, 10))
    W, _ = build_graph(X)
    L = graph_laplacian(W)
    second = np.linalg.eigvalsh(L.toarray())[1]
    t, _, _ = choose_time(L, rng=np.random.RandomState(0))
    assert 2.0 < t * second < 8.0


def test_even_heat_is_told():
    with pytest.warns(UserWarning, match="At t=50 heat is even to .* Take a shorter t"):
        heat_geodesic_distances(np.ones((6, 6)), 50.0, affinity="precomputed")


# The estimator.


def test_threads_and_seeds():
    X, _ = roll(1200)
    options = {"t": 2.0, "n_landmarks": 60, "n_prototypes": 500, "random_state": 3}
    one = HeatGeodesicEmbedding(**options).fit(X)
    two = HeatGeodesicEmbedding(**options, n_jobs=2).fit(X)
    assert_array_equal(one.embedding_, two.embedding_)
    assert_array_equal(one.transform(X[:50]), two.transform(X[:50]))
    assert_array_equal(one.embedding_, clone(one).fit(X).embedding_)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_transform_of_training_points_gives_their_positions(n_components):
    X, _ = roll(300)
    model = HeatGeodesicEmbedding(n_components, t=3.0, random_state=0).fit(X)
    assert model.embedding_.shape == (300, n_components)
    assert_allclose(model.embedding_.mean(axis=0), 0.0, atol=1e-9)
    assert_allclose(model.transform(X), model.embedding_, atol=1e-9)


def test_new_points_fall_between_their_neighbours():
    X, D = roll(1500, noise=0.0)
    model = HeatGeodesicEmbedding(random_state=0).fit(X[:1000])
    Y = np.r_[model.embedding_, model.transform(X[1000:])]
    assert score(D, Y, n_rows=200, random_state=0) > 0.99


def test_landmarks_and_prototypes_are_nearly_as_good():
    X, D = roll(1500, noise=0.0)
    for options in ({"n_landmarks": 100}, {"n_landmarks": 100, "n_prototypes": 700}):
        model = HeatGeodesicEmbedding(random_state=0, **options).fit(X)
        assert score(D, model.embedding_, n_rows=300, random_state=0) > 0.985
        assert model.dissimilarity_.shape[1] == 100 == len(model.landmark_indices_)
    assert model.graph_embedding_.shape == (700, 2)
    assert model.prototypes_.shape == (700, 3)


@pytest.mark.parametrize("mds", ["classic", "sgd", "smacof", "nonmetric"])
@pytest.mark.parametrize("weights", [None, "heat", "inverse", "gaussian"])
def test_every_layout_keeps_the_roll(mds, weights):
    X, D = roll(300, noise=0.0)
    for n_landmarks in (None, 60):
        model = HeatGeodesicEmbedding(
            n_neighbors=6,
            t=10.0,
            mds=mds,
            mds_weights=weights,
            n_landmarks=n_landmarks,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # short runs of majorisation may not end
            Y = model.fit_transform(X)
        # Weights that look at near pairs only leave the far ones free.
        assert score(D, Y) > (0.9 if weights == "heat" else 0.98)
        assert 0 <= model.stress_ < 0.5


def test_distances_as_input_give_what_points_give():
    X, _ = roll(150)
    for pruning in ("auto", 0.0):
        wanted = HeatGeodesicEmbedding(t=3.0, pruning=pruning, random_state=0).fit_transform(X)
        model = HeatGeodesicEmbedding(
            t=3.0, affinity="precomputed_distance", pruning=pruning, random_state=0
        )
        assert_allclose(model.fit_transform(cdist(X, X)), wanted, atol=1e-6)
    W = neighbors_graph(X, 10)
    model = HeatGeodesicEmbedding(t=3.0, affinity="precomputed", random_state=0)
    for graph in (W, W.toarray(), sp.csc_matrix(W)):
        assert_allclose(model.fit_transform(graph), wanted, atol=1e-6)
    with pytest.raises(AttributeError, match="has no attribute .transform."):
        model.transform(W)
    assert model.__sklearn_tags__().input_tags.pairwise


def test_other_metrics():
    X, D = roll(500, noise=0.0)
    model = HeatGeodesicEmbedding(t=3.0, metric="manhattan", n_neighbors=6, random_state=0).fit(X)
    assert score(D, model.embedding_) > 0.98
    assert_allclose(model.transform(X[:20]), model.embedding_[:20], atol=1e-9)
    model.set_params(n_prototypes=400).fit(X)
    assert score(D, model.embedding_) > 0.97


def test_sparse_counts_with_principal_components():
    rng = np.random.default_rng(0)
    rates = np.exp(np.c_[np.linspace(-1, 1, 200), rng.standard_normal(200) * 0.1])
    counts = rng.poisson(5 * rates[:, :1] ** rng.uniform(-1, 1, 50))
    model = HeatGeodesicEmbedding(n_pca=5, t=3.0, random_state=0)
    for kind in (sp.csr_array, sp.csc_matrix):
        Y = model.fit_transform(kind(counts.astype(float)))
        assert Y.shape == (200, 2) and np.isfinite(Y).all()
    assert_allclose(model.transform(sp.csr_array(counts.astype(float))), Y, atol=1e-6)
    assert model.fit_transform(counts).shape == (200, 2)
    # Without components, what is small enough is made dense.
    plain = HeatGeodesicEmbedding(t=3.0, random_state=0)
    dense = plain.fit_transform(counts.astype(float))
    assert_allclose(plain.fit_transform(sp.csr_array(counts.astype(float))), dense)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library):
    frames = pytest.importorskip(library)
    X, _ = roll(60)
    columns = {name: X[:, i] for i, name in enumerate("abc")}
    model = HeatGeodesicEmbedding(t=3.0, random_state=0).set_output(transform=library)
    Y = model.fit_transform(frames.DataFrame(columns))
    assert list(Y.columns) == ["heatgeodesicembedding0", "heatgeodesicembedding1"]
    assert list(model.feature_names_in_) == list("abc")


def test_in_a_pipeline():
    X, _ = roll(200)
    pipe = make_pipeline(
        StandardScaler(), PCA(3), HeatGeodesicEmbedding(t=3.0, random_state=0), KMeans(4)
    )
    assert len(np.unique(pipe.fit(X).predict(X))) == 4


def test_approximate_neighbours_are_asked_for(monkeypatch):
    from sklr.geometry import _neighbors_graph

    X, _ = roll(100)
    asked = []

    def search(X, n_neighbors, *rest):
        asked.append(n_neighbors)
        return _neighbors_graph.nearest_neighbors(X, n_neighbors)

    monkeypatch.setattr(_neighbors_graph, "_approximate", search)
    exact = HeatGeodesicEmbedding(t=3.0, random_state=0).fit_transform(X)
    model = HeatGeodesicEmbedding(t=3.0, neighbors_algorithm="approximate", random_state=0)
    assert_allclose(model.fit_transform(X), exact, atol=1e-9)
    assert asked == [20]


def test_smoothing_takes_noise_out_and_leaves_the_length():
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 1.5 * np.pi, 400))
    X = 10 * np.c_[np.cos(angle), np.sin(angle), np.zeros(400)]
    noisy = X + 0.5 * rng.standard_normal(X.shape)
    smooth = smooth_points(noisy, 20, 1, 3)

    def off(points):
        return np.sqrt(np.mean((np.hypot(*points[:, :2].T) - 10) ** 2 + points[:, 2] ** 2))

    assert off(smooth) < 0.4 * off(noisy)
    reach = np.linalg.norm(smooth[0] - smooth[-1])
    assert_allclose(reach, np.linalg.norm(X[0] - X[-1]), rtol=0.1)
    assert_array_equal(smooth_points(X, 20, 3, 3), X)  # no direction is left to move along
    D = 10 * np.abs(angle[:, None] - angle)
    model = HeatGeodesicEmbedding(1, t=3.0, smoothing=3, random_state=0).fit(noisy)
    assert score(D, model.embedding_) > 0.98
    assert_allclose(model.transform(noisy), model.embedding_, atol=1e-9)


def test_pruning_cuts_a_bridge_between_two_sheets():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.uniform(size=(80, 2)) * [4, 1], rng.uniform(size=(80, 2)) * [4, 1] + 9])
    W = neighbors_graph(X, 8, kernel="binary").tolil()
    ends = [(0, 80), (5, 100), (30, 140)]
    for i, j in ends:
        W[i, j] = W[j, i] = 1.0
    pruned = prune_short_cuts(sp.csr_array(W), 0.05)
    assert_array_equal(pruned.toarray(), pruned.toarray().T)
    # One of the three is kept, so that the graph stays in one piece.
    assert sum(pruned[i, j] for i, j in ends) == 1
    assert sp.csgraph.connected_components(pruned)[0] == 1
    inside = sp.csr_array(W)[:80, :80]
    assert pruned[:80, :80].nnz > 0.95 * inside.nnz
    assert prune_short_cuts(sp.csr_array(W), 0.0).nnz == W.nnz


# Input that is not right.


def test_components_are_joined_and_told():
    X = np.concatenate([roll(60)[0], roll(40)[0] + 100])
    with pytest.warns(UserWarning, match="2 connected components, of 60, 40 points"):
        model = HeatGeodesicEmbedding(t=3.0, random_state=0).fit(X)
    assert np.isfinite(model.embedding_).all()
    assert_array_equal(np.bincount(model.component_labels_), [60, 40])
    gap = cdist(model.embedding_[:60], model.embedding_[60:])
    assert gap.min() > 0
    W = sp.block_diag([cycle(20), cycle(10)]).tocsr()
    with pytest.warns(UserWarning, match="an affinity says nothing"):
        model = HeatGeodesicEmbedding(t=3.0, affinity="precomputed").fit(W)
    assert np.isfinite(model.embedding_).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_duplicates_and_constant_features():
    X, D = roll(150, noise=0.0)
    doubled = np.repeat(X, 2, axis=0)
    Y = HeatGeodesicEmbedding(random_state=0).fit_transform(doubled)
    assert np.isfinite(Y).all()
    heaps = np.repeat(X[:20], 15, axis=0)
    assert np.isfinite(HeatGeodesicEmbedding(random_state=0).fit_transform(heaps)).all()
    assert np.isfinite(HeatGeodesicEmbedding(t=1.0).fit_transform(np.ones((30, 2)))).all()
    constant = np.c_[X, np.full(150, 7.0)]
    plain = HeatGeodesicEmbedding(t=3.0, random_state=0).fit_transform(X)
    assert_allclose(
        HeatGeodesicEmbedding(t=3.0, random_state=0).fit_transform(constant), plain, atol=1e-5
    )


def test_few_samples():
    with pytest.raises(ValueError, match="1 sample"):
        HeatGeodesicEmbedding().fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"n_components=2 must be at most n_samples - 1.*=2"):
        HeatGeodesicEmbedding().fit([[1.0, 2.0], [2.0, 2.0]])
    with pytest.warns(UserWarning, match="n_neighbors=10 .* n_samples = 2; all 1 others"):
        HeatGeodesicEmbedding(1, t=1.0).fit([[1.0, 2.0], [2.0, 2.0]])
    Y = HeatGeodesicEmbedding(1, n_neighbors=1, t=1.0).fit_transform([[1.0, 2.0], [2.0, 2.0]])
    assert Y.shape == (2, 1) and Y[0, 0] == -Y[1, 0] != 0
    Y = HeatGeodesicEmbedding(2, n_neighbors=2, t=1.0).fit_transform(np.eye(3))
    sides = cdist(Y, Y)[np.triu_indices(3, 1)]
    assert_allclose(sides, sides[0], rtol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"t": 0.0}, "t"),
        ({"t": -1.0}, "t"),
        ({"t": "best"}, "t"),
        ({"n_landmarks": 101}, "n_landmarks=101 must be at most .* n_samples=100"),
        ({"n_prototypes": 8}, "n_neighbors=10 must be less than n_prototypes=8"),
        ({"n_components": 100}, "n_components=100 must be at most"),
        ({"n_pca": 4}, r"n_pca=4 must be at most min\(n_samples, n_features\)=3"),
        ({"affinity": "precomputed"}, "square"),
        ({"affinity": "precomputed_distance"}, "square"),
    ],
)
def test_bad_parameters(options, message):
    X, _ = roll(100)
    with pytest.raises(ValueError, match=message):
        HeatGeodesicEmbedding(**options).fit(X)


def test_bad_graphs_and_numbers():
    precomputed = HeatGeodesicEmbedding(affinity="precomputed", t=1.0)
    W = cycle(20).toarray()
    for change, message in ((-1.0, "egative"), (np.nan, "NaN")):
        bad = W.copy()
        bad[0, 1] = bad[1, 0] = change
        with pytest.raises(ValueError, match=message):
            precomputed.fit(bad)
    bad = W.copy()
    bad[0, 5] = 1
    with pytest.raises(ValueError, match="symmetric"):
        precomputed.fit(bad)
    with pytest.raises(ValueError, match="symmetric"):
        HeatGeodesicEmbedding(affinity="precomputed_distance", t=1.0, n_neighbors=3).fit(bad)
    X, _ = roll(50)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        HeatGeodesicEmbedding().fit(X)
    with pytest.raises(ValueError, match="t must be positive|t must be a positive"):
        heat_geodesic_distances(W, 0.0, affinity="precomputed")
    with pytest.raises(ValueError, match="affinity must be one of"):
        heat_geodesic_distances(W, 1.0, affinity="cosine")


def test_no_knee_is_told():
    L = graph_laplacian(np.zeros((12, 12)))
    with pytest.warns(UserWarning, match="t='auto'.*does not fall.*the middle of the grid"):
        t, grid, entropy = choose_time(sp.csr_array(L))
    assert t in grid
    assert_allclose(entropy, np.log(12))


# Figures.


def test_displays():
    plt = pytest.importorskip("matplotlib.pyplot")
    X, _ = roll(100)
    model = HeatGeodesicEmbedding(random_state=0).fit(X)
    drawn = EmbeddingDisplay.from_estimator(model, y=X[:, 0], s=4)
    assert len(drawn.scatter_.get_offsets()) == 100
    labels = np.array(["a", "b"])[np.arange(30) % 2]
    drawn = EmbeddingDisplay.from_estimator(model, X[:30], labels)
    assert len(drawn.scatter_) == 2 and drawn.ax_.get_legend() is not None
    figure, ax = plt.subplots()
    entropy = HeatEntropyDisplay.from_estimator(model, ax=ax)
    assert entropy.ax_ is ax and entropy.figure_ is figure
    assert_allclose(entropy.line_.get_ydata(), model.entropy_)
    shepard = ShepardDisplay.from_estimator(model, n_pairs=200)
    pairs = shepard.points_.get_offsets()
    # Most dissimilarities are kept to the size of the stress.
    assert np.corrcoef(pairs.T)[0, 1] > 0.9
    with pytest.raises(ValueError, match="fit with t='auto'"):
        HeatEntropyDisplay.from_estimator(model.set_params(t=1.0).fit(X))
    with pytest.raises(NotFittedError):
        EmbeddingDisplay.from_estimator(HeatGeodesicEmbedding())
    plt.close("all")


def test_no_weights_by_distance_is_the_binary_graph():
    X = np.random.default_rng(0).standard_normal((60, 3))
    binary = HeatGeodesicEmbedding(affinity="knn", t=5.0, random_state=0).fit(X)
    found = HeatGeodesicEmbedding(decay=None, t=5.0, random_state=0).fit(X)
    assert_array_equal(found.embedding_, binary.embedding_)
    distances = heat_geodesic_distances(X, 5.0, decay=None)
    assert_array_equal(distances, heat_geodesic_distances(X, 5.0, affinity="knn"))


def test_extents_whose_squares_are_no_numbers_are_refused():
    X = np.random.default_rng(0).standard_normal((60, 3))
    fitted = HeatGeodesicEmbedding(t=5.0, random_state=0).fit(X)
    for unit, message in ((1e-200, "X is too small"), (1e200, "X is too large")):
        with pytest.raises(ValueError, match=message):
            HeatGeodesicEmbedding().fit(unit * X)
        with pytest.raises(ValueError, match=message):
            fitted.transform(unit * X)
        with pytest.raises(ValueError, match=message):
            heat_geodesic_distances(unit * X, 5.0)
    assert np.isfinite(fitted.transform(1e20 * X)).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"landmarks": [0, 60]}, "landmarks must be row numbers from 0 to 59, got from 0 to 60"),
        ({"landmarks": [-1]}, "landmarks must be row numbers from 0 to 59"),
        ({"landmarks": [3, 3]}, "landmarks holds a row number twice"),
        ({"landmarks": []}, "landmarks must be a list of row numbers"),
        ({"landmarks": [1.5]}, "landmarks must be a list of row numbers"),
        ({"landmarks": np.arange(60) < 3}, "landmarks must be a list of row numbers"),
        ({"harnack": -1.0}, "harnack must be a number 0 or above, got -1.0"),
        ({"denoise": 2.0}, "denoise must be a number between 0 and 1, got 2.0"),
        ({"scale_factor": -1.0}, "scale_factor must be a number above 0, got -1.0"),
        ({"scale_factor": np.nan}, "scale_factor must be a number above 0, got nan"),
        ({"laplacian": "random_walk"}, "laplacian must be 'combinatorial' or 'normalized'"),
    ],
)
def test_bad_options_of_the_distances(options, message):
    X = np.random.default_rng(0).standard_normal((60, 3))
    with pytest.raises(ValueError, match=message):
        heat_geodesic_distances(X, 5.0, **options)


def test_more_dimensions_than_prototypes_are_refused():
    X = np.random.default_rng(0).standard_normal((60, 20))
    embedding = HeatGeodesicEmbedding(n_prototypes=5, n_neighbors=4, n_components=8)
    with pytest.raises(ValueError, match="n_components=8 must be less than n_prototypes=5"):
        embedding.fit(X)


@pytest.mark.parametrize("t", [1e6, 1e12, 1e30])
def test_the_end_of_the_flow_is_reached_soon(t):
    X = np.random.default_rng(0).standard_normal((60, 3))
    with pytest.warns(UserWarning, match="heat is even"):
        distances = heat_geodesic_distances(X, t)
    assert np.isfinite(distances).all()
