"""Modularity against networkx."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklr.metrics import modularity_score

nx = pytest.importorskip("networkx", reason="needs the extra test")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("resolution", [0.5, 1.0, 2.0])
def test_equals_networkx(weighted, loops, resolution):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        A = np.triu(rng.random((20, 20)) < 0.3, 0 if loops else 1).astype(float)
        if weighted:
            A *= rng.random(A.shape)
        A = np.maximum(A, A.T)
        labels = rng.integers(4, size=20)
        groups = [set(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)]
        wanted = nx.community.modularity(nx.from_numpy_array(A), groups, resolution=resolution)
        got = modularity_score(A, labels, resolution=resolution)
        assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
        # Names of clusters do not matter, the unit of weights does not matter.
        assert_allclose(modularity_score(7 * A, labels.astype(str), resolution=resolution), got)


def test_one_cluster_is_zero_and_an_empty_graph_too():
    graph = nx.karate_club_graph()
    assert_allclose(modularity_score(graph, np.zeros(34)), 0.0, atol=1e-15)
    assert modularity_score(np.zeros((3, 3)), [0, 1, 1]) == 0.0


@pytest.mark.parametrize(
    "adjacency, labels, resolution, message",
    [
        ([[0, 1], [0, 0]], [0, 1], 1.0, "not symmetric"),
        ([[0, -1], [-1, 0]], [0, 1], 1.0, "negative weight"),
        ([[0, 1, 1], [1, 0, 1]], [0, 1], 1.0, "square"),
        ([[0, 1], [1, 0]], [0, 1, 1], 1.0, "labels has 3 entries, the graph has 2"),
        ([[0, 1], [1, 0]], [0, 1], -1, "resolution must be"),
        ([[0, np.nan], [np.nan, 0]], [0, 1], 1.0, "finite"),
    ],
)
def test_bad_input(adjacency, labels, resolution, message):
    with pytest.raises(ValueError, match=message):
        modularity_score(adjacency, labels, resolution=resolution)
