"""Attributed block models are what their parameters say."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklr.datasets import make_attributed_sbm


def test_shares_and_degrees():
    adjacency, attributes, labels = make_attributed_sbm(
        20_000, n_clusters=4, mean_degree=10, mixing=0.3, noise=0.4, n_noise_attributes=1,
        random_state=0,
    )  # fmt: skip
    ends = adjacency.tocoo()
    assert abs((labels[ends.row] != labels[ends.col]).mean() - 0.3) < 0.01
    assert abs(adjacency.nnz / 20_000 - 10) < 0.05  # a few edges repeat
    agree = (attributes == labels[:, None]).mean(axis=0)
    np.testing.assert_allclose(agree, [0.7, 0.7, 0.7, 0.25], atol=0.015)  # 1 - noise + noise / 4
    assert_array_equal(np.bincount(labels), 5000)
    assert (adjacency != adjacency.T).nnz == 0 and not adjacency.diagonal().any()
    assert set(adjacency.data) == {1.0} and adjacency.indices.dtype == np.int32


def test_blocks_with_several_values_have_their_own():
    _, attributes, labels = make_attributed_sbm(
        5000, n_clusters=3, n_values=11, noise=0.0, n_attributes=1, random_state=0
    )
    assert_array_equal(attributes[:, 0] % 3, labels)
    assert len(np.unique(attributes)) == 11
    _, attributes, labels = make_attributed_sbm(
        500, n_clusters=5, n_values=2, noise=0.0, n_attributes=1, random_state=0
    )
    assert_array_equal(attributes[:, 0], labels % 2)


def test_unequal_blocks_and_heavy_degrees():
    adjacency, _, labels = make_attributed_sbm(
        4000, imbalance=1.0, degree_exponent=2.5, random_state=0
    )
    sizes = np.bincount(labels)
    assert sizes[0] > 4 * sizes[-1] and sizes.min() > 0
    degree = adjacency.sum(axis=1)
    assert degree.max() > 8 * degree.mean()


def test_seeds():
    one, two, other = (make_attributed_sbm(100, random_state=seed) for seed in (0, 0, 1))
    assert (one[0] != two[0]).nnz == 0
    assert_array_equal(one[1], two[1])
    assert (one[0] != other[0]).nnz > 0


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_samples": 3, "n_clusters": 5}, "n_clusters=5 is above n_samples=3"),
        ({"mixing": 1.5}, "mixing must be"),
        ({"noise": -0.1}, "noise must be"),
        ({"mean_degree": np.inf}, "mean_degree must be"),
        ({"n_attributes": -1}, "n_attributes must be"),
        ({"degree_exponent": 1.0}, "degree_exponent must be"),
        ({"imbalance": -1}, "imbalance must be"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_attributed_sbm(**params)
