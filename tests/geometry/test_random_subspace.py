"""Random subspaces: transposes, norms, the Walsh-Hadamard transform, refusals."""

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from sklr.geometry import RandomSubspace

KINDS = ("dense", "sparse", "fastfood")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("D, d", [(1000, 60), (37, 37), (64, 5), (1, 1)])
@pytest.mark.parametrize("dtype, tol", [("float64", 1e-12), ("float32", 1e-4)])
def test_adjoint_is_the_transpose(kind, D, d, dtype, tol):
    subspace = RandomSubspace(D, d, projection=kind, dtype=dtype, random_state=0)
    P = subspace.to_dense()
    rng = np.random.default_rng(0)
    z, g = rng.standard_normal(d), rng.standard_normal(D)
    assert P.shape == subspace.shape == (D, d) and P.dtype == subspace.forward(z).dtype == dtype
    assert_allclose(subspace.forward(z), P @ z, atol=tol)
    assert_allclose(subspace.adjoint(g), P.T @ g, atol=tol * 10)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_have_norm_one_and_are_nearly_orthogonal(kind):
    P = RandomSubspace(4000, 40, projection=kind, random_state=0).to_dense()
    norms = np.linalg.norm(P, axis=0)
    assert_allclose(norms, 1, atol=0.05 if kind == "fastfood" else 1e-12)
    cosines = P.T @ P / np.outer(norms, norms) - np.eye(40)
    assert np.abs(cosines).max() < 5 / 4000**0.5


def test_orthonormal_columns():
    P = RandomSubspace(50, 50, orthonormal=True, random_state=0).to_dense()
    assert_allclose(P.T @ P, np.eye(50), atol=1e-12)
    with pytest.raises(ValueError, match="is for projection='dense'"):
        RandomSubspace(50, 5, projection="sparse", orthonormal=True)


def test_no_column_of_a_sparse_map_is_empty():
    P = RandomSubspace(2, 2, projection="sparse", random_state=3).to_dense()
    assert (np.linalg.norm(P, axis=0) > 0).all()
    for seed in range(20):
        subspace = RandomSubspace(3, 3, projection="sparse", random_state=seed)
        assert np.linalg.norm(subspace.to_dense(), axis=0).min() > 0


@pytest.mark.parametrize("n", [1, 2, 4, 8, 32, 128])
def test_walsh_hadamard_transform(n):
    from sklr.geometry._random_subspace_kernels import hadamard

    X = np.random.default_rng(0).standard_normal((3, n))
    once = X.copy()
    hadamard(once)
    assert_allclose(once, X @ scipy.linalg.hadamard(n), atol=1e-12)
    hadamard(once)
    assert_allclose(once, n * X, atol=1e-11)


def test_seeds_decide_and_kinds_are_chosen_by_size():
    one, same, other = (RandomSubspace(30, 4, random_state=s).to_dense() for s in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert RandomSubspace(10**4, 100).projection == "dense"
    assert RandomSubspace(10**6, 100).projection == "sparse"
    big = RandomSubspace(10**6, 300_000)
    assert big.projection == "fastfood" and "fastfood" in repr(big)


def test_refusals():
    for args, message in (
        ({"n_features": 5, "n_components": 6}, "n_components=6 is more than n_features=5"),
        ({"n_features": 5, "n_components": 0}, "n_components must be a whole number"),
        ({"n_features": 5.0, "n_components": 2}, "n_features must be a whole number"),
        ({"n_features": 5, "n_components": 2, "projection": "srht"}, "projection must be one of"),
        ({"n_features": 5, "n_components": 2, "dtype": "int32"}, "dtype must be"),
    ):
        with pytest.raises(ValueError, match=message):
            RandomSubspace(**args)
    with pytest.raises(ValueError, match=r"a vector of 2 numbers is wanted, got shape \(3,\)"):
        RandomSubspace(5, 2).forward(np.ones(3))


def groups(D=1000, n=10):
    """Return the paper's toy problem as least squares: ten sums of a hundred parameters each."""
    A = np.kron(np.eye(n), np.ones(D // n))
    return A, np.arange(1.0, n + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_toy_problem_has_dimension_ten(kind):
    """Li et al.: ten conditions on a thousand parameters are met from ten dimensions on."""
    A, b = groups()
    for d, solved in ((8, False), (9, False), (10, True), (12, True)):
        P = RandomSubspace(1000, d, projection=kind, random_state=0).to_dense()
        left = b - A @ P @ np.linalg.lstsq(A @ P, b, rcond=None)[0]
        assert (np.exp(-(left @ left)) > 0.999) == solved
