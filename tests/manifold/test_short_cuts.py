"""Short-cut edges: which are dropped, and that nothing else is."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from sklr.datasets import make_geodesic_swiss_roll
from sklr.manifold import _short_cuts
from sklr.manifold._heat_distances import build_graph
from sklr.manifold._short_cuts import drop_short_cuts


def dropped(X):
    """The graph of some points, and what is left of it."""
    W, _ = build_graph(X)
    return W, drop_short_cuts(W, lambda a, b: cdist(X[a], X[b]), np.random.RandomState(0))


def n_through(W, flat):
    """Edges through the air from turn to turn of the roll: a turn is longer than 20."""
    i, j = sp.coo_array(sp.triu(W, 1)).coords
    return np.count_nonzero(np.abs(flat[i, 0] - flat[j, 0]) > 20)


def test_the_last_bridge_between_two_turns_goes_too():
    """Three points bridge two turns after most short-cuts have gone.

    Dropping two thirds of their edges gains too little to pay; the whole way does.
    """
    X, flat = make_geodesic_swiss_roll(1000, noise=1.0, random_state=9)
    W, kept = dropped(X)
    assert n_through(W, flat) == 45
    assert n_through(kept, flat) == 0
    assert kept.nnz > 0.99 * W.nnz
    assert connected_components(kept, directed=False)[0] == 1


def test_the_unit_does_not_matter():
    X, flat = make_geodesic_swiss_roll(300, noise=1.0, random_state=0)
    W, kept = dropped(X)
    large = dropped(1e6 * X)[1]
    assert n_through(W, flat) > 0
    assert kept.nnz < W.nnz
    assert_array_equal(kept.indices, large.indices)


@pytest.mark.parametrize("hops, expected", [([10, 9, 20], 2), ([10, 10, 10], 0), ([10, 20, 9], 1)])
def test_the_best_of_the_way_is_taken(monkeypatch, hops, expected):
    """Two edges of a ring are found, one after the other; lengths say which graph is best."""
    ring = sp.csr_array(np.roll(np.eye(60), 1, axis=1) + np.roll(np.eye(60), -1, axis=1))
    found = iter([(0, 1), (30, 31)])

    def find(W, *args):
        edge = next(found, None)
        return tuple(np.array([] if edge is None else [end], dtype=int) for end in edge or (0, 0))

    lengths = iter(hops)
    monkeypatch.setattr(_short_cuts, "_find", find)
    monkeypatch.setattr(_short_cuts, "_mean_hops", lambda *args: next(lengths))
    kept = drop_short_cuts(ring, None, np.random.RandomState(0))
    assert (ring.nnz - kept.nnz) // 2 == expected


def test_work_is_done_once_for_each_graph_and_each_end(monkeypatch):
    """Walks are compared again only after edges were dropped; one call a patch gives distances."""
    X, _ = make_geodesic_swiss_roll(400, noise=1.0, random_state=0)
    W, _ = build_graph(X)
    graphs, calls, ends = [], [], []
    walks_alike, along = _short_cuts._walks_alike, _short_cuts._along
    monkeypatch.setattr(
        _short_cuts, "_walks_alike", lambda W, *args: graphs.append(W.nnz) or walks_alike(W, *args)
    )
    monkeypatch.setattr(
        _short_cuts, "_along", lambda g, i, j, d: ends.append(len({*i, *j})) or along(g, i, j, d)
    )
    drop_short_cuts(
        W, lambda a, b: calls.append(len(b)) or cdist(X[a], X[b]), np.random.RandomState(0)
    )
    assert len(ends) > 1 and len(calls) == sum(ends)
    assert len(set(graphs)) == len(graphs)


def test_walks_are_those_of_the_matrix_of_steps():
    """Six steps, staying included, as powers of the dense matrix."""
    X, _ = make_geodesic_swiss_roll(80, noise=0.2, random_state=1)
    W, _ = build_graph(X)
    step = (W.toarray() > 0) + np.eye(80)
    step /= step.sum(axis=1, keepdims=True)
    walks = np.linalg.matrix_power(step, 6)
    walks /= np.linalg.norm(walks, axis=1, keepdims=True)
    i, j = _short_cuts._edges(W)
    assert_allclose(_short_cuts._walks_alike(W, None), (walks @ walks.T)[i, j], rtol=1e-12)
