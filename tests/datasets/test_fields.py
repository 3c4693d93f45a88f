import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklr.datasets import make_burgers, make_darcy, make_navier_stokes
from sklr.datasets._fields import _solve_burgers, _solve_darcy, _solve_vorticity


@pytest.mark.parametrize("size, wanted", [(33, 0.073615), (65, 0.073657)])
def test_darcy_with_constant_permeability(size, wanted):
    u = _solve_darcy(np.ones((size, size)), np.ones((size, size)))
    assert_allclose(u[size // 2, size // 2], wanted, atol=1e-6)  # the limit is 0.0736713


def test_darcy_manufactured_solution_is_of_second_order():
    def error(size):
        x = np.linspace(0, 1, size)
        x, y = np.meshgrid(x, x, indexing="ij")
        a = 2 + x * y
        u = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
        u_x = np.pi * np.cos(np.pi * x) * np.sin(2 * np.pi * y)
        u_y = 2 * np.pi * np.sin(np.pi * x) * np.cos(2 * np.pi * y)
        f = 5 * np.pi**2 * a * u - y * u_x - x * u_y
        return np.abs(_solve_darcy(a, f) - u).max()

    assert error(17) < 0.03
    assert 3.7 < error(17) / error(33) < 4.3


def test_darcy_scales_and_keeps_its_regions_on_every_grid():
    X, y = make_darcy(3, size=17, random_state=0)
    X10, y10 = make_darcy(3, size=17, coefficients=(30, 120), random_state=0)
    assert_allclose(X10, 10 * X)
    assert_allclose(y10, y / 10)
    finer, _ = make_darcy(3, size=33, random_state=0)
    np.testing.assert_array_equal(finer[:, ::2, ::2], X)
    assert set(np.unique(X)) == {3.0, 12.0}
    assert not y[:, 0].any() and not y[:, :, -1].any() and (y[:, 1:-1, 1:-1] > 0).all()


def test_burgers_against_cole_hopf():
    """u = -2 nu phi_x / phi, where phi solves the heat equation."""
    nu, n, time = 0.05, 256, 0.7
    k = 2 * np.pi
    x = np.arange(n) / n

    def exact(t):
        fade = 0.8 * np.exp(-nu * k**2 * t)
        return 2 * nu * k * fade * np.sin(k * x) / (1 + fade * np.cos(k * x))

    found = np.fft.irfft(_solve_burgers(np.fft.rfft(exact(0))[None], n, nu, time), n)[0]
    assert_allclose(found, exact(time), atol=1e-8)


def test_burgers_keeps_the_mean_loses_energy_and_is_the_same_on_every_grid():
    X, y = make_burgers(6, size=128, random_state=0)
    assert_allclose(y.mean(axis=1), X.mean(axis=1), atol=1e-12)
    assert ((y**2).mean(axis=1) < (X**2).mean(axis=1)).all()
    assert 0.3 < X.std() < 0.7
    for size in (64, 32):
        X2, y2 = make_burgers(6, size=size, random_state=0)
        assert_allclose(X2, X[:, :: 128 // size], atol=1e-12)
        assert_allclose(y2, y[:, :: 128 // size], atol=1e-12)


def test_burgers_shift_of_the_frame():
    """A mean velocity moves the solution along."""
    n, nu, time = 256, 0.02, 0.5
    u = 0.3 * np.sin(2 * np.pi * np.arange(n) / n)
    still = np.fft.irfft(_solve_burgers(np.fft.rfft(u)[None], n, nu, time), n)[0]
    moving = np.fft.irfft(_solve_burgers(np.fft.rfft(u + 0.5)[None], n, nu, time), n)[0]
    assert_allclose(moving, np.roll(still, n // 4) + 0.5, atol=1e-7)


def test_taylor_green_vortex_decays_exactly():
    size, nu, dt = 24, 0.01, 0.5
    x = 2 * np.pi * np.arange(size) / size
    w = np.sin(x)[:, None] * np.sin(x)
    frames = _solve_vorticity(np.fft.rfft2(w)[None], 0, size, nu, dt, 4)
    fade = np.exp(-nu * 8 * np.pi**2 * dt * np.arange(4))
    assert_allclose(frames[0], w[..., None] * fade, atol=1e-10)


def test_fluid_without_viscosity_keeps_energy_and_enstrophy():
    frames = make_navier_stokes(
        2, size=24, n_frames=4, dt=0.25, viscosity=0, forcing=0, random_state=0
    )
    assert np.abs(frames[..., 3] - frames[..., 0]).max() > 0.05
    assert_allclose(frames.mean(axis=(1, 2)), 0, atol=1e-12)
    enstrophy = (frames**2).mean(axis=(1, 2))
    assert_allclose(enstrophy, np.repeat(enstrophy[:, :1], 4, axis=1), rtol=1e-5)
    a, b = np.fft.fftfreq(24, 1 / 24)[:, None], np.fft.fftfreq(24, 1 / 24)
    squared = a**2 + b**2
    squared[0, 0] = np.inf
    energy = (np.abs(np.fft.fft2(frames, axes=(1, 2))) ** 2 / squared[None, ..., None]).sum((1, 2))
    assert_allclose(energy, np.repeat(energy[:, :1], 4, axis=1), rtol=1e-5)


def test_stirring_of_a_fluid_at_rest():
    """At first the vorticity grows by the stirring alone, and that is a steady shear."""
    size, nu, dt = 16, 0.01, 0.3
    x = np.arange(size) / size
    s = 2 * np.pi * (x[:, None] + x)
    stirring = 0.1 * (np.sin(s) + np.cos(s))
    rest = np.zeros((1, size, size // 2 + 1), complex)
    frames = _solve_vorticity(rest, np.fft.rfft2(stirring), size, nu, dt, 2)
    rate = nu * 8 * np.pi**2
    assert_allclose(frames[0, ..., 1], stirring * (1 - np.exp(-rate * dt)) / rate, atol=1e-7)


def test_films_begin_smooth_and_are_repeated_by_a_seed():
    frames = make_navier_stokes(2, size=16, n_frames=2, random_state=3)
    np.testing.assert_array_equal(
        frames, make_navier_stokes(2, size=16, n_frames=2, random_state=3)
    )
    assert np.isfinite(frames).all() and 0.1 < frames[..., 0].std() < 1


@pytest.mark.parametrize(
    "make, options, message",
    [
        (make_darcy, {"n_samples": 0}, "n_samples must be an integer of at least 1, got 0"),
        (make_darcy, {"size": 2}, "size must be an integer of at least 3, got 2"),
        (make_darcy, {"coefficients": (0, 1)}, "low must be a positive number, got 0"),
        (make_burgers, {"viscosity": 0}, "viscosity must be a positive number, got 0"),
        (make_burgers, {"time": np.nan}, "time must be a positive number, got nan"),
        (make_navier_stokes, {"size": 4}, "size must be an integer of at least 8, got 4"),
        (make_navier_stokes, {"viscosity": -1}, "viscosity must be a number of at least 0, got -1"),
        (make_navier_stokes, {"n_frames": 0.5}, "n_frames must be an integer of at least 1"),
    ],
)
def test_bad_settings(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
