"""Tangent frames and connection Laplacian: flat clouds, the sphere, gauges, transport."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklr.gaussian_process._laplacian_eigenpairs import lowest_eigenpairs
from sklr.geometry import (
    connection_laplacian,
    farthest_point_sampling,
    tangent_frames,
    vector_diffusion,
)
from sklr.geometry._frames import orthogonal_part, principal_axes, scalar_laplacian_of


def fibonacci_sphere(n):
    i = np.arange(n) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    return np.column_stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    )


def random_gauge(frames, rng):
    m = frames.shape[2]
    return frames @ np.linalg.qr(rng.standard_normal((len(frames), m, m)))[0]


def spectrum(L):
    return np.linalg.eigvalsh(L.toarray())


@pytest.mark.parametrize("m", [1, 2, 3])
def test_polar_factor_is_that_of_the_svd(m):
    M = np.random.default_rng(0).standard_normal((200, m, m))
    U, _, Vt = np.linalg.svd(M)
    R = orthogonal_part(M)
    assert_allclose(R, U @ Vt, atol=1e-12)
    assert (np.linalg.det(R) < 0).any() and (np.linalg.det(R) > 0).any()


def test_polar_factor_of_zero_is_orthogonal():
    assert_allclose(orthogonal_part(np.zeros((1, 2, 2)))[0], np.eye(2))


@pytest.mark.parametrize("shape", [(40, 7, 3), (40, 5, 12), (40, 2, 2)])
def test_principal_axes_are_those_of_the_svd(shape):
    points = np.random.default_rng(0).standard_normal(shape)
    axes, spread = principal_axes(points)
    centred = points - points.mean(axis=1, keepdims=True)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    assert_allclose(spread, values**2, atol=1e-10)
    rank = int((values[0] > 1e-8).sum())
    alike = np.einsum("ndm,nmd->nm", axes, vectors)[:, :rank]
    assert_allclose(abs(alike), 1.0, atol=1e-10)


def test_plane_has_the_spectrum_of_the_graph_laplacian_doubled():
    """Also when it is turned in space and every frame has its own random gauge."""
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.uniform(size=(300, 2)), np.zeros(300)])
    X = flat @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    frames = tangent_frames(X)
    assert frames.shape == (300, 3, 2)
    L = connection_laplacian(X, random_gauge(frames, rng))
    assert_allclose(spectrum(L), np.repeat(spectrum(scalar_laplacian_of(L, 300)), 2), atol=1e-11)


def test_sphere_has_no_constant_field_and_the_known_ratios():
    """Eigenvalues 1, 5, 11 six, ten and fourteen times; half the scalar one (hairy ball)."""
    X = fibonacci_sphere(1500)
    L = connection_laplacian(X, n_neighbors=12)
    values, _ = lowest_eigenpairs(L, 30)
    ratio = values / values[0]
    assert values[0] > 0.01
    # The measured spread of a graph of 1500 points; the gaps between groups are ten times it.
    assert_allclose(ratio[:6], 1.0, rtol=0.01)
    assert_allclose(ratio[6:16], 5.0, rtol=0.05)
    assert_allclose(ratio[16:30], 11.0, rtol=0.05)
    scalar, _ = lowest_eigenpairs(scalar_laplacian_of(L, len(X)), 4)
    assert_allclose(values[:6].mean() / scalar[1:4].mean(), 0.5, rtol=0.01)


def test_closed_curve_does_not_see_the_signs_of_its_frames():
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 120))
    X = np.column_stack([np.cos(angle), np.sin(angle), 0.3 * np.sin(2 * angle)])
    frames = random_gauge(tangent_frames(X, 1, n_neighbors=6), rng)
    L = connection_laplacian(X, frames, n_neighbors=6)
    assert_allclose(spectrum(L), spectrum(scalar_laplacian_of(L, 120)), atol=1e-11)


def test_cylinder_has_two_constant_fields():
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 40, endpoint=False), np.arange(8) * 0.15)
    angle, height = angle.ravel(), height.ravel()
    X = np.column_stack([np.cos(angle), np.sin(angle), height])
    around = np.column_stack([-np.sin(angle), np.cos(angle), 0 * angle])
    frames = np.stack([around, np.tile([0.0, 0.0, 1.0], (len(X), 1))], axis=2)
    frames = random_gauge(frames, np.random.default_rng(0))
    L = connection_laplacian(X, frames, n_neighbors=8)
    values = spectrum(L)
    assert_allclose(values, np.repeat(spectrum(scalar_laplacian_of(L, len(X))), 2), atol=1e-11)
    assert abs(values[1]) < 1e-12 < 1e-3 < values[2]


def test_gauge_and_rotation_leave_the_spectrum():
    rng = np.random.default_rng(1)
    X = fibonacci_sphere(150)
    frames = tangent_frames(X)
    wanted = spectrum(connection_laplacian(X, frames))
    assert_allclose(
        spectrum(connection_laplacian(X, random_gauge(frames, rng))), wanted, atol=1e-11
    )
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    # Points on a sphere have ties among their neighbours only by accident.
    assert_allclose(spectrum(connection_laplacian(X @ turn)), wanted, atol=1e-9)


def test_laplacian_is_symmetric_positive_semidefinite_with_given_weights():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    weights = np.abs(rng.standard_normal((60, 60)))
    weights = weights + weights.T
    L = connection_laplacian(X, adjacency=weights).toarray()
    assert_allclose(L, L.T, atol=0)
    assert np.linalg.eigvalsh(L)[0] > -1e-9
    degree = weights.sum(axis=1) - np.diag(weights)
    m = len(L) // 60
    assert_allclose(np.diag(L), np.repeat(degree, m))


@pytest.mark.parametrize("m", [1, 2, 3])
def test_dimension_is_found(m):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(400, m)) @ np.linalg.qr(rng.standard_normal((6, 6)))[0][:m]
    X += 1e-3 * rng.standard_normal(X.shape)
    assert tangent_frames(X).shape == (400, 6, m)


def test_frames_are_orthonormal_and_tangent():
    X = fibonacci_sphere(2000)
    frames = tangent_frames(X)
    gram = np.einsum("nda,ndb->nab", frames, frames)
    assert_allclose(gram, np.tile(np.eye(2), (2000, 1, 1)), atol=1e-12)
    # Neighbours are about 0.1 apart: second order in that.
    assert abs(np.einsum("nd,ndm->nm", X, frames)).max() < 0.05


def test_equal_points_have_frames_all_the_same():
    frames = tangent_frames(np.ones((20, 3)), n_neighbors=5)
    assert frames.shape == (20, 3, 1)
    assert_allclose(np.linalg.norm(frames, axis=1), 1.0)


def test_diffusion_keeps_a_constant_field_and_fills_unknown_vectors():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(200, 2))
    frames = random_gauge(tangent_frames(X, 2), rng)
    L = connection_laplacian(X, frames, n_neighbors=8)
    V = np.tile([0.6, -0.3], (200, 1))
    # expm_multiply works to single rounding of its terms.
    assert_allclose(vector_diffusion(V, L, 0.5, frames=frames), V, atol=1e-9)
    V[5:] = np.nan
    filled = vector_diffusion(V, L, 5.0, frames=frames)
    assert_allclose(filled, np.tile([0.6, -0.3], (200, 1)), atol=1e-6)
    assert np.isnan(V[5:]).all()
    coordinates = np.einsum("ndm,nd->nm", frames, V)
    inside = vector_diffusion(coordinates, L, 5.0)
    assert_allclose(np.einsum("ndm,nm->nd", frames, inside), filled, atol=1e-9)


def test_diffusion_makes_a_noisy_field_smoother():
    rng = np.random.default_rng(0)
    X = fibonacci_sphere(600)
    Y = np.cross([0, 0, 1], X)
    frames = tangent_frames(X)
    L = connection_laplacian(X, frames)
    noisy = Y + 0.5 * rng.standard_normal(Y.shape)
    smooth = vector_diffusion(noisy, L, 0.3, frames=frames)
    alignment = (smooth * Y).sum(axis=1) / np.linalg.norm(smooth, axis=1)
    before = (noisy * Y).sum(axis=1) / np.linalg.norm(noisy, axis=1)
    assert alignment.mean() > before.mean() + 0.1


def test_farthest_points_cover_evenly():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.standard_normal((500, 2)) * 0.01, rng.uniform(-1, 1, (100, 2))])
    chosen = farthest_point_sampling(X, 40)
    assert len(set(chosen)) == 40
    assert_array_equal(farthest_point_sampling(X, 10), chosen[:10])
    gaps = np.linalg.norm(X[:, None] - X[chosen], axis=2).min(axis=1)
    among = np.linalg.norm(X[chosen][:, None] - X[chosen], axis=2) + 9 * np.eye(40)
    # What is not chosen is nearer to a chosen point than the chosen ones are to each other.
    assert gaps.max() <= among.min()
    assert farthest_point_sampling(X, 1, start=-1)[0] == 599
    assert sorted(farthest_point_sampling(np.ones((4, 1)), 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda X: tangent_frames(X, n_neighbors=30), "n_neighbors=30 .* n_samples = 30"),
        (lambda X: tangent_frames(X, n_neighbors=0), "n_neighbors must be an integer >= 1"),
        (lambda X: tangent_frames(X, 4), "n_dims=4 is above"),
        (lambda X: tangent_frames(X, "two"), "'two'"),
        (lambda X: tangent_frames(X, explained_variance=1.5), "explained_variance .* 1.5"),
        (lambda X: tangent_frames(X[:1]), "1 sample"),
        (lambda X: tangent_frames(np.where(X > 1, np.nan, X)), "NaN"),
        (lambda X: connection_laplacian(X, np.ones((30, 2, 2))), r"\(30, 3, n_dims\)"),
        (lambda X: connection_laplacian(X, adjacency=np.ones((3, 3))), r"\(30, 30\)"),
        (lambda X: connection_laplacian(X, adjacency=-np.ones((30, 30))), "not negative"),
        (
            lambda X: connection_laplacian(X, adjacency=np.triu(np.ones((30, 30)))),
            "adjacency must be symmetric",
        ),
        (lambda X: farthest_point_sampling(X, 31), "n_points=31"),
        (lambda X: farthest_point_sampling(X, 3, start=30), "start"),
        (lambda X: vector_diffusion(X, connection_laplacian(X), 0), "t must be .* got 0"),
        (lambda X: vector_diffusion(X[:7], connection_laplacian(X), 1.0), "multiple of 7"),
        (lambda X: vector_diffusion(X[:, :1], connection_laplacian(X), 1.0), "pass frames"),
        (lambda X: vector_diffusion(np.nan * X, connection_laplacian(X), 1.0), "nothing"),
    ],
)
def test_bad_input_is_refused_in_words(call, message):
    X = np.random.default_rng(0).standard_normal((30, 3))
    with pytest.raises(ValueError, match=message):
        call(X)
