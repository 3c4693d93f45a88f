"""The few cosines that rows are made of."""

import itertools

import numpy as np
import pytest
import scipy.fft
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from sklr.decomposition import DCTColumnSelection


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def left(select, X):
    return np.square(X - select.inverse_transform(select.transform(X))).sum()


def test_no_other_frequencies_leave_less():
    X, r = normal(6, 8), 3
    select = DCTColumnSelection(r).fit(X)
    S = scipy.fft.dct(X, axis=1, norm="ortho")
    least = min(
        np.delete(S, subset, axis=1).ravel() @ np.delete(S, subset, axis=1).ravel()
        for subset in itertools.combinations(range(8), r)
    )
    assert left(select, X) == pytest.approx(least, rel=1e-12)
    assert left(select, X) <= (1 - r / 8) * np.square(X).sum()
    assert 1 - select.energy_ratio_.sum() == pytest.approx(least / np.square(X).sum(), rel=1e-12)


def test_components_are_orthonormal_cosines_and_transform_is_their_product():
    X = normal(5, 12)
    select = DCTColumnSelection(4).fit(X)
    C = select.components_
    np.testing.assert_allclose(C @ C.T, np.eye(4), atol=1e-13)
    np.testing.assert_allclose(select.transform(X), X @ C.T, atol=1e-13)
    j = np.arange(12)
    for row, k in zip(C, select.frequencies_):
        wanted = np.sqrt((2 if k else 1) / 12) * np.cos(np.pi * (2 * j + 1) * k / 24)
        np.testing.assert_allclose(row, wanted, atol=1e-13)


def test_all_components_are_a_rotation():
    X = normal(5, 7)
    select = DCTColumnSelection().fit(X)
    np.testing.assert_allclose(select.inverse_transform(select.transform(X)), X, atol=1e-13)
    assert select.energy_ratio_.sum() == pytest.approx(1)


@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1.0, 1e6, 1e160])
def test_units_change_no_choice(unit):
    X = normal(9, 10) * np.linspace(3, 0.1, 10)
    wanted = DCTColumnSelection(0.9).fit(X)
    found = DCTColumnSelection(0.9).fit(X * unit)
    np.testing.assert_array_equal(found.frequencies_, wanted.frequencies_)
    np.testing.assert_allclose(found.energy_ratio_, wanted.energy_ratio_, rtol=1e-9)
    np.testing.assert_allclose(found.scores_, unit * wanted.scores_, rtol=1e-9)


def test_shares_are_reached_by_as_few_as_do():
    X = normal(30, 20) * np.linspace(5, 0.1, 20)
    for norm in ("l2", "l1"):
        for share in (1e-9, 0.5, 0.9, 0.999):
            select = DCTColumnSelection(share, norm=norm).fit(X)
            measure = select.scores_**2 if norm == "l2" else select.scores_
            held = np.sort(measure)[::-1].cumsum() / measure.sum()
            r = select.n_components_
            assert held[r - 1] >= share - 1e-12 and (r == 1 or held[r - 2] < share)
    assert DCTColumnSelection(0.9).fit(np.zeros((3, 4))).frequencies_.tolist() == [0]


def test_pca_leaves_less_of_what_it_is_fitted_on_and_cosines_less_where_samples_are_few():
    """Smooth rows: ten samples are too few for PCA's directions, and enough for frequencies."""
    t = (np.arange(64) + 0.5) / 64
    waves = np.cos(np.pi * np.outer(np.arange(1, 9), t))
    rng = np.random.default_rng(0)
    few, many = (rng.normal(size=(n, 8)) @ waves + 0.1 * rng.normal(size=(n, 64)) for n in (6, 200))
    select = DCTColumnSelection(8).fit(few)
    pca = PCA(6).fit(few)
    assert np.square(few - pca.inverse_transform(pca.transform(few))).sum() < left(select, few)
    assert (
        left(select, many)
        < 0.2 * np.square(many - pca.inverse_transform(pca.transform(many))).sum()
    )


def test_it_keeps_precision_and_names():
    X = load_digits().data[:50]
    select = DCTColumnSelection(5).fit(X.astype(np.float32))
    assert select.transform(X.astype(np.float32)).dtype == np.float32
    assert select.transform(X).dtype == np.float64
    assert select.get_feature_names_out()[0] == "dctcolumnselection0"


@pytest.mark.parametrize(
    "n_components, message",
    [
        (0, "n_components"),
        (1.0, "n_components"),
        (9, "n_components=9 must be at most the number of features, 8"),
    ],
)
def test_wrong_numbers_are_refused(n_components, message):
    with pytest.raises(ValueError, match=message):
        DCTColumnSelection(n_components).fit(normal(5, 8))


def test_rows_of_another_width_are_refused():
    select = DCTColumnSelection(3).fit(normal(5, 8))
    with pytest.raises(ValueError, match="X has 4 columns, and there are 3 components"):
        select.inverse_transform(normal(2, 4))
