"""Coding rate and rate reduction: closed forms, and what the theory says of their extremes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklr.metrics import coding_rate, rate_reduction
from sklr.metrics._coding_rate import coding_length


def unit_rows(n, d, seed=0):
    Z = np.random.default_rng(seed).standard_normal((n, d))
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (1, 5), (5, 1)])
@pytest.mark.parametrize("eps", [0.01, 0.5])
def test_coding_rate_by_singular_values(shape, eps):
    Z = np.random.default_rng(1).standard_normal(shape)
    n, d = shape
    sigma = np.linalg.svd(Z, compute_uv=False)
    wanted = 0.5 * np.log1p(d * sigma**2 / (n * eps)).sum()
    assert_allclose(coding_rate(Z, eps), wanted, rtol=1e-12)
    # Both Gram matrices say the same.
    other = 0.5 * np.linalg.slogdet(np.eye(n) + d / (n * eps) * Z @ Z.T)[1]
    assert_allclose(coding_rate(Z, eps), other, rtol=1e-12)


def test_rotations_and_order_of_samples_change_nothing():
    Z = unit_rows(30, 5)
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((5, 5)))[0]
    labels = np.arange(30) % 3
    order = np.random.default_rng(3).permutation(30)
    assert_allclose(coding_rate(Z @ Q), coding_rate(Z), rtol=1e-12)
    assert_allclose(rate_reduction(Z @ Q, labels), rate_reduction(Z, labels), rtol=1e-12)
    assert_allclose(rate_reduction(Z[order], labels[order]), rate_reduction(Z, labels), rtol=1e-12)


def test_labels_and_one_hot_memberships_give_the_formula_of_mcr2():
    Z, eps = unit_rows(24, 4), 0.2
    labels = np.repeat([0, 1, 2], [4, 8, 12])
    n, d = Z.shape
    compressed = 0.0
    for k, m in enumerate([4, 8, 12]):
        G = Z[labels == k].T @ Z[labels == k]
        compressed += m / (2 * n) * np.linalg.slogdet(np.eye(d) + d / (m * eps) * G)[1]
    wanted = coding_rate(Z, eps) - compressed
    assert_allclose(rate_reduction(Z, labels, eps), wanted, rtol=1e-12)
    assert_allclose(rate_reduction(Z, labels.astype(str), eps), wanted, rtol=1e-12)
    assert_allclose(rate_reduction(Z, np.eye(3)[labels], eps), wanted, rtol=1e-12)
    assert_allclose(rate_reduction(Z, np.eye(5)[labels], eps), wanted, rtol=1e-12)  # empty parts


def test_a_membership_that_says_nothing_saves_nothing():
    Z = unit_rows(20, 6)
    for parts in (1, 3, 20):
        assert_allclose(rate_reduction(Z, np.full((20, parts), 1 / parts)), 0.0, atol=1e-12)


def test_not_negative_for_any_membership():
    rng = np.random.default_rng(4)
    for _ in range(20):
        Z = rng.standard_normal((15, 4))
        shares = rng.dirichlet(np.full(5, 0.3), size=15)
        assert rate_reduction(Z, shares) > -1e-12
        assert rate_reduction(Z, rng.integers(4, size=15)) > -1e-12


def test_orthogonal_subspaces_maximise_the_reduction():
    """Two planes of equal energy: the reduction falls as the angle between them closes."""
    rng = np.random.default_rng(5)
    coefficients = unit_rows(40, 2, seed=5)
    labels = np.arange(40) % 2
    values = []
    for angle in np.linspace(0, np.pi / 2, 7):
        second = np.zeros((2, 4))
        second[:, :2], second[:, 2:] = np.cos(angle) * np.eye(2), np.sin(angle) * np.eye(2)
        Z = np.where(labels[:, None] == 0, coefficients @ np.eye(4)[:2], coefficients @ second)
        assert_allclose(np.linalg.norm(Z, axis=1), 1)
        values.append(rate_reduction(Z, labels))
    assert np.all(np.diff(values) > 0)
    mixed = np.where(rng.random(40) < 0.3, 1 - labels, labels)
    assert rate_reduction(Z, mixed) < values[-1]


def test_coding_length_prefers_the_true_partition():
    labels = np.repeat(np.arange(3), 20)
    Z = np.zeros((60, 6))
    for k in range(3):
        Z[labels == k, 2 * k : 2 * k + 2] = unit_rows(20, 2, seed=k)
    best = coding_length(Z, labels, 0.1)
    assert best < coding_length(Z, np.zeros(60, dtype=int), 0.1)
    assert best < coding_length(Z, labels * 2 + np.arange(60) % 2, 0.1)
    assert best < coding_length(Z, np.minimum(labels, 1), 0.1)


def test_float32_and_lists_and_input_unchanged():
    Z = unit_rows(12, 3)
    before = Z.copy()
    assert_allclose(coding_rate(Z.astype(np.float32)), coding_rate(Z), rtol=1e-6)
    assert_allclose(coding_rate(Z.tolist()), coding_rate(Z), rtol=1e-15)
    rate_reduction(Z, np.arange(12) % 2)
    assert np.array_equal(Z, before)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: coding_rate(np.ones((3, 2)), 0), "eps must be a finite number above 0, got 0"),
        (lambda: coding_rate(np.ones((3, 2)), np.nan), "eps must be"),
        (lambda: coding_rate([[1.0, np.nan]]), "Z contains NaN"),
        (lambda: rate_reduction(np.ones((3, 2)), [0, 1]), "each of the 3 samples"),
        (lambda: rate_reduction(np.ones((2, 2)), [[2.0, -1.0], [0, 1]]), "not be negative"),
        (lambda: rate_reduction(np.ones((2, 2)), [[0.5, 0.5], [0, 0.9]]), "row 1 sums to 0.9"),
        (lambda: rate_reduction(np.ones((2, 2)), 1), "got shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
