"""Diffusion spectral entropy: closed forms, invariances, published numbers, noise, solvers."""

import ctypes
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from sklr.manifold import DiffusionSpectralEntropy
from sklr.metrics import (
    _kernel_spectrum,
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    shannon_binned_entropy,
)
from sklr.metrics._kernel_spectrum import exact_eigenvalues, lanczos_nodes


def by_hand(X, bandwidth, t=1, anisotropy=0.0):
    """The formulas, in six lines."""
    G = np.exp(-((X[:, None] - X) ** 2).sum(axis=2) / (2 * bandwidth**2))
    q = G.sum(axis=1) ** anisotropy
    G = G / q[:, None] / q
    values = np.linalg.eigvals(G / G.sum(axis=1, keepdims=True)).real
    a = np.abs(values) ** t / (np.abs(values) ** t).sum()
    return -(a[a > 0] * np.log2(a[a > 0])).sum(), np.sort(values)[::-1]


def gaussian(n, d, noise=0.0, seed=0):
    """N(0, 25 I_d) among 64 coordinates, with noise on all of them."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, 64))
    X[:, :d] = 5 * rng.standard_normal((n, d))
    return X + noise * rng.standard_normal(X.shape)


@pytest.mark.parametrize("anisotropy", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [1, 2.5])
def test_equals_the_walk_of_the_formulas(anisotropy, t):
    X = np.random.default_rng(0).standard_normal((60, 3))
    wanted, values = by_hand(X, 0.7, t, anisotropy)
    found, eigenvalues = diffusion_spectral_entropy(
        X, bandwidth=0.7, t=t, anisotropy=anisotropy, return_eigenvalues=True
    )
    assert_allclose(found, wanted, rtol=1e-10)
    assert_allclose(eigenvalues, values, atol=1e-13)


def test_anisotropy_changes_the_walk():
    """What the paper writes is not what its code computes."""
    X = np.random.default_rng(0).uniform(size=(300, 64))
    one, half = (diffusion_spectral_entropy(X, bandwidth=1.0, anisotropy=a) for a in (0.0, 0.5))
    assert 1e-3 < abs(one - half) < 0.1


@pytest.mark.parametrize(
    "bandwidth, t, wanted", [(1.0, 1, 8.605783), (1.0, 2, 8.465859), (10.0, 1, 0.615988)]
)
@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_numbers_of_the_published_code(bandwidth, t, wanted, solver):
    X = np.random.RandomState(0).uniform(0, 1, (400, 64))
    found = diffusion_spectral_entropy(X, bandwidth=bandwidth, t=t, solver=solver, random_state=0)
    # Six digits are known; the stochastic solver has its standard error, under 1e-4 here.
    assert_allclose(found, wanted, atol=1e-3 if solver == "lanczos" else 1e-6)


def test_bounds_at_the_ends_of_the_bandwidth():
    X = np.random.default_rng(0).standard_normal((300, 5))
    assert_allclose(diffusion_spectral_entropy(X, bandwidth=1e-4), np.log2(300), rtol=1e-12)
    assert diffusion_spectral_entropy(X, bandwidth=1e6) < 1e-9
    for bandwidth in (0.3, 1.0, 3.0, "median"):
        assert 0 <= diffusion_spectral_entropy(X, bandwidth=bandwidth) <= np.log2(300)


@pytest.mark.parametrize("t", [1, 2, 7])
@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_tight_clusters_give_the_logarithm_of_their_number(t, solver):
    X = np.repeat(10 * np.eye(5), 40, axis=0)
    found = diffusion_spectral_entropy(X, bandwidth=0.5, t=t, solver=solver, random_state=0)
    assert_allclose(found, np.log2(5), atol=1e-9)


def test_never_rises_with_t_and_ends_at_the_components():
    X = np.random.default_rng(0).standard_normal((150, 4))
    apart = np.concatenate([X, X + 1e3, X - 1e3])
    values = [diffusion_spectral_entropy(X, bandwidth=1.0, t=t) for t in (0.5, 1, 2, 4, 8, 500)]
    assert (np.diff(values) <= 0).all()
    assert values[-1] < 1e-6
    assert_allclose(diffusion_spectral_entropy(apart, bandwidth=1.0, t=2000), np.log2(3), atol=1e-6)


def test_rotation_translation_order_and_units_do_not_matter():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 6))
    wanted = diffusion_spectral_entropy(X, bandwidth=1.3)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    moved = 50 * (X @ turn + rng.standard_normal(6))[rng.permutation(200)]
    assert_allclose(diffusion_spectral_entropy(moved, bandwidth=65.0), wanted, rtol=1e-9)
    median = diffusion_spectral_entropy(X)
    assert_allclose(diffusion_spectral_entropy(moved), median, rtol=1e-9)
    far = 1e6 + X
    assert_allclose(diffusion_spectral_entropy(far, bandwidth=1.3), wanted, rtol=1e-7)
    labels = X[:, 0] > 0
    information = diffusion_spectral_mutual_information(X, labels, random_state=0)
    found = diffusion_spectral_mutual_information(far, labels, random_state=0)
    assert_allclose(found, information, atol=1e-7)


@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_any_unit_of_length_gives_the_same(solver):
    X = np.random.default_rng(0).standard_normal((60, 3))
    kw = {"solver": solver, "random_state": 0}
    wanted = diffusion_spectral_entropy(X, **kw)
    of_sparse = diffusion_spectral_entropy(sp.csr_array(X), **kw)
    for unit in 2.0 ** np.array([-990, -530, -66, 66, 460]):
        assert_allclose(diffusion_spectral_entropy(unit * X, **kw), wanted, rtol=1e-9)
        sparse = sp.csr_array(unit * X)
        assert_allclose(diffusion_spectral_entropy(sparse, **kw), of_sparse, rtol=1e-9)
    alone = diffusion_spectral_entropy(X, bandwidth=1e-300, **kw)
    assert_allclose(alone, np.log2(60), rtol=1e-9)
    assert_allclose(diffusion_spectral_entropy(X, bandwidth=1e300, **kw), 0, atol=1e-9)
    assert str(diffusion_spectral_entropy(np.ones((9, 2)), **kw)) == "0.0"
    fitted = DiffusionSpectralEntropy(**kw).fit(2.0**-700 * X)
    assert_allclose(fitted.bandwidth_, 2.0**-700 * DiffusionSpectralEntropy().fit(X).bandwidth_)
    assert_allclose(fitted.score(2.0**-700 * X), wanted, rtol=1e-9)


@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_points_far_apart_stand_alone(solver):
    X = 1e100 * np.random.default_rng(0).standard_normal((50, 3))
    found = diffusion_spectral_entropy(X, bandwidth=1.0, solver=solver, random_state=0)
    assert_allclose(found, np.log2(50), rtol=1e-9)


@pytest.mark.parametrize(
    "t, wanted",
    [
        (1, {1: 0.92, 2: 1.83, 4: 3.55, 8: 6.20, 16: 8.38, 32: 8.91}),
        (2, {1: 0.26, 2: 0.52, 4: 1.08, 8: 2.15, 16: 6.63, 32: 8.77}),
    ],
)
def test_rises_with_the_intrinsic_dimension(t, wanted):
    found = [diffusion_spectral_entropy(gaussian(500, d), bandwidth=10.0, t=t) for d in wanted]
    assert (np.diff(found) > 0).all()
    # The sheet's numbers are of other draws of the same distribution.
    assert_allclose(found, list(wanted.values()), atol=0.15)


@pytest.mark.parametrize("d", [1, 2, 4, 8])
def test_noise_changes_it_less_than_binned_entropy(d):
    """Noise of variance .25 on all 64 coordinates: the claim of the paper, for t = 2."""
    clean, noisy = gaussian(500, d), gaussian(500, d, noise=0.5)
    change = {
        t: abs(
            diffusion_spectral_entropy(noisy, bandwidth=10.0, t=t)
            - diffusion_spectral_entropy(clean, bandwidth=10.0, t=t)
        )
        for t in (1, 2)
    }
    binned = abs(shannon_binned_entropy(noisy) - shannon_binned_entropy(clean))
    assert change[2] < 0.2
    assert change[2] < change[1] < binned
    assert change[2] < 0.15 * binned


@pytest.mark.parametrize("t", [1, 2, 3])
@pytest.mark.parametrize("bandwidth", ["median", 1.0])
def test_lanczos_is_within_two_hundredths_and_knows_its_error(t, bandwidth):
    from sklr.manifold import DiffusionSpectralEntropy

    X = np.random.default_rng(1).standard_normal((800, 10))
    wanted = diffusion_spectral_entropy(X, bandwidth=bandwidth, t=t)
    errors, said = [], []
    for seed in range(4):
        dse = DiffusionSpectralEntropy(bandwidth, t, solver="lanczos", random_state=seed).fit(X)
        errors.append(dse.entropy_ - wanted)
        said.append(dse.standard_error_)
    assert np.abs(errors).max() < 0.02
    assert np.sqrt(np.mean(np.square(errors))) < 4 * np.mean(said)


def test_landmarks_find_a_spectrum_that_falls_fast_without_the_matrix():
    X = np.random.default_rng(0).standard_normal((1500, 2))
    wanted, values = diffusion_spectral_entropy(X, bandwidth=0.7, return_eigenvalues=True)
    found, some = diffusion_spectral_entropy(
        X, bandwidth=0.7, solver="landmark", n_landmarks=400, random_state=0,
        return_eigenvalues=True,
    )  # fmt: skip
    assert len(some) < 400
    assert_allclose(found, wanted, atol=1e-5)
    assert_allclose(some[:20], values[:20], atol=1e-8)


def test_landmarks_that_are_too_few_say_so():
    X = np.random.default_rng(0).standard_normal((300, 10))
    with pytest.warns(ConvergenceWarning, match="20 landmarks leave .* n_landmarks=20"):
        diffusion_spectral_entropy(X, bandwidth=0.5, solver="landmark", n_landmarks=20)


@pytest.mark.parametrize("dim, low", [(2, True), (12, False)])
def test_exact_spectrum_with_and_without_the_low_rank_way(dim, low):
    X = np.random.default_rng(0).standard_normal((900, dim))
    G = np.exp(-((X[:, None] - X) ** 2).sum(axis=2) / 2)
    d = G.sum(axis=1) ** -0.5
    K = G * d[:, None] * d
    wanted = np.linalg.eigvalsh(K)[::-1]
    found = exact_eigenvalues(K.copy())
    assert (np.count_nonzero(found) < 450) == low
    assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("found", [True, False])
def test_exact_spectrum_with_and_without_the_reduction_in_two_steps(found, monkeypatch):
    if not found:
        monkeypatch.setattr(_kernel_spectrum, "_two_step_routine", lambda: None)
    elif _kernel_spectrum._two_step_routine() is None:
        pytest.skip("SciPy's LAPACK has no dsytrd_2stage that can be found here")
    n = 1300
    A = np.random.default_rng(0).standard_normal((n, 8))
    K = np.exp(-np.square(A[:, None] - A).sum(axis=2)) / 20
    wanted = np.linalg.eigvalsh(K)[::-1]
    assert_allclose(exact_eigenvalues(K), wanted, atol=1e-14)


def test_reduction_in_two_steps_that_fails_is_an_error(monkeypatch):
    """The matrix may be overwritten by then: the usual routine would reduce what is left of it."""

    def routine(*args):
        hous, n_hous, work, _, info = args[8:13]
        for size in (hous, work):
            ctypes.cast(size, ctypes.POINTER(ctypes.c_double))[0] = 4.0
        info._obj.value = 0 if n_hous._obj.value == -1 else 1

    monkeypatch.setattr(_kernel_spectrum, "_two_step_routine", lambda: routine)
    with pytest.raises(np.linalg.LinAlgError, match="dsytrd_2stage .* info=1"):
        _kernel_spectrum._eigenvalues_in_place(np.eye(1200))


def test_exact_spectrum_of_few_points():
    for n in (2, 3, 17):
        A = np.random.default_rng(n).random((n, n))
        K = (A + A.T) / 2
        assert_allclose(exact_eigenvalues(K.copy()), np.linalg.eigvalsh(K)[::-1], atol=1e-14)


def test_quadrature_integrates_polynomials_exactly():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 40))
    A = (A + A.T) / 20
    starts = rng.standard_normal((3, 40))
    nodes, weights = lanczos_nodes(A, starts, 6)
    for power in range(2 * 6):
        wanted = [v @ np.linalg.matrix_power(A, power) @ v for v in starts]
        assert_allclose((weights * nodes**power).sum(axis=1), wanted, rtol=1e-8)


def test_neighbours_make_a_sparse_kernel_for_all_solvers_that_take_it():
    X, _ = make_blobs(300, centers=6, cluster_std=0.1, random_state=0)
    exact = diffusion_spectral_entropy(X, bandwidth=1.0, n_neighbors=20, t=4)
    found = diffusion_spectral_entropy(
        X, bandwidth=1.0, n_neighbors=20, t=4, solver="lanczos", random_state=0
    )
    assert_allclose(found, exact, atol=0.05)  # stochastic: a few standard errors
    with pytest.raises(ValueError, match="n_neighbors=20"):
        diffusion_spectral_entropy(X, n_neighbors=20, solver="landmark")


@pytest.mark.parametrize("container", [sp.csr_array, sp.csr_matrix, sp.coo_array])
@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_sparse_input(container, solver):
    X = np.random.default_rng(0).poisson(0.3, (120, 30)).astype(float)
    kw = {"solver": solver, "random_state": 0}
    assert_allclose(
        diffusion_spectral_entropy(container(X), **kw), diffusion_spectral_entropy(X, **kw)
    )


def test_more_rows_than_wanted_are_drawn():
    X = np.random.default_rng(0).standard_normal((400, 3))
    found = diffusion_spectral_entropy(X, bandwidth=1e-5, max_samples=100, random_state=0)
    assert_allclose(found, np.log2(100))
    assert_allclose(diffusion_spectral_entropy(X, bandwidth=1e-5, max_samples=None), np.log2(400))


def test_base_is_the_unit():
    X = np.random.default_rng(0).standard_normal((80, 3))
    bits, nats = (diffusion_spectral_entropy(X, base=base) for base in (2, np.e))
    assert_allclose(nats, bits * np.log(2))


def test_information_of_tight_clusters_is_the_logarithm_of_their_number():
    y = np.repeat(np.arange(5), 60)
    X = np.repeat(10 * np.eye(5), 60, axis=0)
    found = diffusion_spectral_mutual_information(X, y, bandwidth=0.5, n_repeats=20, random_state=0)
    # Random subsets of 60 hold the clusters in unequal parts, which tight clusters do not see.
    assert_allclose(found, np.log2(5), atol=1e-6)
    names = np.array(list("abcde"))[y]
    assert found == diffusion_spectral_mutual_information(
        X, names, bandwidth=0.5, n_repeats=20, random_state=0
    )


def test_information_of_shuffled_labels_is_nothing():
    rng = np.random.default_rng(0)
    X, y = make_blobs(1000, centers=5, n_features=10, random_state=0)
    kw = {"n_repeats": 10, "random_state": 0}
    true = diffusion_spectral_mutual_information(X, y, **kw)
    shuffled = diffusion_spectral_mutual_information(X, rng.permutation(y), **kw)
    assert true > 1.0
    assert abs(shuffled) < 1e-2


def test_information_falls_as_labels_are_corrupted():
    rng = np.random.default_rng(0)
    X, y = make_blobs(600, centers=6, n_features=5, random_state=0)
    values = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        wrong = y.copy()
        hit = rng.permutation(600)[: int(600 * share)]
        wrong[hit] = rng.permutation(y[hit])
        values.append(diffusion_spectral_mutual_information(X, wrong, random_state=0))
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_information_on_a_continuous_target_and_on_other_data(solver):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    kw = {"random_state": 0, "bandwidth": 0.3, "solver": solver, "n_landmarks": 60}
    kw["n_repeats"] = 2
    one = diffusion_spectral_mutual_information(X, angle, **kw)
    none = diffusion_spectral_mutual_information(X, rng.permutation(angle), **kw)
    many = diffusion_spectral_mutual_information(X, 3 * X + 1, n_clusters=6, **kw)
    assert one > 1.0 and many > 1.0
    assert abs(none) < 0.1
    again = diffusion_spectral_mutual_information(X, angle, **kw)
    assert one == again


def test_float_labels_that_are_whole_are_labels():
    X, y = make_blobs(200, centers=3, random_state=0)
    one = diffusion_spectral_mutual_information(X, y, random_state=0)
    assert one == diffusion_spectral_mutual_information(X, y.astype(float), random_state=0)
    binned = diffusion_spectral_mutual_information(
        X, y.astype(float), y_discrete=False, n_clusters=3, random_state=0
    )
    assert_allclose(binned, one)


def test_lone_samples_are_left_out_and_told():
    X, y = make_blobs(100, centers=3, random_state=0)
    y[0] = 9
    with pytest.warns(UserWarning, match="1 of 4 groups"):
        found = diffusion_spectral_mutual_information(X, y, random_state=0)
    rest = diffusion_spectral_mutual_information(X[1:], y[1:], random_state=0)
    assert_allclose(found, rest)


def test_binned_entropy():
    assert shannon_binned_entropy(np.zeros((7, 2))) == 0
    assert_allclose(shannon_binned_entropy(np.arange(8.0)[:, None], n_bins=8), 3.0)
    X = np.random.default_rng(0).standard_normal((256, 60))
    assert_allclose(shannon_binned_entropy(X), 8.0)  # every point alone


def test_nothing_but_duplicates_or_constants():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for solver in ("exact", "lanczos", "landmark"):
            found = diffusion_spectral_entropy(np.ones((30, 3)), solver=solver, random_state=0)
            assert abs(found) < 1e-9
    assert_allclose(
        diffusion_spectral_entropy([[0.0], [1.0]], bandwidth=1e-3), 1.0
    )  # two samples are enough


def test_global_generators_are_left_alone():
    before = np.random.get_state()[1].copy()
    X, y = make_blobs(60, centers=3, random_state=0)
    diffusion_spectral_mutual_information(X, y, max_samples=50, solver="lanczos", random_state=0)
    assert (np.random.get_state()[1] == before).all()


class Tensor:
    """What a torch tensor on the CPU looks like to NumPy."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)


def test_what_becomes_an_array_is_taken():
    X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    assert diffusion_spectral_entropy(Tensor(X)) == diffusion_spectral_entropy(X)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": "mean"}, "bandwidth"),
        ({"t": 0}, "'t' parameter"),
        ({"anisotropy": 1.5}, "anisotropy"),
        ({"solver": "slq"}, "solver"),
        ({"n_landmarks": 0}, "n_landmarks"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"base": 1}, "base"),
        ({"solver": "lanczos", "return_eigenvalues": True}, "return_eigenvalues"),
    ],
)
def test_bad_parameters_are_refused_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        diffusion_spectral_entropy(np.random.default_rng(0).standard_normal((20, 2)), **change)


def test_more_neighbours_than_there_are_others_are_all_of_them():
    X = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.warns(UserWarning, match="n_neighbors=20"):
        value = diffusion_spectral_entropy(X, n_neighbors=20)
    assert value == diffusion_spectral_entropy(X, n_neighbors=19)


@pytest.mark.parametrize(
    "X, message",
    [
        (np.ones((5, 2, 2, 2)), "Flatten activations"),
        (np.ones((1, 2)), "1 sample"),
        (np.array([[0.0], [np.nan]]), "NaN"),
        (np.array([[1e200], [-1e200], [0.0]]), "too large.*1e\\+200. Scale it"),
        (np.array([[1.7e308], [1.7e308], [0.0]]), "too large.*1.7e\\+308. Scale it"),
        (np.ones(5), "1D array"),
    ],
)
def test_bad_points_are_refused_in_words(X, message):
    with pytest.raises(ValueError, match=message):
        diffusion_spectral_entropy(X)


@pytest.mark.parametrize(
    "y, kw, message",
    [
        (np.zeros(20), {}, "single class"),
        (np.arange(20), {}, "20 groups, of which 0"),
        (np.full(20, 0.5), {"y_discrete": False}, "single class"),
        (np.zeros(19), {}, "inconsistent numbers of samples"),
        (np.where(np.arange(20) > 3, np.nan, 0.5), {}, "y contains NaN"),
        (np.zeros((20, 2, 2)), {}, "one or two dimensions"),
        (np.arange(40.0).reshape(20, 2), {"n_clusters": 20}, "n_clusters=20 must be smaller"),
    ],
)
def test_bad_targets_are_refused_in_words(y, kw, message):
    X = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.raises(ValueError, match=message):
        diffusion_spectral_mutual_information(X, y, **kw)


@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
@pytest.mark.parametrize("t", [0.01, 0.1, 0.5])
def test_what_rounding_makes_of_zero_eigenvalues_does_not_count_at_small_times(t, solver):
    X = np.repeat(10 * np.eye(5), 20, axis=0)
    found = diffusion_spectral_entropy(X, bandwidth=1.0, t=t, solver=solver, random_state=0)
    assert_allclose(found, np.log2(5), atol=1e-9)
