"""Mixture of low-rank Gaussians: the sheet's properties, the paper's claims, bad input."""

import warnings
from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.cluster import DiffusionSubspaceClustering
from sklr.cluster._low_rank_mixture import LowRankMixture
from sklr.cluster._subspace_init import shape_interaction_labels
from sklr.cluster._subspace_rows import distinct
from sklr.cluster._subspace_volume import determinant_ratios, smallest_volume
from sklr.cluster._subspaces import (
    denoising_gradient,
    k_subspaces,
    leading_eigenvectors,
    leading_rows,
)
from sklr.datasets import make_molrg


def projectors(bases):
    return [basis.T @ basis for basis in bases]


def basis_error(model, bases):
    """Largest distance of a true projector to the nearest that was found."""
    found = projectors(model.components_)
    return max(min(np.linalg.norm(P - b.T @ b) for P in found) for b in bases)


@pytest.fixture(scope="module")
def noisy():
    X, y, bases = make_molrg(120, 12, 3, 2, noise=0.15, random_state=0, return_bases=True)
    model = DiffusionSubspaceClustering(3, 2, spectrum="unit", random_state=0).fit(X)
    return X, y, bases, model


# What the paper claims.


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("n_clusters, dim", [(2, 7), (3, 6)])
def test_phase_transition_at_as_many_samples_as_dimensions(n_clusters, dim, orthogonal):
    """Orthogonal subspaces are found from N_k = d on, in all seeds, and never below."""
    recovered = {}
    for n_each in (dim - 1, dim, dim + 1):
        recovered[n_each] = 0
        for seed in range(8):
            X, _, bases = make_molrg(
                [n_each] * n_clusters, 48, n_clusters, dim, random_state=seed, return_bases=True
            )
            model = DiffusionSubspaceClustering(
                n_clusters, dim, orthogonal=orthogonal, random_state=seed
            ).fit(X)
            recovered[n_each] += basis_error(model, bases) < 1e-6
            if n_each >= dim:
                assert_allclose(model.objective_, (X**2).sum(), rtol=1e-10)
    assert recovered == {dim - 1: 0, dim: 8, dim + 1: 8}


def test_gaussian_mixture_fails_where_subspaces_are_found():
    """At N_k = d a full covariance has far too few samples."""
    good = 0
    for seed in range(8):
        X, y = make_molrg(14, 48, 2, 7, random_state=seed)
        peer = GaussianMixture(2, random_state=seed, reg_covar=1e-6).fit(X)
        good += adjusted_rand_score(y, peer.predict(X)) == 1.0
    assert good <= 1


@pytest.mark.parametrize("n_clusters, dim", [(2, 7), (3, 6)])
@pytest.mark.parametrize("more", [0, 1])
def test_independent_subspaces_are_found_too(n_clusters, dim, more):
    """At N_k = d every partition into groups of d fits: the likelihood tells them apart."""
    for seed in range(8):
        X, y, bases = make_molrg(
            [dim + more] * n_clusters, 48, n_clusters, dim, orthogonal=False, random_state=seed,
            return_bases=True,
        )  # fmt: skip
        model = DiffusionSubspaceClustering(n_clusters, dim, random_state=seed).fit(X)
        assert basis_error(model, bases) < 1e-6
        assert adjusted_rand_score(y, model.labels_) == 1.0


def test_exchanges_find_the_smallest_volume():
    """Beside all partitions into two groups of four; determinants follow from the inverses."""
    X = make_molrg([4, 4], 6, 2, 4, orthogonal=False, random_state=3)[0]
    Y = X / np.linalg.norm(X, axis=1, keepdims=True)
    gram = Y @ Y.T + 1e-10 * np.eye(8)

    def volume(rows):
        return np.linalg.slogdet(gram[np.ix_(rows, rows)])[1]

    best = min(
        volume(list(rows)) + volume([i for i in range(8) if i not in rows])
        for rows in combinations(range(8), 4)
    )
    labels = smallest_volume(
        X, np.arange(8) % 2, 2, n_random=10, rng=np.random.default_rng(0), max_iter=100
    )
    assert_allclose(sum(volume(np.flatnonzero(labels == k)) for k in range(2)), best, rtol=1e-8)
    ratios = determinant_ratios(np.linalg.inv(gram[:4, :4]), gram[:4, 4:], np.diag(gram)[4:])
    assert_allclose(np.log(ratios[1, 2]), volume([0, 6, 2, 3]) - volume([0, 1, 2, 3]), rtol=1e-6)


def test_equal_samples_stay_together_where_all_partitions_fit():
    X = np.repeat(np.random.default_rng(0).standard_normal((3, 8)), [2, 2, 2], axis=0)
    labels = DiffusionSubspaceClustering(3, 2, random_state=0).fit(X).labels_
    assert adjusted_rand_score([0, 0, 1, 1, 2, 2], labels) == 1.0


@pytest.mark.parametrize("noise, error, accuracy", [(0.1, 0.15, 1.0), (0.3, 0.5, 0.95)])
def test_noise_blurs_the_subspaces_gently(noise, error, accuracy):
    X, y, bases = make_molrg([60] * 3, 48, 3, 6, noise=noise, random_state=0, return_bases=True)
    model = DiffusionSubspaceClustering(3, 6, random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) >= accuracy - 0.05 * (noise > 0.2)
    # Squared distance of projectors over twice the dimension: measured .009 and .083.
    assert basis_error(model, bases) ** 2 / 12 < error
    assert_allclose(np.sqrt(model.noise_variance_), noise, rtol=0.1)


def test_denoising_loss_leads_to_the_same_subspaces():
    """Stochastic descent on the loss of the diffusion model ends where K-subspaces ends."""
    X, y, bases = make_molrg([40] * 2, 16, 2, 3, noise=0.02, random_state=1, return_bases=True)
    hard = DiffusionSubspaceClustering(2, 3, random_state=0).fit(X)
    sgd = clone(hard).set_params(solver="sgd", max_iter=200).fit(X)
    assert_array_equal(hard.labels_, sgd.labels_)
    # Both estimate from noisy samples; the loss also sees the noise that it adds itself.
    assert basis_error(sgd, list(hard.components_)) < 0.1
    joint = clone(sgd).set_params(orthogonal=True).fit(X)
    stacked = np.concatenate(joint.components_)
    assert_allclose(stacked @ stacked.T, np.eye(6), atol=1e-10)


def test_gradient_of_the_denoising_loss():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 6))
    sigma = rng.uniform(0.3, 1.0, 5)
    noisy = X + sigma[:, None] * rng.standard_normal(X.shape)
    bases = [np.linalg.qr(rng.standard_normal((6, 2)))[0].T for _ in range(3)]
    _, gradient = denoising_gradient(X, noisy, sigma, bases)
    for k in range(3):
        step = rng.standard_normal((2, 6))
        ahead = [b + 1e-6 * step if j == k else b for j, b in enumerate(bases)]
        behind = [b - 1e-6 * step if j == k else b for j, b in enumerate(bases)]
        slope = (
            denoising_gradient(X, noisy, sigma, ahead)[0]
            - denoising_gradient(X, noisy, sigma, behind)[0]
        ) / 2e-6
        assert_allclose((gradient[k] * step).sum(), slope, rtol=1e-6)


# What must hold.


def test_one_cluster_is_uncentred_pca():
    X = np.random.default_rng(0).standard_normal((60, 9)) * np.arange(1, 10)
    model = DiffusionSubspaceClustering(1, 3, random_state=0).fit(X)
    rows = np.linalg.svd(X)[2][:3]
    assert_allclose(projectors(model.components_)[0], rows.T @ rows, atol=1e-10)
    wide = np.random.default_rng(0).standard_normal((400, 150))
    wide[:, :3] *= 10.0
    model = DiffusionSubspaceClustering(1, 3, random_state=0, center=True).fit(wide)
    rows = np.linalg.svd(wide - wide.mean(axis=0))[2][:3]
    assert_allclose(projectors(model.components_)[0], rows.T @ rows, atol=1e-10)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("p", [10, 140])
def test_objective_does_not_fall(joint, p):
    X, _ = make_molrg(90, p, 3, 2, noise=0.4, random_state=0)
    labels = np.random.default_rng(0).permutation(np.arange(90) % 3)
    part = k_subspaces(X, labels, [2, 2, 2], joint=joint, penalty=0.0, max_iter=100, tol=0.0)
    assert part.converged and len(part.history) > 2
    assert (np.diff(part.history) >= -1e-9 * part.history[-1]).all()


@pytest.mark.parametrize("spectrum", ["unit", "full"])
@pytest.mark.parametrize("p, orthogonal", [(10, False), (10, True), (140, False)])
def test_likelihood_of_soft_fit_does_not_fall(spectrum, p, orthogonal):
    X, _ = make_molrg(150, p, 3, 2, noise=0.4, random_state=0)
    model = DiffusionSubspaceClustering(
        3, 2, soft=True, spectrum=spectrum, orthogonal=orthogonal, tol=1e-9, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tol is tiny on purpose
        model.fit(X)
    gains = np.diff(model.objective_history_)
    assert len(gains) > 2 and (gains >= -1e-9 * abs(model.objective_history_[-1])).all()
    assert_allclose(model.score(X), model.objective_history_[-1], atol=1e-4)


def test_rotation_turns_bases_and_scale_changes_likelihood_only(noisy):
    X, _, _, model = noisy
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    turned = clone(model).fit(X @ Q)
    assert_array_equal(turned.labels_, model.labels_)
    for P, R in zip(projectors(model.components_), projectors(turned.components_), strict=True):
        assert_allclose(Q.T @ P @ Q, R, atol=1e-8)
    scaled = clone(model).fit(7.0 * X)
    assert_array_equal(scaled.labels_, model.labels_)
    assert_allclose(np.abs(scaled.components_), np.abs(model.components_), atol=1e-8)
    assert_allclose(scaled.noise_variance_, 49 * model.noise_variance_, rtol=1e-8)


@pytest.mark.parametrize("spectrum", ["unit", "full"])
def test_densities_and_denoiser_equal_brute_force(spectrum):
    X, _ = make_molrg([30, 50], 6, 2, [1, 3], noise=0.3, random_state=0)
    model = DiffusionSubspaceClustering(
        2, [1, 3], spectrum=spectrum, center=True, random_state=0
    ).fit(X)
    sigma = 0.7
    covariances = [
        b.T @ (v[:, None] * b)
        for b, v in zip(model.components_, model.signal_variances_, strict=True)
    ]
    noisy = [C + sigma**2 * np.eye(6) for C in covariances]
    joint = np.stack(
        [w * multivariate_normal(model.mean_, S).pdf(X) for w, S in zip(model.weights_, noisy)], 1
    )
    assert_allclose(model.score_samples(X, sigma), np.log(joint.sum(axis=1)), rtol=1e-10)
    posterior = joint / joint.sum(axis=1, keepdims=True)
    assert_allclose(model.predict_proba(X, sigma), posterior, atol=1e-10)
    expected = model.mean_ + sum(
        posterior[:, k : k + 1] * ((X - model.mean_) @ np.linalg.solve(noisy[k], covariances[k]))
        for k in range(2)
    )
    assert_allclose(model.denoise(X, sigma), expected, atol=1e-10)
    assert_allclose(model.score(X), model.score_samples(X).mean(), rtol=1e-12)


def test_tweedie(noisy):
    """(denoised - x) / sigma^2 is the gradient of the log-density."""
    X, _, _, model = noisy
    x, h = X[:4], 1e-5
    gradient = np.stack(
        [
            (model.score_samples(x + h * e) - model.score_samples(x - h * e)) / (2 * h)
            for e in np.eye(12)
        ],
        axis=1,
    )
    got = (model.denoise(x) - x) / model.noise_variance_
    assert_allclose(got, gradient, rtol=1e-6, atol=1e-6 * np.abs(gradient).max())


def test_limits_of_the_denoiser(noisy):
    X, _, _, model = noisy
    P = np.array(projectors(model.components_))
    nearest = np.einsum("nij,nj->ni", P[model.predict(X)], X)
    assert_allclose(model.denoise(X, 0.0), nearest, atol=1e-8)
    assert_allclose(model.denoise(X, 1e-4), nearest, atol=1e-4)
    sigma = 1e4
    mean = np.einsum("k,kij->ij", model.weights_, P)
    assert_allclose(model.denoise(X, sigma) * (1 + sigma**2), X @ mean, atol=1e-5)
    each = np.linspace(0.1, 2.0, len(X))
    one_by_one = [model.denoise(x[None], s)[0] for x, s in zip(X, each, strict=True)]
    assert_allclose(model.denoise(X, each), one_by_one, atol=1e-12)


def test_jacobian_is_that_of_the_denoiser(noisy):
    X, _, _, model = noisy
    common, J = LowRankMixture(
        list(model.components_), model.signal_variances_, model.weights_
    ).jacobian(X[:3], 0.25)
    h = 1e-6
    numeric = np.stack(
        [(model.denoise(X[:3] + h * e, 0.5) - model.denoise(X[:3] - h * e, 0.5)) / (2 * h)
         for e in np.eye(12)], axis=2,
    )  # fmt: skip
    assert_allclose(common.T @ J @ common, numeric, atol=1e-7)
    directions, values = model.semantic_directions(X[:3], 0.5, n_directions=2)
    for i in range(3):
        U, S, _ = np.linalg.svd(numeric[i])
        assert_allclose(values[i], S[:2], atol=1e-6)
        assert_allclose(directions[i] @ directions[i].T, np.eye(2), atol=1e-10)


def test_jacobian_rank_is_low(noisy):
    """The dimension of one subspace where it is clear which, never above that of all."""
    X, _, _, model = noisy
    assert np.median(model.jacobian_rank(X, 0.1)) == 2
    for sigma in (0.1, 0.5, 2.0, 50.0):
        rank = model.jacobian_rank(X, sigma)
        assert rank.min() >= 1 and rank.max() <= 6
    assert (model.jacobian_rank(X, 1e3) == 6).all()
    with pytest.raises(ValueError, match="energy"):
        model.jacobian_rank(X, 0.1, energy=0.0)
    with pytest.raises(ValueError, match="n_directions"):
        model.semantic_directions(X, n_directions=7)


@pytest.mark.parametrize("method", ["exact", "diffusion"])
def test_samples_have_the_covariance_of_the_model(method, noisy):
    *_, model = noisy
    X, y = model.sample(20000, method=method)
    # Shares are known to four standard errors from 20000 draws.
    assert_allclose(np.bincount(y) / 20000, model.weights_, atol=0.014)
    for k, P in enumerate(projectors(model.components_)):
        mine = X[y == k]
        expected = P + model.noise_variance_ * np.eye(12)
        error = np.linalg.norm(mine.T @ mine / len(mine) - expected, 2)
        # Four standard errors of a variance from 6600 draws are 7 %.
        assert error < 0.07
        trace = (mine**2).sum() / len(mine)
        assert_allclose(trace, np.trace(expected), rtol=0.05)
    assert_array_equal(model.sample(9, method=method)[0], model.sample(9, method=method)[0])


def test_shape_interaction_start_does_not_need_the_matrix():
    """The operator that is never formed clusters as the formed matrix does."""
    X, y = make_molrg(450, 20, 3, 4, noise=0.01, random_state=0)
    labels = shape_interaction_labels(X, 12, 3, 0)
    assert adjusted_rand_score(y, labels) == 1.0
    assert adjusted_rand_score(y[:390], shape_interaction_labels(X[:390], 12, 3, 0)) == 1.0


def test_leading_rows_are_completed():
    x = np.random.default_rng(0).standard_normal((2, 8))
    for X in (x, x[:0], np.repeat(x, 9, axis=0)):
        rows = leading_rows(X, 5)
        assert_allclose(rows @ rows.T, np.eye(5), atol=1e-12)
        assert_allclose(X @ rows.T @ rows, X, atol=1e-12)
    tall = np.repeat(np.random.default_rng(1).standard_normal((2, 200)), 100, axis=0)
    rows = leading_rows(tall, 4)
    assert_allclose(rows @ rows.T, np.eye(4), atol=1e-10)
    assert_allclose(tall @ rows.T @ rows, tall, atol=1e-8)


# Choices.


@pytest.mark.parametrize("rule", [0.95, "gap", [2, 5]])
def test_dimensions_that_differ(rule):
    X, y, bases = make_molrg([60, 60], 30, 2, [2, 5], noise=0.05, random_state=0, return_bases=True)
    model = DiffusionSubspaceClustering(2, rule, random_state=0).fit(X)
    assert sorted(model.n_components_) == [2, 5]
    assert adjusted_rand_score(y, model.labels_) == 1.0
    assert model.transform(X).shape == (120, 7)
    assert_array_equal(model.predict(X), model.labels_)
    assert isinstance(model.components_, list)


def test_fit_of_many_rows_and_of_all_starts():
    X, y, _ = make_molrg(
        2600, 20, 3, 3, noise=0.1, orthogonal=False, random_state=0, return_bases=True
    )
    for init in ("angles", "sim", "random", "spectral"):
        model = DiffusionSubspaceClustering(3, 3, init=init, random_state=0).fit(X)
        if init != "random":
            assert adjusted_rand_score(y, model.labels_) > 0.97
            assert model.init_ in ("angles", "sim")
        assert_array_equal(model.labels_, model.predict(X))
        assert_array_equal(model.labels_, clone(model).set_params(n_jobs=2).fit_predict(X))


def test_given_noise_variance_is_kept():
    X, _ = make_molrg(60, 12, 2, 2, noise=0.2, random_state=0)
    for soft in (False, True):
        model = DiffusionSubspaceClustering(2, 2, noise_variance=0.5, soft=soft, random_state=0)
        assert model.fit(X).noise_variance_ == 0.5


def test_works_in_a_pipeline_and_keeps_float32():
    X, _ = make_molrg(60, 12, 2, 2, noise=0.2, random_state=0)
    pipe = make_pipeline(StandardScaler(), DiffusionSubspaceClustering(2, 2, random_state=0))
    assert pipe.fit_predict(X).shape == (60,)
    names = pipe[-1].get_feature_names_out()
    assert list(names) == [f"diffusionsubspaceclustering{i}" for i in range(4)]
    model = DiffusionSubspaceClustering(2, 2, random_state=0).fit(X.astype(np.float32))
    assert model.transform(X.astype(np.float32)).dtype == np.float32


def test_entries_whose_squares_are_no_numbers_are_refused():
    X = 1e160 * np.random.default_rng(0).standard_normal((20, 5))
    with pytest.raises(ValueError, match="entries up to .*e\\+160"):
        DiffusionSubspaceClustering(2, 2).fit(X)


def test_explained_share():
    X, _ = make_molrg(200, 12, 2, 2, noise=0.0, random_state=0)
    model = DiffusionSubspaceClustering(2, 2, random_state=0).fit(X)
    assert_allclose(model.explained_variance_ratio_, 1.0)


# Bad input.


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_components": 6}, "n_components=6 must be less than n_features=6"),
        ({"n_components": [1, 2, 3]}, "n_clusters=2"),
        ({"n_components": [1, 2.5]}, "n_components"),
        ({"n_components": 4, "orthogonal": True}, "need 8 features, got n_features=6"),
        ({"n_clusters": 11}, "n_samples=10 must be at least n_clusters=11"),
        ({"n_components": 1.5}, "n_components"),
        ({"noise_variance": 0.0}, "noise_variance"),
        ({"init": "kmeans"}, "init"),
        ({"solver": "sgd", "soft": True}, "solver='sgd'"),
    ],
)
def test_bad_parameters_are_named(params, message):
    X = np.random.default_rng(0).standard_normal((10, 6))
    with pytest.raises(ValueError, match=message):
        DiffusionSubspaceClustering(**params).fit(X)


def test_zero_rows_go_to_the_first_cluster_with_a_warning():
    X, y = make_molrg(30, 12, 2, 2, random_state=0)
    X[[3, 7]] = 0.0
    with pytest.warns(UserWarning, match="2 of 30 rows are zero"):
        model = DiffusionSubspaceClustering(2, 2, random_state=0).fit(X)
    assert model.labels_[3] == model.labels_[7] == 0
    assert_array_equal(model.predict(X), model.labels_)
    assert np.isfinite(model.score_samples(X)).all()
    with pytest.raises(ValueError, match="fewer than n_clusters=2"):
        DiffusionSubspaceClustering(2, 2).fit(np.zeros((5, 4)))


def test_collapsing_clusters_are_seeded_again_or_reported():
    X, _ = make_molrg(40, 12, 2, 2, noise=0.1, random_state=0)
    part = k_subspaces(
        X, np.zeros(40, dtype=int), [2, 2], joint=False, penalty=0.0, max_iter=50, tol=1e-9
    )
    assert part.n_empty == 0
    line = np.outer(np.arange(1.0, 9.0), np.arange(1.0, 6.0))
    with pytest.warns(ConvergenceWarning, match="clusters are empty"):
        model = DiffusionSubspaceClustering(3, 1, random_state=0).fit(line)
    assert np.isfinite(model.score_samples(line)).all()
    assert np.isfinite(model.denoise(line, 0.1)).all()
    assert len(model.sample(5)[0]) == 5


def test_no_convergence_is_said_with_numbers():
    X, _ = make_molrg(200, 12, 3, 2, noise=0.7, orthogonal=False, random_state=0)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 iterations"):
        DiffusionSubspaceClustering(3, 2, max_iter=1, random_state=0).fit(X)


@pytest.mark.parametrize("sigma", [-1.0, np.nan, np.inf, [0.1, 0.2]])
def test_bad_noise_levels(sigma, noisy):
    X, _, _, model = noisy
    with pytest.raises(ValueError, match="sigma"):
        model.denoise(X, sigma)


@pytest.mark.parametrize(
    "params", [{"n_samples": 0}, {"method": "ddim"}, {"n_steps": 0}, {"sigma_min": 100.0}]
)
def test_bad_sampler_parameters(params, noisy):
    *_, model = noisy
    with pytest.raises(ValueError, match=next(iter(params))):
        model.sample(**params)


@pytest.mark.parametrize("n_outliers", [3, 15])
def test_a_few_gross_errors_do_not_decide_over_the_subspaces(n_outliers):
    X, y = make_molrg(n_samples=300, n_clusters=3, dim=2, noise=0.05, random_state=0)
    rng = np.random.default_rng(0)
    rows = rng.choice(300, n_outliers, replace=False)
    errors = rng.standard_normal((n_outliers, X.shape[1]))
    length = 20 * np.linalg.norm(X, axis=1).mean()
    X[rows] = length * errors / np.linalg.norm(errors, axis=1, keepdims=True)
    others = np.setdiff1d(np.arange(300), rows)
    model = DiffusionSubspaceClustering(3, 2, random_state=0).fit(X)
    assert adjusted_rand_score(y[others], model.labels_[others]) > 0.95
    plain = DiffusionSubspaceClustering(3, 2, max_norm=None, random_state=0).fit(X)
    assert adjusted_rand_score(y[others], plain.labels_[others]) < 0.7


def test_rows_of_ordinary_length_are_taken_as_they_are():
    X, _ = make_molrg(n_samples=120, n_clusters=2, dim=3, noise=0.05, random_state=0)
    models = [
        DiffusionSubspaceClustering(2, 3, max_norm=m, random_state=0).fit(X) for m in (5.0, None)
    ]
    assert_array_equal(*(model.components_ for model in models))


@pytest.mark.parametrize("spectrum", ["unit", "full"])
def test_information_criteria_find_the_number_of_subspaces(spectrum):
    X, _ = make_molrg(n_samples=400, n_clusters=3, dim=3, noise=0.1, random_state=0)
    fits = [
        DiffusionSubspaceClustering(k, 3, spectrum=spectrum, random_state=0).fit(X)
        for k in (1, 2, 3, 4)
    ]
    assert int(np.argmin([model.bic(X) for model in fits])) == 2
    model = fits[2]
    gap = model.bic(X) - model.aic(X)
    n_parameters = 3 * 3 * (48 - 3) + 2 + 1 + (18 if spectrum == "full" else 0)
    assert_allclose(gap, n_parameters * (np.log(400) - 2))


def test_data_far_from_the_origin():
    """Their mean is taken off where nothing is said, and they are said to be where it may not."""
    X, y = make_molrg(n_samples=120, n_clusters=2, dim=3, noise=0.05, random_state=0)
    for far in (X + 100, np.c_[X, np.full(120, 30.0)]):
        with pytest.warns(UserWarning, match="center=True"):
            DiffusionSubspaceClustering(2, 3, center=False, random_state=0).fit(far)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiffusionSubspaceClustering(2, 3, random_state=0).fit(X)
        model = DiffusionSubspaceClustering(2, 3, random_state=0).fit(X + 100)
    assert model.center_ is True and adjusted_rand_score(y, model.labels_) == 1
    assert_allclose(model.means_, np.tile(model.mean_, (2, 1)))


# Clusters that are places.


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_defaults_are_not_behind_kmeans(load, standard):
    X, y = load(return_X_y=True)
    if standard:
        X = StandardScaler().fit_transform(X)
    model = DiffusionSubspaceClustering(len(set(y)), random_state=0).fit(X)
    peer = KMeans(len(set(y)), n_init=10, random_state=0).fit(X)
    score, wanted = (adjusted_rand_score(y, labels) for labels in (model.labels_, peer.labels_))
    assert model.center_ == "clusters" and model.init_ == "k-means"
    assert score >= wanted - 0.02
    assert_array_equal(model.predict(X), model.labels_)


@pytest.mark.parametrize("noise", [0.02, 0.2])
@pytest.mark.parametrize("positive", [False, True])
def test_unions_of_subspaces_are_not_taken_for_places(noise, positive):
    rng = np.random.default_rng(3)
    y = rng.integers(3, size=300)
    bases, z = rng.standard_normal((3, 2, 20)), rng.standard_normal((300, 2))
    if positive:  # the subspaces' samples then have means
        bases, z = np.abs(bases), np.abs(z)
    X = np.einsum("nd,ndp->np", z, bases[y]) + noise * rng.standard_normal((300, 20))
    model = DiffusionSubspaceClustering(3, random_state=0).fit(X)
    origin = clone(model).set_params(center=False).fit(X)
    assert model.center_ is False
    assert_array_equal(model.components_, origin.components_)
    assert adjusted_rand_score(y, model.labels_) > 0.8


def test_choice_does_not_depend_on_the_unit():
    X, _ = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models = [
            DiffusionSubspaceClustering(3, random_state=0).fit(c * X) for c in (1.0, 1e6, 1e-6)
        ]
    for model in models[1:]:
        assert model.center_ == "clusters"
        assert_array_equal(model.labels_, models[0].labels_)


@pytest.fixture(scope="module")
def places():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=240)
    means = 8 * rng.standard_normal((3, 6)) + 20
    bases = np.linalg.qr(rng.standard_normal((3, 6, 2)))[0].transpose(0, 2, 1)
    z = rng.standard_normal((240, 2)) * [2.0, 1.0]
    X = means[y] + np.einsum("nd,ndp->np", z, bases[y]) + 0.3 * rng.standard_normal((240, 6))
    return X, y, means, bases


def test_places_with_directions(places):
    X, y, means, bases = places
    model = DiffusionSubspaceClustering(3, random_state=0).fit(X)
    assert model.center_ == "clusters" and adjusted_rand_score(y, model.labels_) == 1
    order = np.argmin(((means[:, None] - model.means_) ** 2).sum(axis=2), axis=1)
    for k in range(3):
        mine = X[y == k]
        assert_allclose(model.means_[order[k]], mine.mean(axis=0), rtol=1e-6)
        V = np.linalg.svd(mine - mine.mean(axis=0))[2][:2]
        assert_allclose(projectors(model.components_)[order[k]], V.T @ V, atol=1e-6)
    assert_allclose(model.noise_variance_, 0.09, rtol=0.15)
    Z = model.transform(X)
    k = model.labels_[5]
    expected = model.components_[k] @ (X[5] - model.means_[k])
    assert_allclose(Z[5, 2 * k : 2 * k + 2], expected)


@pytest.mark.parametrize("soft", [False, True])
def test_densities_around_means_equal_brute_force(places, soft):
    X, *_ = places
    model = DiffusionSubspaceClustering(3, soft=soft, random_state=0).fit(X)
    sigma = 0.7
    each = list(zip(model.components_, model.signal_variances_, model.means_, strict=True))
    clean = [b.T @ (v[:, None] * b) for b, v, _ in each]
    noisy = [C + sigma**2 * np.eye(6) for C in clean]
    far = X + 3 * np.random.default_rng(1).standard_normal(X.shape)
    joint = np.stack(
        [
            w * multivariate_normal(m, S).pdf(far)
            for w, S, m in zip(model.weights_, noisy, model.means_, strict=True)
        ],
        axis=1,
    )
    assert_allclose(model.score_samples(far, sigma), np.log(joint.sum(axis=1)), rtol=1e-8)
    posterior = joint / joint.sum(axis=1, keepdims=True)
    assert_allclose(model.predict_proba(far, sigma), posterior, atol=1e-9)
    expected = sum(
        posterior[:, k : k + 1] * (m + (far - m) @ np.linalg.solve(noisy[k], clean[k]))
        for k, m in enumerate(model.means_)
    )
    assert_allclose(model.denoise(far, sigma), expected, atol=1e-8)
    if soft:
        gains = np.diff(model.objective_history_)
        assert (gains >= -1e-9 * abs(model.objective_history_[-1])).all()
        assert_allclose(model.score(X), model.objective_history_[-1], atol=1e-4)


def test_jacobian_around_means(places):
    X, *_ = places
    model = DiffusionSubspaceClustering(3, random_state=0).fit(X)
    x, h, sigma = X[:3] + 2.0, 1e-5, 3.0  # where two clusters have a say
    _, values = model.semantic_directions(x, sigma, n_directions=3)
    numeric = np.stack(
        [(model.denoise(x + h * e, sigma) - model.denoise(x - h * e, sigma)) / (2 * h)
         for e in np.eye(6)], axis=2,
    )  # fmt: skip
    assert_allclose(values, np.linalg.svd(numeric)[1][:, :3], atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "diffusion"])
def test_samples_around_means(places, method):
    X, y, *_ = places
    model = DiffusionSubspaceClustering(3, random_state=0).fit(X)
    new, labels = model.sample(6000, method=method)
    for k in range(3):
        mine = new[labels == k]
        # Four standard errors of a mean of 2000 draws with variance up to 4.
        assert_allclose(mine.mean(axis=0), model.means_[k], atol=0.18)
        spread = np.trace(np.cov(mine.T))
        truth = model.signal_variances_[k].sum() + 6 * model.noise_variance_
        assert_allclose(spread, truth, rtol=0.12)


def test_a_few_gross_errors_do_not_make_a_place_of_their_own(places):
    X, y, *_ = places
    rows = np.arange(0, 9, 3)
    bad = X.copy()
    bad[rows] = 60 * np.random.default_rng(0).standard_normal((3, 6))
    model = DiffusionSubspaceClustering(3, center="clusters", random_state=0).fit(bad)
    others = np.setdiff1d(np.arange(240), rows)
    assert adjusted_rand_score(y[others], model.labels_[others]) == 1
    assert_array_equal(model.predict(bad), model.labels_)


@pytest.mark.parametrize("dims", [[1, 2, 3], 0.9, "gap"])
def test_dimensions_around_means(places, dims):
    X, y, *_ = places
    model = DiffusionSubspaceClustering(3, dims, center="clusters", random_state=0).fit(X)
    assert adjusted_rand_score(y, model.labels_) == 1
    assert model.transform(X).shape == (240, model.n_components_.sum())
    if isinstance(dims, list):
        assert sorted(model.n_components_) == dims


@pytest.mark.parametrize("params", [{"orthogonal": True}, {"solver": "sgd"}])
def test_what_does_not_go_with_clusters_of_their_own_means(params):
    X = np.random.default_rng(0).standard_normal((20, 6))
    with pytest.raises(ValueError, match="center='clusters' does not go with"):
        DiffusionSubspaceClustering(2, center="clusters", **params).fit(X)


# Weights.


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"soft": True},
        {"n_components": [1, 3, 2]},
        {"n_components": 0.9},
        {"center": True},
        {"center": "clusters"},
        {"orthogonal": True},
    ],
)
def test_weights_are_repetitions_and_zeros_are_absences(params):
    X, _ = make_molrg(90, 12, 3, 2, noise=0.3, orthogonal=False, random_state=0)
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, 90)
    order = rng.permutation(counts.sum())
    model = DiffusionSubspaceClustering(
        **{"n_clusters": 3, "n_components": 2, "random_state": 0} | params
    )
    weighted = clone(model).fit(X, sample_weight=counts.astype(float))
    repeated = clone(model).fit(np.repeat(X, counts, axis=0)[order])
    assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-9)
    assert_array_equal(weighted.predict(X), repeated.predict(X))
    assert_allclose(weighted.noise_variance_, repeated.noise_variance_)
    assert_allclose(weighted.objective_, repeated.objective_)
    assert_array_equal(weighted.labels_, weighted.predict(X))


def test_weights_say_which_samples_count():
    X, y = make_molrg(120, 12, 3, 2, noise=0.05, random_state=0)
    weights = np.where(y == 2, 0.0, 1.0)
    model = DiffusionSubspaceClustering(2, 2, random_state=0).fit(X, sample_weight=weights)
    assert adjusted_rand_score(y[y < 2], model.labels_[y < 2]) == 1
    with pytest.raises(ValueError, match="positive sample_weight must be at least n_clusters=2"):
        DiffusionSubspaceClustering(2, 2).fit(X, sample_weight=np.eye(120)[0])
    with pytest.raises(ValueError, match="takes no sample_weight"):
        DiffusionSubspaceClustering(2, 2, solver="sgd").fit(X, sample_weight=weights)


def test_default_fits_two_features_and_given_sizes_do_not():
    X = np.random.default_rng(0).standard_normal((30, 2))
    assert DiffusionSubspaceClustering(random_state=0).fit(X).n_components_.tolist() == [1, 1]
    wide = np.random.default_rng(0).standard_normal((30, 4))
    default = DiffusionSubspaceClustering(random_state=0).fit(wide)
    given = DiffusionSubspaceClustering(n_components=2, random_state=0).fit(wide)
    assert_allclose(default.components_, given.components_)
    with pytest.raises(ValueError, match="n_components=2 must be less than n_features=2"):
        DiffusionSubspaceClustering(n_components=2).fit(X)


def test_copies_are_found_where_the_first_columns_are_constant():
    rng = np.random.default_rng(0)
    X = np.concatenate([np.zeros((30, 5)), rng.standard_normal((30, 6))], axis=1)
    rows, weights, index = distinct(X, None, 2)
    assert rows is X and weights is None and index is None
    X[7] = X[3]
    X[7, 0] = -0.0
    rows, weights, index = distinct(X, None, 2)
    assert len(rows) == 29 and index[7] == index[3] and weights[index[3]] == 2


def test_subspace_iteration_gives_up_and_agrees_where_eigenvalues_are_close():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((400, 200))
    near = np.linalg.qr(rng.standard_normal((200, 5)))[0].T
    values, vectors = leading_eigenvectors(A.T @ A, 5, near=near)
    wanted = np.linalg.eigvalsh(A.T @ A)[::-1][:5]
    np.testing.assert_allclose(values, wanted, rtol=1e-9)
    np.testing.assert_allclose(A.T @ (A @ vectors), vectors * values, atol=1e-6 * values[0])
