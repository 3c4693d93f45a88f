"""Clusters of attributed graphs: what must hold, bad input, options."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import make_blobs, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics import normalized_mutual_info_score as nmi
from sklearn.model_selection import GridSearchCV

from sklr.cluster import BootstrapAMGClustering, augment_graph
from sklr.cluster._block_kmeans import BlockData, lloyd, plus_plus
from sklr.cluster._node_terms import Categories
from sklr.cluster._refine import refine_labels
from sklr.datasets import make_attributed_sbm
from sklr.manifold._amg._augmented_graph import encode_attributes
from sklr.metrics import modularity_score

nx = pytest.importorskip("networkx", reason="needs the extra test")
pd = pytest.importorskip("pandas", reason="needs the extra test")

EMBEDDINGS = ["regularized", "eigen", "ritz", "svd"]


def clustering(n_clusters, **params):
    return BootstrapAMGClustering(n_clusters, affinity="precomputed", random_state=0, **params)


def cliques(n_cliques, size, joined):
    adjacency = np.kron(np.eye(n_cliques), np.ones((size, size))) - np.eye(n_cliques * size)
    if joined:
        for k in range(n_cliques - 1):
            i, j = k * size, (k + 1) * size
            adjacency[i, j] = adjacency[j, i] = 1.0
    return adjacency, np.repeat(np.arange(n_cliques), size)


# The augmented graph.


def test_augmented_graph_counts():
    adjacency, attributes, _ = make_attributed_sbm(80, n_attributes=2, n_values=6, random_state=0)
    augmented, index = augment_graph(adjacency, attributes, weight=[2.0, 0.5])
    sizes = [len(np.unique(column)) for column in attributes.T]
    n = 80 + sum(sizes)
    assert augmented.shape == (n, n)
    assert augmented.nnz == adjacency.nnz + 2 * 2 * 80
    assert abs(augmented - augmented.T).nnz == 0
    assert_array_equal(augmented[:80, :80].toarray(), adjacency.toarray())
    assert augmented[80:, 80:].nnz == 0
    for j, weight in enumerate((2.0, 0.5)):
        values, counts = np.unique(attributes[:, j], return_counts=True)
        vertices = np.unique(index[:, j])
        assert_allclose(augmented.sum(axis=1)[vertices], weight * counts)
        assert_array_equal(index[:, j], vertices[np.searchsorted(values, attributes[:, j])])
    assert augmented.has_sorted_indices and augmented.indices.dtype == np.int32


@pytest.mark.parametrize("nothing", [None, np.empty((4, 0))])
def test_without_attributes_nothing_changes(nothing):
    adjacency = nx.to_numpy_array(nx.cycle_graph(4))
    augmented, index = augment_graph(adjacency, nothing)
    assert_array_equal(augmented.toarray(), adjacency)
    assert index.shape == (4, 0)


def test_one_common_value_connects_everything():
    adjacency, _ = cliques(3, 4, joined=False)
    augmented, _ = augment_graph(adjacency, np.full((12, 1), "all"))
    assert nx.is_connected(nx.from_scipy_sparse_array(augmented))


def test_self_loops_are_left_out_and_input_is_not_written_to():
    adjacency = sp.csr_array(np.ones((3, 3)))
    before = adjacency.copy()
    augmented, _ = augment_graph(adjacency, [["a"], ["b"], ["a"]])
    assert_array_equal(augmented.diagonal(), 0.0)
    assert_array_equal(adjacency.toarray(), before.toarray())


@pytest.mark.parametrize(
    "table",
    [
        [[1, "x"], [2, "y"], [1, "x"]],
        np.array([["1", "x"], ["2", "y"], ["1", "x"]]),
        np.array([[True, 1.5], [False, 2.5], [True, 1.5]], dtype=object),
        pd.DataFrame({"a": [1, 2, 1], "b": pd.Categorical(["x", "y", "x"])}),
        pd.DataFrame({"a": pd.array([5, 6, 5], dtype="Int64"), "b": [True, False, True]}),
    ],
)
def test_tables_of_many_kinds(table):
    codes, categories = encode_attributes(table, 3)
    assert_array_equal(codes[0], codes[2])
    assert (codes[0] != codes[1]).all() and set(codes.ravel()) == {0, 1}
    assert [len(values) for values in categories] == [2, 2]


def test_numbers_and_text_are_not_the_same_value():
    _, categories = encode_attributes([[1], ["1"], [1]], 3)
    assert len(categories[0]) == 2


# K-means on blocks.


@pytest.fixture
def blocks():
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(4, size=200), 4 + rng.integers(3, size=200)], axis=1)
    owner = np.repeat([0, 1], [4, 3])
    return BlockData(rng.standard_normal((200, 5)), codes, 0.5 * rng.standard_normal((7, 5)), owner)


def one_table(blocks):
    """What the blocks stand for."""
    return blocks.centers_of(np.arange(len(blocks.rows))).reshape(len(blocks.rows), -1)


def test_block_distances_are_those_of_the_concatenated_table(blocks):
    centers = np.random.default_rng(1).standard_normal((6, 3, 5))
    wanted = cdist(one_table(blocks), centers.reshape(6, -1), "sqeuclidean")
    for k in range(6):  # without updates: distances to the nearest of the centres, here one
        _, inertia, _ = lloyd(*blocks.arrays, centers[None, k : k + 1], 0)
        assert_allclose(inertia, [wanted[:, k].sum()], rtol=1e-12)
    labels, inertia, _ = lloyd(*blocks.arrays, centers[None], 0)
    assert_array_equal(labels[0], wanted.argmin(axis=1))
    assert_allclose(inertia, [wanted.min(axis=1).sum()], rtol=1e-12)


def test_labels_are_those_of_kmeans_from_the_same_centres(blocks):
    table = one_table(blocks)
    starts = np.stack(
        [
            blocks.centers_of(np.random.default_rng(seed).choice(200, 4, replace=False))
            for seed in range(5)
        ]
    )
    labels, inertia, n_iter = lloyd(*blocks.arrays, starts.copy(), 100)
    for k, start in enumerate(starts):
        peer = KMeans(4, init=start.reshape(4, -1), n_init=1, max_iter=100, tol=0).fit(table)
        assert_array_equal(labels[k], peer.labels_)
        assert_allclose(inertia[k], peer.inertia_)
        alone = lloyd(*blocks.arrays, start[None].copy(), 100)
        assert_array_equal(alone[0][0], labels[k])
        assert alone[2] == n_iter[k]


def test_equal_first_centres_leave_no_cluster_empty(blocks):
    start = blocks.centers_of(np.zeros(5, dtype=int))[None]
    labels, inertia, _ = lloyd(*blocks.arrays, start, 50)
    assert len(np.unique(labels)) == 5 and np.isfinite(inertia)


def test_plus_plus_takes_distinct_samples(blocks):
    draws = np.random.default_rng(0).random((30, 3))
    chosen = plus_plus(*blocks.arrays[:3], 17, draws)
    assert chosen[0] == 17 and len(set(chosen.tolist())) == 31


# Known answers.


@pytest.mark.parametrize("embedding", ["regularized", "eigen", "ritz"])
def test_two_cliques_joined_by_an_edge(embedding):
    adjacency, truth = cliques(2, 8, joined=True)
    model = clustering(2, embedding=embedding).fit(adjacency)
    assert adjusted_rand_score(truth, model.labels_) == 1.0
    assert_allclose(model.modularity_, modularity_score(adjacency, truth))


@pytest.mark.parametrize("embedding", ["regularized", "eigen", "ritz"])
def test_components_are_found_exactly(embedding):
    adjacency, truth = cliques(4, 6, joined=False)
    with pytest.warns(UserWarning, match="4 connected components"):
        labels = clustering(4, embedding=embedding).fit_predict(adjacency)
    assert adjusted_rand_score(truth, labels) == 1.0


@pytest.mark.parametrize("embedding", ["regularized", "svd"])
def test_an_attribute_that_is_the_block_gives_the_blocks(embedding):
    adjacency, _, truth = make_attributed_sbm(
        250, mean_degree=6, mixing=0.25, n_attributes=0, random_state=0
    )
    labels = clustering(5, embedding=embedding).fit_predict(adjacency, attributes=truth[:, None])
    assert nmi(truth, labels) == pytest.approx(1.0)


def test_planted_blocks_of_the_reference_code(data_folder):
    data = np.load(data_folder / "graphs" / "sbm400.npz")
    n = len(data["adj_indptr"]) - 1
    adjacency = sp.csr_array(
        (np.ones(len(data["adj_indices"])), data["adj_indices"], data["adj_indptr"]), shape=(n, n)
    )
    attributes = data["attributes"]
    for embedding in ("regularized", "svd"):
        model = clustering(5, embedding=embedding).fit(adjacency, attributes=attributes)
        assert nmi(attributes[:, 0], model.labels_) == pytest.approx(1.0)
        # The reference run prints .7932.
        assert model.modularity_ == pytest.approx(0.7932, abs=1e-3)


@pytest.mark.parametrize("mixing, bar", [(0.3, 0.93), (0.5, 0.74), (0.6, 0.60)])
def test_default_is_more_accurate_than_spectral_clustering(mixing, bar):
    """The sheet's block model at noise 0.4: mean NMI over five seeds, and the peer's beside it."""
    ours, peers = [], []
    for seed in range(5):
        adjacency, attributes, truth = make_attributed_sbm(mixing=mixing, random_state=seed)
        labels = clustering(5).fit_predict(adjacency, attributes=attributes)
        ours.append(nmi(truth, labels))
        augmented, _ = augment_graph(adjacency, attributes)
        peer = SpectralClustering(5, affinity="precomputed", random_state=0).fit(augmented)
        peers.append(nmi(truth, peer.labels_[:1000]))
    assert np.mean(ours) >= bar
    assert np.mean(ours) > np.mean(peers)


def test_svd_is_less_accurate_than_the_default():
    """The documentation says so; it should be wrong as soon as this fails."""
    adjacency, attributes, truth = make_attributed_sbm(600, mixing=0.3, random_state=0)
    paper, ours = (
        nmi(truth, clustering(5, embedding=e, max_hierarchies=20).fit_predict(
            adjacency, attributes=attributes))
        for e in ("svd", "regularized")
    )  # fmt: skip
    assert paper < ours - 0.1


def test_tables_of_features_are_clustered_too():
    X, y = make_moons(300, noise=0.05, random_state=0)
    assert adjusted_rand_score(y, BootstrapAMGClustering(2, random_state=0).fit_predict(X)) == 1.0
    X, y = make_blobs(300, random_state=3, centers=3)
    assert adjusted_rand_score(y, BootstrapAMGClustering(3, random_state=0).fit_predict(X)) > 0.9


def test_relabelling_vertices_permutes_labels():
    """Random weights: the matching has no ties."""
    adjacency, attributes, _ = make_attributed_sbm(200, n_clusters=4, mixing=0.1, random_state=0)
    noise = sp.csr_array((adjacency.data, adjacency.indices, adjacency.indptr), adjacency.shape)
    noise.data = np.random.default_rng(0).uniform(0.5, 1.5, noise.nnz)
    adjacency = noise.maximum(noise.T)
    order = np.random.default_rng(1).permutation(200)
    for embedding in ("regularized", "eigen"):
        model = clustering(4, embedding=embedding, eigen_tol=1e-8)
        one = model.fit_predict(adjacency, attributes=attributes)
        other = model.fit_predict(adjacency[order][:, order], attributes=attributes[order])
        assert adjusted_rand_score(one[order], other) == 1.0


# Refinement.


def terms(codes, n_values):
    return [Categories(column, n_values) for column in codes.T]


def test_refinement_improves_damaged_labels_and_loses_no_cluster():
    adjacency, attributes, truth = make_attributed_sbm(1000, mixing=0.4, random_state=0)
    rng = np.random.default_rng(0)
    damaged = np.where(rng.random(1000) < 0.3, rng.integers(5, size=1000), truth)
    better = refine_labels(adjacency, terms(attributes, 5), damaged, 5)
    assert nmi(truth, better) > nmi(truth, damaged) + 0.2
    # The unit of weights does not matter.
    assert_array_equal(refine_labels(1000 * adjacency, terms(attributes, 5), damaged, 5), better)
    many = rng.integers(12, size=1000)
    assert len(np.unique(refine_labels(adjacency, terms(attributes, 5), many, 12))) == 12


@pytest.mark.parametrize("n_attributes", [0, 2])
def test_refinement_of_a_graph_without_edges(n_attributes):
    codes = np.repeat([[0] * n_attributes, [1] * n_attributes], 10, axis=0)
    labels = np.r_[np.zeros(9, int), np.ones(11, int)]
    wanted = np.repeat([0, 1], 10) if n_attributes else labels
    got = refine_labels(sp.csr_array((20, 20)), terms(codes, 2), labels, 2)
    if n_attributes:
        assert_array_equal(got, wanted)
    assert set(got) <= {0, 1}


# Options.


def test_svd_has_the_papers_settings():
    model = clustering(2, embedding="svd")
    names = ("attribute_scale", "init", "n_init", "max_iter", "selection", "refine")
    assert [model._resolved(name) for name in names] == [
        1.0,
        "random",
        100,
        10,
        "modularity",
        False,
    ]
    assert model._resolved_hierarchies() == 40
    assert clustering(2, refine=False)._resolved("refine") is False


def test_modularity_selects_among_restarts():
    adjacency, attributes, _ = make_attributed_sbm(200, n_clusters=4, mixing=0.5, random_state=2)
    found = {
        selection: clustering(
            4, embedding="svd", max_hierarchies=10, n_init=30, selection=selection
        ).fit(adjacency, attributes=attributes)
        for selection in ("modularity", "inertia")
    }
    assert found["modularity"].modularity_ >= found["inertia"].modularity_
    assert found["modularity"].inertia_ >= found["inertia"].inertia_


def test_threads_change_nothing():
    adjacency, attributes, _ = make_attributed_sbm(200, random_state=0)
    one, two = (
        clustering(5, embedding="svd", max_hierarchies=5, n_jobs=n_jobs).fit_predict(
            adjacency, attributes=attributes
        )
        for n_jobs in (1, 2)
    )
    assert_array_equal(one, two)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_dense_sparse_and_networkx_give_the_same(embedding):
    adjacency, attributes, _ = make_attributed_sbm(80, n_clusters=2, random_state=0)
    model = clustering(2, embedding=embedding, max_hierarchies=4)
    wanted = model.fit_predict(adjacency, attributes=attributes)
    for same in (
        adjacency.toarray(),
        sp.csr_matrix(adjacency),
        adjacency.tocoo(),
        nx.from_scipy_sparse_array(adjacency),
        adjacency.astype(np.float32),
        adjacency.astype(bool).toarray(),
    ):
        assert_array_equal(model.fit_predict(same, attributes=attributes), wanted)


def test_degenerate_graphs():
    ring = nx.to_numpy_array(nx.cycle_graph(5))
    assert len(np.unique(clustering(5).fit_predict(ring))) == 5  # as many clusters as vertices
    assert_array_equal(clustering(1).fit_predict(ring), 0)
    values = np.repeat(["a", "b"], 6)[:, None]
    for embedding in EMBEDDINGS:
        with pytest.warns(UserWarning, match="with its attributes has 2 connected"):
            model = clustering(2, embedding=embedding).fit(np.zeros((12, 12)), attributes=values)
        if embedding != "svd":
            assert adjusted_rand_score(values[:, 0], model.labels_) == 1.0
        assert model.modularity_ == 0.0
        with pytest.warns(UserWarning, match="12 connected components"):
            clustering(2, embedding=embedding).fit(np.zeros((12, 12)))


def test_isolated_vertices_get_a_label():
    adjacency, truth = cliques(2, 10, joined=True)
    whole = sp.block_diag([adjacency, sp.csr_array((3, 3))]).tocsr()
    with pytest.warns(UserWarning, match="4 connected components"):
        labels = clustering(2).fit_predict(whole)
    assert len(labels) == 23 and adjusted_rand_score(truth, labels[:20]) == 1.0


def test_too_few_distinct_vertices_are_said():
    X = np.repeat([[0.0, 0.0], [100.0, 100.0]], 15, axis=0)
    with pytest.warns() as caught:
        labels = BootstrapAMGClustering(2, random_state=0).fit_predict(X)
    assert adjusted_rand_score(X[:, 0] > 0, labels) == 1.0
    assert not [w for w in caught if issubclass(w.category, ConvergenceWarning)]


def test_no_warning_where_attributes_connect(recwarn):
    adjacency, truth = cliques(2, 6, joined=False)
    clustering(2).fit(adjacency, attributes=np.zeros((12, 1), dtype=int))
    assert not [w for w in recwarn if "connected components" in str(w.message)]


# Missing, continuous and wrong input.


@pytest.mark.parametrize(
    "missing, table",
    [
        (2, np.array([["a"], ["b"], [None], ["a"], [np.nan]], dtype=object)),
        (2, np.array([[0.0], [1.0], [np.nan], [0.0], [np.nan]])),
        (2, pd.DataFrame({"z": pd.array([0, 1, None, 0, None], dtype="Int64")})),
    ],
)
def test_missing_attributes(missing, table):
    ring = nx.to_numpy_array(nx.cycle_graph(5))
    with pytest.raises(ValueError, match="2 missing values .first in row 2.*own_value"):
        clustering(2).fit(ring, attributes=table)
    with pytest.raises(ValueError, match="missing values"):
        augment_graph(ring, table)
    model = clustering(2, attributes_missing="own_value").fit(ring, attributes=table)
    assert len(model.categories_[0]) == 3 and model.categories_[0][-1] is None
    assert model.attribute_embedding_[0].shape == (3, 2)


def test_a_continuous_column_is_warned_about():
    adjacency, _, _ = make_attributed_sbm(100, random_state=0)
    column = np.random.default_rng(0).standard_normal((100, 1))
    with pytest.warns(UserWarning, match="100 distinct values.*KBinsDiscretizer"):
        clustering(3).fit(adjacency, attributes=column)
    frame = pd.DataFrame({"income": column[:, 0]})
    with pytest.warns(UserWarning, match="'income'"):
        clustering(3).fit(adjacency, attributes=frame)
    with pytest.warns(UserWarning) as caught:
        clustering(3, max_categories=None).fit(sp.block_diag([adjacency] * 2), attributes=None)
    assert all("connected components" in str(w.message) for w in caught)


RING = nx.to_numpy_array(nx.cycle_graph(6))
ONE_WAY = np.triu(RING)
NEGATIVE = -RING


@pytest.mark.parametrize(
    "X, attributes, params, message",
    [
        (RING[:, :4], None, {}, "square"),
        (ONE_WAY, None, {}, r"not symmetric: edge .*A \+ A.T"),
        (sp.csr_array(ONE_WAY), None, {}, "not symmetric"),
        (NEGATIVE, None, {}, "negative weight"),
        (np.where(RING > 0, np.nan, 0), None, {}, "NaN"),
        (np.where(RING > 0, np.inf, 0), None, {}, "infinity"),
        (RING, np.zeros((5, 2)), {}, "5 rows, the graph has 6 vertices"),
        (RING, np.zeros(6), {}, r"reshape\(-1, 1\)"),
        (RING, np.zeros((6, 1), dtype=complex), {}, "complex"),
        (RING, np.full((6, 1), np.inf), {}, "infinite"),
        (RING, [[[0]]] * 6, {}, "dimensions"),
        (RING, None, {"n_clusters": 7}, "n_clusters=7 is above the number of vertices, 6"),
        (RING, None, {"n_clusters": 0}, "n_clusters"),
        (RING, None, {"embedding": "pca"}, "embedding"),
        (RING, None, {"attribute_weight": 0.0}, "attribute_weight"),
        (RING, np.zeros((6, 1)), {"attribute_weight": [1.0, 2.0]}, "each of the 1 attributes"),
        (RING, np.zeros((6, 1)), {"attribute_weight": [-1.0]}, "positive"),
        (RING, None, {"composition": "both"}, "composition"),
        (RING, None, {"tol": 1.0}, "tol"),
        (RING[:1, :1], None, {}, "minimum of 2"),
    ],
)  # fmt: skip
def test_bad_input(X, attributes, params, message):
    model = clustering(2).set_params(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(X, attributes=attributes)
    assert not [name for name in vars(model) if name.endswith("_") and name != "n_features_in_"]


@pytest.mark.parametrize(
    "weight, message",
    [(0.0, "positive"), (np.nan, "positive"), ([1.0, 1.0], "each of the 1"), (-1, "positive")],
)
def test_bad_weights_of_the_augmented_graph(weight, message):
    with pytest.raises(ValueError, match=message):
        augment_graph(RING, np.zeros((6, 1), dtype=int), weight=weight)


def test_attributes_that_cannot_be_values():
    table = np.empty((6, 1), dtype=object)
    table[:, 0] = [[1], [2], [1], [2], [1], [2]]
    with pytest.raises(ValueError, match="unhashable"):
        clustering(2).fit(RING, attributes=table)


# scikit-learn's manners.


def test_attributes_are_routed_through_a_search():
    adjacency, attributes, _ = make_attributed_sbm(120, n_clusters=3, random_state=0)
    dense = adjacency.toarray()
    everything = np.arange(120)

    def score(estimator, X, y=None):
        return modularity_score(X, estimator.labels_)

    with sklearn.config_context(enable_metadata_routing=True):
        model = clustering(3).set_fit_request(attributes=True)
        search = GridSearchCV(
            model, {"n_clusters": [2, 3]}, scoring=score, cv=[(everything, everything)]
        )
        search.fit(dense, attributes=attributes)
    assert len(search.best_estimator_.categories_) == 3
    assert search.best_score_ == pytest.approx(search.best_estimator_.modularity_)


def test_interrupted_fit_leaves_nothing(monkeypatch):
    import sklr.cluster._bootstrap_amg as module

    adjacency, attributes, _ = make_attributed_sbm(60, n_clusters=2, random_state=0)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    model = clustering(2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "block_kmeans", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(adjacency, attributes=attributes)
    assert not hasattr(model, "labels_") and not hasattr(model, "hierarchies_")
    assert len(model.fit(adjacency, attributes=attributes).labels_) == 60


def test_copies_of_a_fitted_model():
    adjacency, attributes, _ = make_attributed_sbm(60, n_clusters=2, random_state=0)
    model = clustering(2).fit(adjacency, attributes=attributes)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert_array_equal(other.labels_, model.labels_)
        b = np.arange(float(model.smooth_vectors_.shape[0]))
        one, two = (m.hierarchies_[0].aspreconditioner() @ b for m in (model, other))
        assert_array_equal(one, two)
    assert not hasattr(clone(model), "labels_")


# How much attributes count is learnt from edges that were left out.


def test_attributes_that_tell_nothing_get_no_strength_and_change_nothing():
    adjacency, attributes, labels = make_attributed_sbm(
        600, mixing=0.2, n_attributes=0, n_noise_attributes=2, random_state=0
    )
    alone = clustering(5).fit(adjacency)
    model = clustering(5).fit(adjacency, attributes=attributes)
    assert_array_equal(model.attribute_strengths_, 0)
    assert nmi(labels, model.labels_) >= nmi(labels, alone.labels_) - 0.02


def test_attributes_that_tell_count_and_others_do_not():
    adjacency, attributes, labels = make_attributed_sbm(
        1000, mixing=0.4, n_attributes=2, n_noise_attributes=2, noise=0.3, random_state=0
    )
    model = clustering(5).fit(adjacency, attributes=attributes)
    assert (model.attribute_strengths_[:2] > 0).all()
    assert_array_equal(model.attribute_strengths_[2:], 0)
    assert nmi(labels, model.labels_) > nmi(labels, clustering(5).fit(adjacency).labels_) + 0.1


def planted_features(labels, n_columns=40, seed=0):
    """Words that are three times as frequent in one block as elsewhere, and normal numbers."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(n_columns) % 5 == labels[:, None], 0.6, 0.2)
    words = sp.csr_array(rng.poisson(rate).astype(float))
    return words, rng.standard_normal((len(labels), 5)) + 1.5 * np.eye(5)[labels]


@pytest.mark.parametrize("kind", [0, 1], ids=["words", "numbers"])
def test_features_are_taken_as_they_are(kind):
    adjacency, _, labels = make_attributed_sbm(600, mixing=0.45, random_state=1)
    features = planted_features(labels)[kind]
    model = clustering(5).fit(adjacency, features=features)
    assert model.feature_strength_ > 0
    assert nmi(labels, model.labels_) > nmi(labels, clustering(5).fit(adjacency).labels_) + 0.1
    # The unit of features does not matter.
    same = clustering(5).fit(adjacency, features=features * 1024.0)
    assert_array_equal(same.labels_, model.labels_)
    with pytest.raises(ValueError, match="601 rows|600 vertices"):
        clustering(5).fit(adjacency, features=features[:-1])


def test_negative_sparse_features_are_refused():
    adjacency, _, labels = make_attributed_sbm(60, random_state=1)
    words = -planted_features(labels)[0]
    with pytest.raises(ValueError, match="must not be negative"):
        clustering(5).fit(adjacency, features=words)


def test_the_number_of_clusters_is_found():
    for k in (3, 6):
        adjacency, attributes, labels = make_attributed_sbm(
            900, n_clusters=k, mean_degree=14, mixing=0.25, random_state=k
        )
        model = clustering("auto").fit(adjacency)
        assert model.n_clusters_ == k
        assert model.embedding_.shape == (900, k)
    # A random graph has no communities.
    adjacency, _, _ = make_attributed_sbm(500, mixing=0.8, mean_degree=6, random_state=0)
    assert clustering("auto").fit(adjacency).n_clusters_ == 1


def test_new_vertices_go_where_their_edges_and_attributes_are():
    adjacency, attributes, labels = make_attributed_sbm(800, mixing=0.2, random_state=2)
    adjacency = sp.csr_array(adjacency)
    old, new = np.arange(700), np.arange(700, 800)
    words = planted_features(labels)[0]
    model = clustering(5).fit(
        adjacency[old][:, old], attributes=attributes[old], features=words[old]
    )
    edges = adjacency[new][:, old]
    by_edges = nmi(labels[new], model.predict(edges))
    known = dict(attributes=attributes[new], features=words[new])
    assert by_edges > 0.6
    assert nmi(labels[new], model.predict(edges, **known)) > by_edges
    # Values that were never seen, and nothing at all, say nothing.
    unseen = np.full_like(attributes[new], 77)
    assert_array_equal(model.predict(edges, attributes=unseen), model.predict(edges))
    largest = np.bincount(model.labels_).argmax()
    assert_array_equal(model.predict(np.zeros((2, 700))), largest)
    with pytest.raises(ValueError, match="3 columns of fit"):
        model.predict(edges, attributes=attributes[new][:, :2])
    with pytest.raises(ValueError, match="fitted without any"):
        clustering(5).fit(adjacency).predict(adjacency[:2], features=words[:2])


def test_new_samples_of_a_table():
    X = np.r_[np.random.default_rng(0).standard_normal((60, 2)), 9 + np.zeros((30, 2))]
    X[60:] += np.random.default_rng(1).standard_normal((30, 2))
    model = BootstrapAMGClustering(2, random_state=0).fit(X)
    got = model.predict([[0.0, 0.0], [9.0, 9.0]])
    assert_array_equal(got, [np.bincount(model.labels_[:60]).argmax(),
                             np.bincount(model.labels_[60:]).argmax()])  # fmt: skip


def test_every_row_many_times_gives_the_clusters_of_each_row_once():
    X, y = make_blobs(60, centers=3, cluster_std=2.0, random_state=0)
    once = BootstrapAMGClustering(3, n_neighbors=5, random_state=0).fit_predict(X)
    again = BootstrapAMGClustering(3, n_neighbors=5, random_state=0).fit_predict(np.repeat(X, 8, 0))
    assert adjusted_rand_score(once, again[::8]) > 0.9
    assert_array_equal(again, np.repeat(again[::8], 8))


def test_components_of_a_table_ask_for_more_neighbours():
    X, _ = make_blobs(60, centers=[[0, 0], [99, 99]], random_state=0)
    with pytest.warns(UserWarning, match="larger n_neighbors"):
        BootstrapAMGClustering(2, n_neighbors=5, random_state=0).fit(X)


def test_the_number_of_clusters_of_a_table_is_that_of_the_largest_silhouette():
    from sklearn.datasets import load_iris, make_blobs

    X, y = make_blobs(240, 4, centers=[[0] * 4, [8] * 4, [0, 8, 0, 8]], random_state=0)
    for unit in (1e-6, 1.0, 1e6):
        model = BootstrapAMGClustering("auto", random_state=0).fit(unit * X)
        assert model.n_clusters_ == 3
        assert nmi(y, model.labels_) == 1.0
    # One species apart and two that overlap: two or three, not one for each handful of points.
    iris = BootstrapAMGClustering("auto", random_state=0).fit(load_iris().data)
    assert iris.n_clusters_ in (2, 3)
    same = np.ones((30, 2))
    assert BootstrapAMGClustering("auto", random_state=0).fit(same).n_clusters_ == 1
