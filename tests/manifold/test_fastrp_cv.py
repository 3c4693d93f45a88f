"""FastRPCV: what it chooses, by what, and what it must not see."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.datasets import make_attributed_sbm
from sklr.manifold import FastRP, FastRPCV
from sklr.manifold import _fastrp_search as search

GRAPH, _, LABELS = make_attributed_sbm(600, n_clusters=4, mean_degree=6, random_state=3)
KNOWN = np.where(np.arange(600) < 120, LABELS, -1)


def tuner(d=32, **settings):
    return FastRPCV(d, **{"affinity": "precomputed", "random_state": 0} | settings)


@pytest.fixture(scope="module")
def fitted():
    return tuner().fit(GRAPH, KNOWN)


def score(embedding):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    return model.fit(embedding[:120], LABELS[:120]).score(embedding[120:], LABELS[120:])


def test_labels_choose_better_weights_than_the_default(fitted):
    default = FastRP(32, affinity="precomputed", random_state=0).fit_transform(GRAPH)
    assert score(fitted.embedding_) > score(default) + 0.1


def test_edges_choose_better_weights_than_the_default():
    unlabelled = tuner().fit(GRAPH)
    assert unlabelled.scoring_ == "edges"
    assert unlabelled.best_score_ > unlabelled.cv_results_["mean_test_score"][0] + 0.02


def test_the_embedding_is_that_of_fastrp_with_the_chosen_parameters(fitted):
    same = FastRP(32, affinity="precomputed", random_state=0, **fitted.best_params_).fit(GRAPH)
    assert_array_equal(fitted.embedding_, same.embedding_)
    assert_array_equal(fitted.transform(GRAPH[:5]), same.transform(GRAPH[:5]))


def test_labels_of_other_nodes_are_not_seen(fitted):
    nan = np.where(KNOWN < 0, np.nan, KNOWN)
    none = np.where(KNOWN < 0, None, KNOWN)
    for y in (nan, none, KNOWN.reshape(-1, 1)):
        assert tuner().fit(GRAPH, y).best_params_ == fitted.best_params_


def test_edges_left_out_are_not_seen():
    rng = np.random.default_rng(0)
    rest, nodes, judge = search.leave_edges_out(sparse.csr_array(GRAPH), 0.2, 100, rng)
    out = nodes[judge.edges[0]], nodes[judge.edges[1]]
    assert len(out[0]) == 100
    assert (np.asarray(GRAPH[out]) > 0).all()
    assert (np.asarray(rest[out]) == 0).all()
    assert rest.nnz == GRAPH.nnz - 200  # both directions
    pairs = nodes[judge.pairs[0]], nodes[judge.pairs[1]]
    assert (np.asarray(GRAPH[pairs]) == 0).all()


@pytest.mark.parametrize("shape", [(40, 6), (20, 30)], ids=["tall", "wide"])
def test_scores_of_labels_are_those_of_leaving_one_out(shape):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(shape)
    table = np.eye(3)[rng.integers(0, 3, shape[0])]
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    errors = []
    for penalty in search._PENALTIES:
        # The mean of all rows stays the centre of the columns, as in the embedding.
        model = Ridge(alpha=penalty * shape[0])
        found = cross_val_predict(model, rows, table, cv=LeaveOneOut())
        errors.append(((found - table) ** 2).sum(axis=1))
    errors = np.array(errors)
    best = errors[errors.mean(axis=1).argmin()]
    assert_allclose(-search.LabelScore(table)(rows), best, rtol=1e-8)


def test_scores_of_edges_are_the_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 4))
    edges, pairs = rng.integers(0, 30, (2, 2, 25))
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    unit = standard / np.linalg.norm(standard, axis=1, keepdims=True)
    near, far = ((unit[a] * unit[b]).sum(axis=1) for a, b in (edges, pairs))
    wanted = roc_auc_score(np.r_[np.ones(25), np.zeros(25)], np.r_[near, far])
    assert_allclose(search.EdgeScore(edges, pairs)(rows).mean(), wanted, rtol=1e-12)


def test_the_default_stays_without_evidence():
    rng = np.random.default_rng(0)
    noise = list(rng.standard_normal((20, 50)))
    table = [noise[0], noise[0] + 0.001 * noise[1]]
    assert search.best_candidate(table, 0)[0] == 0
    assert search.best_candidate([noise[0], noise[0] + 1], 0)[0] == 1


def test_candidates_are_sums_of_powers(fitted):
    """The scores, which come of running sums, are those of embeddings made one by one."""
    nodes, table = search.known_labels(KNOWN, 600)
    judge = search.LabelScore(table)
    for number in (0, 7, len(fitted.cv_results_["params"]) - 1):
        settings = fitted.cv_results_["params"][number]
        rows = FastRP(
            32, affinity="precomputed", random_state=0, standardize=False, dtype=np.float64,
            **settings,
        ).fit_transform(GRAPH)[nodes]  # fmt: skip
        # Powers are in single precision in the search.
        assert_allclose(
            judge(rows).mean(), fitted.cv_results_["mean_test_score"][number], rtol=1e-4
        )


def test_results_do_not_depend_on_threads_or_units_of_weights(fitted):
    assert_array_equal(tuner(n_jobs=2).fit(GRAPH, KNOWN).embedding_, fitted.embedding_)
    assert tuner().fit(GRAPH * 1024.0, KNOWN).best_params_ == fitted.best_params_


def test_several_labels_a_node():
    table = np.stack([LABELS % 2, LABELS // 2, np.zeros_like(LABELS)], axis=1)
    table[120:] = -1
    several = tuner().fit(GRAPH, table)
    assert several.scoring_ == "labels" and several.n_validation_ == 120
    assert tuner().fit(GRAPH, sparse.csr_array(table)).best_params_ == several.best_params_


def test_a_table_in_a_pipeline():
    X = np.random.default_rng(0).standard_normal((200, 3))
    y = np.where(X[:, 0] > 0, "yes", "no")
    pipe = make_pipeline(FastRPCV(8, random_state=0), LogisticRegression())
    assert pipe.fit(X[:150], y[:150]).score(X[150:], y[150:]) > 0.8


@pytest.mark.parametrize(
    "y, message",
    [
        (np.zeros(5), "600 nodes, got shape"),
        (np.linspace(0, 1, 600), "Unknown label type"),
        (np.full((600, 2), 3), "0 and 1"),
        (np.zeros((600, 2, 2)), "got shape"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        tuner(8).fit(GRAPH, y)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_powers": (0, 4)}, "n_powers must be whole numbers of at least 1"),
        ({"n_powers": (2.5,)}, "n_powers"),
        ({"growths": ()}, "growths"),
        ({"growths": (np.nan,)}, "growths"),
        ({"self_weights": (-1,)}, "self_weights"),
        ({"degree_exponents": ("a",)}, "degree_exponents"),
    ],
)
def test_bad_grids(settings, message):
    with pytest.raises(ValueError, match=message):
        tuner(8, **settings).fit(GRAPH)


def test_too_few_labels_are_told_and_edges_choose():
    y = np.where(np.arange(600) < 4, LABELS, -1)
    with pytest.warns(UserWarning, match="4 nodes of known labels"):
        assert tuner(8).fit(GRAPH, y).scoring_ == "edges"
    with pytest.warns(UserWarning, match="1 different labels"):  # -1 is not a class
        assert tuner(8).fit(GRAPH, np.where(LABELS > 1, 1, -1)).scoring_ == "edges"


def test_a_graph_of_few_edges_gets_the_default():
    ring = np.roll(np.eye(6), 1, axis=1) + np.roll(np.eye(6), -1, axis=1)
    small = tuner(4).fit(ring)
    assert small.n_validation_ == 0
    assert_array_equal(
        small.embedding_, FastRP(4, affinity="precomputed", random_state=0).fit_transform(ring)
    )


def test_centred_powers_are_powers_without_their_mean():
    A = sparse.csr_array(GRAPH).toarray()
    degrees = A.sum(axis=1)
    settings = dict(affinity="precomputed", random_state=0, dtype=np.float64, standardize=False)
    rp = FastRP(8, weights=(1.0, 2.0, 4.0), center_powers=True, **settings).fit(GRAPH)
    power, wanted = rp.projection_.toarray(), 0.0
    for weight in rp.weights:
        power = A @ power / np.maximum(degrees, 1)[:, None]
        centred = power - (degrees / degrees.sum()) @ power
        centred[degrees == 0] = 0
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        wanted = wanted + weight * centred / np.where(norms > 0, norms, 1)
    assert_allclose(rp.embedding_, wanted, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="center_powers=True needs input_matrix='transition'"):
        FastRP(4, input_matrix="adjacency", center_powers=True).fit(A)


def test_a_basis_of_a_subspace_is_chosen_by_a_standard_error_only():
    # A dense graph of many groups, with few dimensions to hold them: a basis holds most.
    dense, _, labels = make_attributed_sbm(
        900, n_clusters=24, mean_degree=40, mixing=0.55, random_state=1
    )
    known = np.where(np.arange(900) < 450, labels, -1)
    model = tuner().fit(dense, known)
    results = model.cv_results_
    n_iter = np.array([p["n_subspace_iter"] for p in results["params"]])
    assert model.best_params_["n_subspace_iter"] == 24
    means = results["mean_test_score"]
    best_sum = np.where(n_iter == 0, means, -np.inf).argmax()
    assert means[best_sum] + results["std_error_to_best"][best_sum] < model.best_score_
    same = FastRP(32, affinity="precomputed", random_state=0, **model.best_params_).fit(dense)
    assert_array_equal(model.embedding_, same.embedding_)
    without = tuner(n_subspace_iter=0).fit(dense, known)
    assert len(without.cv_results_["params"]) == (n_iter == 0).sum()
