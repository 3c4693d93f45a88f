"""Vector-field Gaussian process: equality with the function space, gauges, labels, claims."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import check_grad
from scipy.stats import multivariate_normal
from sklearn.exceptions import DataConversionWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from sklr.gaussian_process import VectorFieldGPRegressor
from sklr.gaussian_process._weight_space import (
    log_likelihood,
    moments_of,
    spectral_weights,
)
from sklr.geometry import _frames


def fibonacci_sphere(n):
    i = np.arange(n) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    return np.column_stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    )


def sphere_field(n=200, noise=0.1, seed=0):
    X = fibonacci_sphere(n)
    Y = np.cross([0, 0, 1], X)
    return X, Y, Y + noise * np.random.default_rng(seed).standard_normal(Y.shape)


def features(gp, n_outputs):
    """The lifted eigenvectors and prior variances, written down again."""
    n, r = len(gp.nodes_), len(gp.eigenvalues_)
    if n_outputs == 1:
        Phi = np.sqrt(n) * gp.eigenvectors_[:, None]
    else:
        m = gp.intrinsic_dim_
        blocks = gp.eigenvectors_.reshape(n, m, r)
        Phi = np.sqrt(n * m) * np.einsum("ndm,nmr->ndr", gp.frames_, blocks)
    s = (2 * gp.nu_ / gp.length_scale_**2 + gp.eigenvalues_) ** -gp.nu_
    return Phi, gp.variance_ * s / s.sum()


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("optimizer", [None, "lbfgs"])
def test_equals_the_function_space_process(scalar, optimizer):
    """Mean, covariance and log marginal likelihood of the O(N^3) formulas, missing rows too."""
    X, _, Y = sphere_field(80)
    y = Y[:, 0] + 2.0 if scalar else Y
    y = y.copy()
    y[50:] = np.nan
    gp = VectorFieldGPRegressor(n_eigenpairs=20, optimizer=optimizer).fit(X, y)
    Phi, d = features(gp, y.ndim and (1 if scalar else 3))
    flat = Phi.reshape(-1, len(d))
    K = flat @ np.diag(d) @ flat.T
    known = ~np.isnan(y.ravel())
    target = y.ravel()[known] - gp.y_mean_
    noisy = K[np.ix_(known, known)] + gp.noise_ * np.eye(known.sum())
    gain = np.linalg.solve(noisy, K[known]).T
    cov = K - gain @ K[known]
    mean, std = gp.predict(X, return_std=True)
    assert mean.shape == y.shape == std.shape
    assert_allclose(mean.ravel(), gain @ target + gp.y_mean_, atol=1e-9)
    # The model error comes on top.
    cov = cov + gp.model_error_ * np.eye(len(cov))
    assert_allclose(std.ravel() ** 2, np.diag(cov), atol=1e-9)
    covariance = gp.predict(X, return_cov=True)[1]
    if scalar:
        assert_allclose(covariance, cov, atol=1e-9)
    else:
        blocks = np.array([cov[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] for i in range(80)])
        assert_allclose(covariance, blocks, atol=1e-9)
    wanted = multivariate_normal(cov=noisy).logpdf(target)
    assert_allclose(gp.log_marginal_likelihood_value_, wanted, rtol=1e-9)


def test_prior_variance_is_what_the_parameter_says():
    X, _, Y = sphere_field(120)
    gp = VectorFieldGPRegressor(n_eigenpairs=30, optimizer=None, variance=2.5).fit(X, Y)
    Phi, d = features(gp, 3)
    prior = np.einsum("ndr,r,ndr->n", Phi, d, Phi)
    assert_allclose(prior.mean(), gp.intrinsic_dim_ * 2.5, rtol=1e-10)


@pytest.mark.parametrize("kernel, nu", [("matern", 1.5), ("matern", 0.7), ("se", 1.0)])
def test_gradient_of_the_likelihood(kernel, nu):
    rng = np.random.default_rng(0)
    Phi, y = rng.standard_normal((60, 12)), rng.standard_normal(60)
    moments = moments_of(Phi.T @ Phi, Phi.T @ y, float(y @ y), 60)
    eigenvalues = np.sort(rng.uniform(0, 9, 12))

    def value(theta):
        length, variance, noise, this_nu = np.exp(theta)
        weights = spectral_weights(eigenvalues, kernel, length, this_nu)[0]
        return log_likelihood(moments, variance * weights, noise)[0]

    def slope(theta):
        length, variance, noise, this_nu = np.exp(theta)
        weights, by_length, by_nu = spectral_weights(eigenvalues, kernel, length, this_nu)
        _, by_d, by_noise = log_likelihood(moments, variance * weights, noise)
        return np.array([by_d @ by_length, by_d.sum(), by_noise, by_d @ by_nu])

    theta = np.log([0.8, 1.3, 0.2, nu])
    # Forward differences lose half the digits.
    assert check_grad(value, slope, theta) < 1e-4 * np.linalg.norm(slope(theta))


def test_hyperparameters_are_a_maximum_that_a_fine_grid_does_not_beat():
    X, _, Y = sphere_field(200, noise=0.3)
    Y[100:] = np.nan
    gp = VectorFieldGPRegressor(n_eigenpairs=40).fit(X, Y)
    best = gp.log_marginal_likelihood_value_
    longest = 200.0  # the optimiser's bound, a hundred diameters
    for length in np.minimum(gp.length_scale_ * np.geomspace(0.2, 5, 7), longest):
        for variance in gp.variance_ * np.geomspace(0.2, 5, 7):
            for noise in gp.noise_ * np.geomspace(0.5, 2, 5):
                fixed = VectorFieldGPRegressor(
                    n_eigenpairs=40,
                    optimizer=None,
                    length_scale=length,
                    variance=variance,
                    noise=noise,
                )
                fixed.__dict__.update({k: v for k, v in vars(gp).items() if k not in vars(fixed)})
                fixed._regress(np.arange(200), Y)
                assert fixed.log_marginal_likelihood_value_ <= best + 1e-6
    assert_allclose(gp.noise_, 0.09, rtol=0.2)  # the noise that was put in


def test_hyperparameters_follow_the_units():
    """Positions in other units change the length scale, vectors in others the variances."""
    X, _, Y = sphere_field(150)
    one = VectorFieldGPRegressor(n_eigenpairs=20).fit(X, Y)
    two = VectorFieldGPRegressor(n_eigenpairs=20).fit(1000 * X, 0.01 * Y)
    # Both stop at the optimiser's tolerance.
    assert_allclose(two.length_scale_, 1000 * one.length_scale_, rtol=1e-3)
    assert_allclose(two.variance_, 1e-4 * one.variance_, rtol=1e-3)
    assert_allclose(two.noise_, 1e-4 * one.noise_, rtol=1e-3)
    assert_allclose(two.predict(1000 * X), 0.01 * one.predict(X), atol=1e-6)


def test_length_scale_keeps_its_meaning_when_points_are_added():
    values = [
        VectorFieldGPRegressor(n_eigenpairs=20, n_neighbors=k, optimizer=None)
        .fit(X, np.cross([0, 0, 1], X))
        .eigenvalues_
        for X, k in ((fibonacci_sphere(400), 12), (fibonacci_sphere(1200), 16))
    ]
    for found in values:  # those of the sphere, 1 and 5, to what a graph of few points gives
        assert_allclose(found[:6].mean(), 1.0, rtol=0.06)
        assert_allclose(found[6:16].mean(), 5.0, rtol=0.08)


@pytest.mark.parametrize("outside", [False, True])
def test_predictions_do_not_depend_on_the_gauge(monkeypatch, outside):
    X, _, Y = sphere_field(200)
    at = X[:20] + (0.01 if outside else 0.0)
    plain = VectorFieldGPRegressor(n_eigenpairs=20).fit(X, Y)
    wanted = plain.predict(at, return_cov=True)
    rng = np.random.default_rng(5)
    original = _frames.principal_axes

    def turned(points):
        axes, spread = original(points)
        m = 2
        gauge = np.linalg.qr(rng.standard_normal((len(axes), m, m)))[0]
        axes[:, :, :m] = axes[:, :, :m] @ gauge
        return axes, spread

    monkeypatch.setattr(_frames, "principal_axes", turned)
    monkeypatch.setattr("sklr.gaussian_process._field_features.principal_axes", turned)
    other = VectorFieldGPRegressor(n_eigenpairs=20).fit(X, Y)
    assert abs(other.frames_ - plain.frames_).max() > 0.1
    # The optimiser stops a rounding error elsewhere.
    assert_allclose(other.log_marginal_likelihood_value_, plain.log_marginal_likelihood_value_)
    for got, want in zip(other.predict(at, return_cov=True), wanted, strict=True):
        assert_allclose(got, want, atol=1e-6)


def test_rotating_positions_and_vectors_rotates_predictions():
    X, _, Y = sphere_field(200)
    new = fibonacci_sphere(77)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))[0]
    one = VectorFieldGPRegressor(n_eigenpairs=20, optimizer=None).fit(X, Y)
    two = VectorFieldGPRegressor(n_eigenpairs=20, optimizer=None).fit(X @ turn, Y @ turn)
    assert_allclose(two.predict(X @ turn), one.predict(X) @ turn, atol=1e-9)
    assert_allclose(two.predict(new @ turn), one.predict(new) @ turn, atol=1e-9)


def test_further_dimensions_in_which_nothing_lies_change_nothing():
    X, Y, _ = sphere_field(200)
    Y[60:] = np.nan
    wanted, std = VectorFieldGPRegressor().fit(X, Y).predict(X, return_std=True)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 3)))[0].T
    gp = VectorFieldGPRegressor().fit(X @ turn, Y @ turn)
    assert_allclose(gp.predict(X @ turn) @ turn.T, wanted, atol=1e-5)
    padded = VectorFieldGPRegressor().fit(np.c_[X, np.ones(200)], np.c_[Y, 0 * Y[:, 0]])
    mean, spread = padded.predict(np.c_[X, np.ones(200)], return_std=True)
    assert_allclose(mean, np.c_[wanted, np.zeros(200)], atol=1e-5)
    assert_allclose(spread[:, :3], std, atol=1e-5)


@pytest.mark.parametrize("length_scale", [1e-200, 1e200])
@pytest.mark.parametrize("kernel", ["matern", "squared_exponential"])
def test_any_length_scale_is_a_number(kernel, length_scale):
    X, Y, _ = sphere_field(60)
    gp = VectorFieldGPRegressor(kernel=kernel, length_scale=length_scale, optimizer=None)
    assert np.isfinite(gp.fit(X, Y).predict(X)).all()


def test_units_whose_squares_are_no_numbers_are_refused():
    X, Y, _ = sphere_field(60)
    for unit, message in ((1e-200, "X is too small"), (1e200, "X is too large")):
        with pytest.raises(ValueError, match=message):
            VectorFieldGPRegressor().fit(unit * X, Y)
        with pytest.raises(ValueError, match=message):
            VectorFieldGPRegressor().fit(X, Y).predict(unit * X)
    for unit, message in ((1e-200, "y is too small"), (1e200, "y is too large")):
        with pytest.raises(ValueError, match=message):
            VectorFieldGPRegressor().fit(X, unit * Y)


def test_predictions_and_samples_are_tangent():
    X, _, Y = sphere_field(200)
    gp = VectorFieldGPRegressor(n_eigenpairs=20).fit(X, Y)
    project = np.einsum("ndm,nem->nde", gp.frames_, gp.frames_)
    for field in (gp.predict(X), *np.moveaxis(gp.sample_y(X, 3), 2, 0)):
        assert_allclose(np.einsum("nde,ne->nd", project, field), field, atol=1e-12)


def test_without_noise_and_with_all_eigenpairs_it_interpolates():
    X = fibonacci_sphere(60)
    gp = VectorFieldGPRegressor(n_eigenpairs=120, optimizer=None, noise=1e-12)
    rng = np.random.default_rng(0)
    rough = rng.standard_normal((60, 3))
    frames = _frames.tangent_frames(X, 2)
    tangent = np.einsum("ndm,nem,ne->nd", frames, frames, rough)
    gp.fit(X, tangent)
    assert_allclose(gp.predict(X), tangent, atol=1e-6)
    # With every coordinate known to 1e-12 little uncertainty is left.
    assert gp.predict(X, return_std=True)[1].max() < 1e-5


def test_uncertainty_grows_away_from_labels_and_covers_the_truth():
    X, truth, Y = sphere_field(600, noise=0.2)
    Y[X[:, 0] > -0.2] = np.nan
    gp = VectorFieldGPRegressor(n_eigenpairs=50, nu="auto").fit(X, Y)
    mean, std = gp.predict(X, return_std=True)
    posterior = np.sqrt(std**2 - gp.model_error_)
    assert posterior[X[:, 0] > 0.7].mean() > 3 * posterior[X[:, 0] < -0.5].mean()
    inside = np.abs(mean - truth) <= 2 * std
    assert inside.mean() > 0.9


def test_samples_have_the_posterior_mean_and_covariance():
    X, _, Y = sphere_field(100, noise=0.5)
    Y[40:] = np.nan
    gp = VectorFieldGPRegressor(n_eigenpairs=12).fit(X, Y)
    new = np.concatenate([X[:3], fibonacci_sphere(7)])
    mean, cov = gp.predict(new, return_cov=True)
    fields = gp.sample_y(new, 20000, random_state=1)
    assert fields.shape == (10, 3, 20000)
    # Monte Carlo with 20000 draws.
    assert_allclose(fields.mean(axis=2), mean, atol=0.02)
    centred = fields - fields.mean(axis=2, keepdims=True)
    assert_allclose(np.einsum("nds,nes->nde", centred, centred) / 20000, cov, atol=0.02)
    assert_array_equal(gp.sample_y(new, 2, random_state=3), gp.sample_y(new, 2, random_state=3))
    # One field, evaluated at other points, is the same field.
    assert_allclose(gp.sample_y(new[:4], 2, random_state=3), gp.sample_y(new, 2, 3)[:4], atol=1e-12)


def test_training_points_are_recognised_and_others_close_to_what_the_graph_would_say():
    """Out of sample costs next to nothing (the sheet's neighbour average: 0.057 for 0.048)."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = np.cross([0, 0, 1], X) + 0.5 * np.cross(X, np.cross([1, 0, 0], X))
    unlabelled = np.where(np.arange(2000)[:, None] < 1600, Y, np.nan)
    inside = VectorFieldGPRegressor(n_eigenpairs=50).fit(X, unlabelled)
    outside = VectorFieldGPRegressor(n_eigenpairs=50).fit(X[:1600], Y[:1600])

    def error(gp, rows):
        return np.linalg.norm(gp.predict(X[rows]) - Y[rows]) / np.linalg.norm(Y[rows])

    new = slice(1600, 2000)
    assert error(inside, new) < 0.06
    assert error(outside, new) < 1.1 * error(inside, new)
    order = rng.permutation(1600)[:50]
    assert_array_equal(outside.predict(X[order]), outside.predict(X[:1600])[order])
    # A point a hair away is treated as new, and gets the same but for its frame, to which it
    # belongs itself.
    moved = outside.predict(X[order] + 1e-9)
    assert np.linalg.norm(moved - outside.predict(X[order])) < 0.03 * np.linalg.norm(moved)


def test_duplicates_are_observations_of_one_point():
    X, _, Y = sphere_field(100, noise=0.3)
    twice = np.concatenate([X, X[:30]])
    values = np.concatenate([Y, Y[:30][:, [0, 1, 2]] * 0.5])
    gp = VectorFieldGPRegressor(n_eigenpairs=20, optimizer=None, noise=0.1).fit(twice, values)
    assert gp.nodes_.shape == (100, 3)
    assert_array_equal(gp.nodes_, X)
    assert_array_equal(gp.predict(twice)[:30], gp.predict(twice)[100:])
    # Two observations with noise s are their mean with noise s / 2.
    Phi, d = features(gp, 3)
    rows = np.concatenate([Phi, Phi[:30]]).reshape(-1, len(d))
    A = np.diag(1 / d) + rows.T @ rows / 0.1
    weights = np.linalg.solve(A, rows.T @ values.ravel() / 0.1)
    assert_allclose(gp.predict(X), Phi @ weights, atol=1e-9)


def test_single_components_may_be_missing():
    X, truth, Y = sphere_field(300)
    Y[:, 2] = np.nan  # the third component of the field was never measured
    gp = VectorFieldGPRegressor(n_eigenpairs=30).fit(X, Y)
    assert np.linalg.norm(gp.predict(X) - truth) < 0.1 * np.linalg.norm(truth)


def test_disconnected_graph_is_told_and_the_unlabelled_part_is_the_prior():
    X = fibonacci_sphere(100)
    both = np.concatenate([X, X + [10, 0, 0]])
    Y = np.concatenate([np.cross([0, 0, 1], X), np.full((100, 3), np.nan)])
    with pytest.warns(UserWarning, match="2 connected components.*1 of them have no label"):
        gp = VectorFieldGPRegressor(n_eigenpairs=24).fit(both, Y)
    assert gp.n_components_ == 2
    mean, std = gp.predict(both, return_std=True)
    assert abs(mean[100:]).max() < 1e-6 < 0.5 < np.linalg.norm(mean[:100], axis=1).max()
    assert std[100:].mean() > 5 * std[:100].mean()


def test_scalar_function_on_a_curve():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    y = 7.0 + np.sin(3 * angle)
    known = y + 0.1 * np.random.default_rng(0).standard_normal(200)
    known[::2] = np.nan
    gp = VectorFieldGPRegressor(n_neighbors=4, n_eigenpairs=30).fit(X, known)
    assert not hasattr(gp, "connection_laplacian_")
    assert np.abs(gp.predict(X) - y).max() < 0.15
    assert gp.score(X, y) > 0.99
    with pytest.warns(DataConversionWarning):
        column = VectorFieldGPRegressor(n_neighbors=4, n_eigenpairs=30).fit(X, known[:, None])
    assert_array_equal(column.predict(X), gp.predict(X))
    # Refitting to vectors and back leaves nothing of the other kind.
    gp.fit(X, np.column_stack([-X[:, 1], X[:, 0]]))
    assert hasattr(gp, "connection_laplacian_") and gp.y_mean_ == 0
    gp.fit(X, known)
    assert not hasattr(gp, "connection_laplacian_")


def index_sum(X, field, n_triangles_of):
    """Sum of the indices of a tangent field over the triangles of a convex hull."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(n_triangles_of)
    total, found = 0, []
    for triangle in hull.simplices:
        a, b, c = triangle
        normal = np.cross(X[b] - X[a], X[c] - X[a])
        if normal @ X[triangle].mean(axis=0) < 0:
            b, c = c, b
        centre = X[[a, b, c]].mean(axis=0)
        centre /= np.linalg.norm(centre)
        e1 = np.cross(centre, [0.3, 0.5, 0.81])
        e1 /= np.linalg.norm(e1)
        e2 = np.cross(centre, e1)
        angle = np.arctan2(field[[a, b, c]] @ e2, field[[a, b, c]] @ e1)
        turns = np.angle(np.exp(1j * np.diff(np.append(angle, angle[0])))).sum() / (2 * np.pi)
        total += round(turns)
        if round(turns):
            found.append((centre, round(turns)))
    return total, found


def test_singularities_are_kept_from_few_labels():
    """Two centres and index two on a sphere, after a tenth of the points with noise (RVGP)."""
    X, _, Y = sphere_field(800, noise=0.3)
    Y[np.random.default_rng(0).permutation(800)[80:]] = np.nan
    gp = VectorFieldGPRegressor(n_eigenpairs=50).fit(X, Y)
    total, found = index_sum(X, gp.predict(X), X)
    assert total == 2  # the Euler characteristic
    assert len(found) == 2
    poles = sorted(centre[2] for centre, _ in found)
    assert poles[0] < -0.95 and poles[1] > 0.95


def spiral(n, seed):
    """A sheet rolled up with a gap of .75, and a tangent field that turns along it."""
    rng = np.random.default_rng(seed)
    theta = np.linspace(2 * np.pi, 8 * np.pi, 20000)
    length = np.append(
        0,
        np.cumsum(
            np.hypot(*np.diff(0.12 * theta * np.exp(1j * theta))[None].view(float).reshape(-1, 2).T)
        ),
    )
    u = rng.uniform(0, length[-1], n)
    angle = np.interp(u, length, theta)
    X = np.column_stack(
        [0.12 * angle * np.cos(angle), 0.12 * angle * np.sin(angle), rng.uniform(0, 2, n)]
    )
    along = np.column_stack(
        [np.cos(angle) - angle * np.sin(angle), np.sin(angle) + angle * np.cos(angle), 0 * angle]
    )
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return X, np.cos(u)[:, None] * along + np.sin(u)[:, None] * np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("noise, share, bar", [(0.1, 0.05, 0.48), (0.4, 0.1, 0.50)])
def test_few_labels_on_a_rolled_up_sheet_beat_a_plain_process(noise, share, bar):
    """The claim of the paper, at the sheet's numbers or below."""
    X, Y = spiral(1500, 0)
    rng = np.random.default_rng(1)
    labelled = rng.permutation(1500)[: int(1500 * share)]
    known = np.full_like(Y, np.nan)
    known[labelled] = Y[labelled] + noise * rng.standard_normal((len(labelled), 3))
    rest = np.setdiff1d(np.arange(1500), labelled)
    gp = VectorFieldGPRegressor(n_eigenpairs=100).fit(X, known)
    plain = GaussianProcessRegressor(ConstantKernel() * RBF() + WhiteKernel(), random_state=0)
    plain.fit(X[labelled], known[labelled])
    errors = [
        np.linalg.norm(model.predict(X[rest]) - Y[rest]) / np.linalg.norm(Y[rest])
        for model in (gp, plain)
    ]
    assert errors[0] < bar
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(
    "change, y_change, message",
    [
        ({}, lambda y: y[:, :2], r"\(n_samples,\).*got \(30, 2\)"),
        ({}, lambda y: np.nan * y, "NaN everywhere"),
        ({}, lambda y: np.where(y > 0, np.inf, y), "infinity"),
        ({}, lambda y: y[:-1], "inconsistent numbers of samples"),
        ({}, lambda y: None, "requires y"),
        ({}, lambda y: y[:, :, None], "dim"),
        ({"intrinsic_dim": 4}, lambda y: y, "intrinsic_dim=4"),
        ({"noise": 0.0}, lambda y: y, "noise"),
        ({"length_scale": -1.0}, lambda y: y, "length_scale"),
        ({"kernel": "rbf"}, lambda y: y, "kernel"),
    ],
)
def test_bad_input_is_refused_in_words(change, y_change, message):
    X, _, Y = sphere_field(30)
    with pytest.raises(ValueError, match=message):
        VectorFieldGPRegressor(**{"n_eigenpairs": 8, **change}).fit(X, y_change(Y))


def test_other_bad_input():
    X, _, Y = sphere_field(30)
    with pytest.warns(UserWarning, match="n_eigenpairs=500 is more than there are, 60"):
        gp = VectorFieldGPRegressor(n_eigenpairs=500).fit(X, Y)
    assert len(gp.eigenvalues_) == 60
    with pytest.raises(RuntimeError, match="At most one"):
        gp.predict(X, return_std=True, return_cov=True)
    with pytest.raises(ValueError, match="sample"):
        VectorFieldGPRegressor().fit(X[:1], Y[:1])
    with pytest.warns(UserWarning, match="n_neighbors=30 .* n_samples = 30; all 29 others"):
        assert VectorFieldGPRegressor(30, 8).fit(X, Y).n_neighbors_ == 29


def test_nothing_but_zeros_and_constant_features():
    X, _, Y = sphere_field(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gp = VectorFieldGPRegressor(n_eigenpairs=10).fit(X, 0 * Y)
        assert_array_equal(gp.predict(X), 0 * Y)
        wide = np.column_stack([X, np.full(60, 5.0)])
        flat = VectorFieldGPRegressor(n_eigenpairs=10).fit(wide, np.column_stack([Y, 0 * X[:, 0]]))
    assert abs(flat.predict(wide)[:, 3]).max() < 1e-12


def test_all_labels_but_one_point():
    X, _, Y = sphere_field(100)
    one = np.full_like(Y, np.nan)
    one[40] = Y[40]
    gp = VectorFieldGPRegressor(n_eigenpairs=20).fit(X, one)
    mean, std = gp.predict(X, return_std=True)
    assert np.isfinite(mean).all() and np.isfinite(std).all()


def torus(n, rng):
    inner, outer = 0.4, 1.0
    polar = rng.uniform(0, 2 * np.pi, 4 * n)
    keep = rng.uniform(size=4 * n) < (outer + inner * np.cos(polar)) / (outer + inner)
    polar, around = polar[keep][:n], rng.uniform(0, 2 * np.pi, n)
    out = outer + inner * np.cos(polar)
    return np.c_[out * np.cos(around), out * np.sin(around), inner * np.sin(polar)]


@pytest.mark.parametrize("shape", ["sphere", "torus"])
@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_intervals_cover_errors_of_the_model_too(shape, noise):
    """Posterior alone: .2 to .9, and fewer with more points. 95 % are wanted."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((700, 3))
    X = X / np.linalg.norm(X, axis=1, keepdims=True) if shape == "sphere" else torus(700, rng)
    truth = np.cross([0, 0, 1], X)
    Y = truth + noise * rng.standard_normal(truth.shape)
    gp = VectorFieldGPRegressor().fit(X[:500], Y[:500])
    mean, std = gp.predict(X[500:], return_std=True)
    covered = np.mean(np.abs(mean - truth[500:]) <= 1.96 * std)
    assert 0.87 < covered < 0.995
    _, cov = gp.predict(X[500:], return_cov=True)
    assert_allclose(np.sqrt(np.einsum("ndd->nd", cov)), std, rtol=1e-10)


@pytest.mark.parametrize("scalar", [False, True])
def test_std_grows_away_from_the_cloud(scalar):
    X, Y, noisy = sphere_field(200)
    gp = VectorFieldGPRegressor().fit(X, noisy[:, 0] if scalar else noisy)
    ray = np.array([[1.0, 1.5, 3.0, 1e3, 1e6]]).T * X[:1]
    std = gp.predict(ray, return_std=True)[1].reshape(5, -1).mean(axis=1)
    assert std[0] < std[1] < std[2]
    assert std[2:].min() > 3 * std[0] and std[2:].min() > 0.8 * Y.std()


def test_score_is_over_known_rows():
    from sklearn.model_selection import cross_val_score

    X, _, noisy = sphere_field(300)
    noisy[::3] = np.nan
    gp = VectorFieldGPRegressor()
    assert np.isfinite(cross_val_score(gp, X, noisy, cv=3)).all()
    gp.fit(X, noisy)
    known = ~np.isnan(noisy).any(axis=1)
    assert gp.score(X, noisy) == gp.score(X[known], noisy[known])
    with pytest.raises(ValueError, match="nothing to score"):
        gp.score(X[~known], noisy[~known])


@pytest.mark.parametrize("value", [0.0, 3.0, 3e6, 1 / 3])
def test_a_constant_is_known_without_doubt(value):
    X = sphere_field(100)[0]
    mean, std = VectorFieldGPRegressor().fit(X, np.full(100, value)).predict(X, return_std=True)
    assert_allclose(mean, value, rtol=1e-12)
    assert_array_equal(std, 0.0)


def test_usual_model_error_is_what_smooth_fields_lose():
    from sklr.gaussian_process._model_error import _LEAST_SHARE, usual_share

    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((50, 20)))[0]
    smooth = basis[:, :10] @ rng.standard_normal((10, 3))
    rough = smooth + basis[:, 10:] @ rng.standard_normal((10, 3))
    assert usual_share(smooth, basis[:, :10]) == _LEAST_SHARE
    wanted = 1 - (smooth**2).sum() / (rough**2).sum()
    assert_allclose(usual_share(rough, basis[:, :10]), wanted)
    turned = rough @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    assert_allclose(usual_share(turned, basis[:, :10]), wanted)
    assert usual_share(0 * smooth, basis) == _LEAST_SHARE
