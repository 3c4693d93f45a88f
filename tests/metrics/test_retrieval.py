"""Recall at k against a loop; what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_iris
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from sklr.metrics import recall_at_k


def by_loop(X, y, k):
    hits = []
    for i in range(len(X)):
        if (np.asarray(y) == y[i]).sum() < 2:
            continue
        distances = np.linalg.norm(X - X[i], axis=1)
        distances[i] = np.inf
        hits.append(any(y[j] == y[i] for j in np.argsort(distances)[:k]))
    return np.mean(hits)


def test_equals_the_loop_also_with_classes_of_one():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 12, 40)
    y[:2] = 50, 51  # alone
    ks = [1, 2, 4, 39]
    assert_array_equal(recall_at_k(X, y, ks), [by_loop(X, y, k) for k in ks])
    assert recall_at_k(X, y, 2) == by_loop(X, y, 2)
    assert isinstance(recall_at_k(X, y), float)
    assert recall_at_k(X.astype(np.float32), y.astype(str)) == recall_at_k(X, y)


def test_at_one_it_is_the_accuracy_of_nearest_neighbours_left_out():
    X, y = load_iris(return_X_y=True)
    X = X + 1e-6 * np.random.default_rng(0).standard_normal(X.shape)  # no ties
    scores = cross_val_score(KNeighborsClassifier(1), X, y, cv=LeaveOneOut())
    assert recall_at_k(X, y) == pytest.approx(scores.mean())


def test_a_sample_is_not_its_own_neighbour():
    assert recall_at_k(np.zeros((4, 2)), [0, 0, 0, 0]) == 1.0
    assert recall_at_k([[0.0], [0.0], [9.0], [9.0]], [0, 1, 0, 1]) == 0.0


@pytest.mark.parametrize("k", [0, 4, -1, 1.0, "a", [], [1, 9], [[1]]])
def test_wrong_k(k):
    with pytest.raises(ValueError, match="k must be integers from 1 to n_samples - 1 = 3"):
        recall_at_k(np.eye(4), [0, 0, 1, 1], k)


def test_wrong_samples_and_classes():
    with pytest.raises(ValueError, match="no class of y has two samples"):
        recall_at_k(np.eye(3), [0, 1, 2])
    with pytest.raises(ValueError, match="NaN"):
        recall_at_k([[np.nan], [1.0]], [0, 0])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        recall_at_k(np.eye(3), [0, 0])
    with pytest.raises(ValueError, match="continuous"):
        recall_at_k(np.eye(3), [0.5, 0.1, 0.2])
