"""Fields on grids and what an equation makes of them: flow in a porous medium, waves, vortices."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu
from sklearn.utils import check_random_state

# Random fields have so many waves along an axis at any grid: it only samples them.
_N_WAVES = 32
# Longest step of the solvers in time, in cells over the largest speed.
_COURANT = 0.8


def make_darcy(n_samples=100, *, size=32, coefficients=(3.0, 12.0), random_state=None):
    """Make permeabilities of two values, and the pressure that a constant source makes in them.

    The equation is -div(a grad u) = 1 in the unit square, with u = 0 on its boundary.

    Parameters
    ----------
    n_samples : int, default=100
        Number of fields.
    size : int, default=32
        Grid points along each axis, with the boundary; at least 3.
    coefficients : tuple (low, high) of float, default=(3.0, 12.0)
        The permeability is `high` where a smooth Gaussian field is at least 0, else `low`.
    random_state : int, RandomState instance or None, default=None
        Seed. The same one gives the same regions at every `size`.

    Returns
    -------
    X : ndarray of shape (n_samples, size, size)
        Permeabilities.
    y : ndarray of shape (n_samples, size, size)
        Pressures.

    Raises
    ------
    ValueError
        `n_samples` is below 1, `size` below 3, or a coefficient not a positive number.

    See Also
    --------
    sklr.neural_network.LatentSpectralRegressor : Learns such solutions.
    make_burgers : Fields of one dimension.
    make_navier_stokes : Fields that go on in time.

    Notes
    -----
    The Gaussian field has the covariance (9 - Laplace)^-2 with zero slope at the boundary. Its mean
    is drawn too (some generators leave it out), so that of a quarter of the fields the permeability
    is one number everywhere: there a model errs by less, and such fields are the same. Five points
    around each, with harmonic means of the coefficients between them; a direct solver costs some
    milliseconds a field at size 32. The error is of second order in the distance of points where
    the coefficient is smooth, of first order at jumps.

    References
    ----------
    .. [1] Z. Li, N. Kovachki, K. Azizzadenesheli, B. Liu, K. Bhattacharya, A. Stuart and A.
       Anandkumar, "Fourier neural operator for parametric partial differential equations",
       ICLR 2021, arXiv:2010.08895.

    Examples
    --------
    >>> from sklr.datasets import make_darcy
    >>> X, y = make_darcy(5, size=16, random_state=0)
    >>> X.shape, y.shape
    ((5, 16, 16), (5, 16, 16))
    """
    _check_counts(n_samples=(n_samples, 1), size=(size, 3))
    low, high = coefficients
    _check_positive(low=low, high=high)
    rng = check_random_state(random_state)
    waves = np.arange(_N_WAVES)
    decay = 1 / (np.pi**2 * (waves[:, None] ** 2 + waves**2) + 9)
    drawn = rng.standard_normal((n_samples, _N_WAVES, _N_WAVES)) * decay
    cosines = np.cos(np.pi * np.outer(np.linspace(0, 1, size), waves))
    X = np.where(cosines @ drawn @ cosines.T >= 0, float(high), float(low))
    return X, np.stack([_solve_darcy(a, np.ones_like(a)) for a in X])


def _solve_darcy(a, f):
    """Solve -div(a grad u) = f on a square grid of points, with u = 0 on its boundary."""
    size = len(a)
    h = 1 / (size - 1)
    number = np.arange(size * size).reshape(size, size)
    rows, columns, values = [], [], []
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        between = (2 * a[first] * a[second] / (a[first] + a[second])).ravel() / h**2
        i, j = number[first].ravel(), number[second].ravel()
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-between, -between, between, between]
    places = np.concatenate(rows), np.concatenate(columns)
    matrix = coo_array((np.concatenate(values), places), (size**2, size**2)).tocsc()
    inner = number[1:-1, 1:-1].ravel()
    u = np.zeros(size * size)
    u[inner] = splu(matrix[inner][:, inner], permc_spec="MMD_AT_PLUS_A").solve(f.ravel()[inner])
    return u.reshape(size, size)


def make_burgers(n_samples=100, *, size=128, viscosity=0.01, time=1.0, random_state=None):
    """Make waves on a circle, and what becomes of them as they steepen and dissipate.

    The equation is u_t + u u_x = viscosity u_xx on the unit circle.

    Parameters
    ----------
    n_samples : int, default=100
        Number of fields.
    size : int, default=128
        Grid points, at least 2; the last lies one step before the first.
    viscosity : float, default=0.01
        Viscosity. The solver's grid, and so its time, grows as it falls.
    time : float, default=1.0
        Time between input and output.
    random_state : int, RandomState instance or None, default=None
        Seed. The same one gives the same waves at every `size`.

    Returns
    -------
    X : ndarray of shape (n_samples, size)
        Waves at the begin: smooth Gaussian fields of standard deviation near .5 and mean 0.
    y : ndarray of shape (n_samples, size)
        Waves at the end.

    Raises
    ------
    ValueError
        A count is too small, or `viscosity` or `time` is not a positive number.

    See Also
    --------
    make_darcy : Fields of two dimensions.
    sklr.neural_network.LatentSpectralRegressor : Learns such solutions.

    Notes
    -----
    Fourier series of 256 points (more where `size` is larger or `viscosity` below .01), products
    without aliasing, viscosity exact, Runge-Kutta steps of fourth order.

    References
    ----------
    .. [1] Z. Li, N. Kovachki, K. Azizzadenesheli, B. Liu, K. Bhattacharya, A. Stuart and A.
       Anandkumar, "Fourier neural operator for parametric partial differential equations",
       ICLR 2021, arXiv:2010.08895.

    Examples
    --------
    >>> from sklr.datasets import make_burgers
    >>> X, y = make_burgers(5, size=64, random_state=0)
    >>> X.shape, y.shape
    ((5, 64), (5, 64))
    """
    _check_counts(n_samples=(n_samples, 1), size=(size, 2))
    _check_positive(viscosity=viscosity, time=time)
    rng = check_random_state(random_state)
    k = np.arange(1, _N_WAVES + 1)
    decay = 1 / ((2 * np.pi * k) ** 2 + 25)
    decay *= 0.5 / np.sqrt((decay**2).sum())
    waves = rng.standard_normal((2, n_samples, _N_WAVES)) * decay
    n = max(256, size, 2 * round(1.28 / viscosity))
    spectrum = np.zeros((n_samples, n // 2 + 1), dtype=complex)
    spectrum[:, 1 : _N_WAVES + 1] = (waves[0] - 1j * waves[1]) * n / 2
    after = _solve_burgers(spectrum, n, viscosity, time)
    return _on_points(spectrum, n, size), _on_points(after, n, size)


def _solve_burgers(spectrum, n, viscosity, time):
    """Return the Fourier coefficients (of n points) after a time."""
    k = 2j * np.pi * np.arange(n // 2 + 1)
    kept = np.arange(n // 2 + 1) < n / 3

    def flow(s):
        return -0.5 * k * kept * np.fft.rfft(np.fft.irfft(s, n) ** 2)

    fastest = np.abs(np.fft.irfft(spectrum, n)).max()  # it only falls
    n_steps = _n_steps(time, fastest, n)
    return _advance(spectrum * kept, flow, viscosity * (k**2).real, time / n_steps, n_steps)


def _on_points(spectrum, n, size):
    """Return the values at other equidistant points than those of a Fourier series."""
    waves = np.exp(2j * np.pi * np.outer(np.arange(n // 2 + 1), np.arange(size) / size))
    twice = np.where((np.arange(n // 2 + 1) == 0) | (2 * np.arange(n // 2 + 1) == n), 1.0, 2.0)
    return ((spectrum * twice) @ waves).real / n


def make_navier_stokes(
    n_samples=20, *, size=32, n_frames=20, dt=1.0, viscosity=1e-3, forcing=0.1, random_state=None
):
    """Make films of the vorticity of a stirred fluid on a torus.

    The equation is w_t + v . grad w = viscosity Laplace w + forcing (sin s + cos s), where
    s = 2 pi (x + y), and v is the velocity without divergence whose vorticity is w.

    Parameters
    ----------
    n_samples : int, default=20
        Number of films.
    size : int, default=32
        Grid points along each axis, at least 8; also those of the solver.
    n_frames : int, default=20
        Frames of a film; the first is at time 0.
    dt : float, default=1.0
        Time between frames.
    viscosity : float, default=1e-3
        Viscosity; at 0 energy and enstrophy of a fluid that is not stirred are kept.
    forcing : float, default=0.1
        Strength of the stirring.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    frames : ndarray of shape (n_samples, size, size, n_frames)
        Vorticity; its mean is 0 in every frame.

    Raises
    ------
    ValueError
        A count is too small, `dt` is not positive, `viscosity` or `forcing` negative.

    See Also
    --------
    make_darcy : Fields without time.
    sklr.neural_network.LatentSpectralRegressor : Learns to go on with a film.

    Notes
    -----
    Fourier series, products without aliasing (the upper third of the waves is 0), viscosity exact,
    Runge-Kutta steps of fourth order. Below a viscosity of 1e-3 the waves of 32 points do not hold
    what the equation makes: take a larger `size`, and every second point.

    References
    ----------
    .. [1] Z. Li, N. Kovachki, K. Azizzadenesheli, B. Liu, K. Bhattacharya, A. Stuart and A.
       Anandkumar, "Fourier neural operator for parametric partial differential equations",
       ICLR 2021, arXiv:2010.08895.

    Examples
    --------
    >>> from sklr.datasets import make_navier_stokes
    >>> frames = make_navier_stokes(2, size=16, n_frames=4, random_state=0)
    >>> X, y = frames[..., :3], frames[..., 3:]
    >>> X.shape, y.shape
    ((2, 16, 16, 3), (2, 16, 16, 1))
    """
    _check_counts(n_samples=(n_samples, 1), size=(size, 8), n_frames=(n_frames, 1))
    _check_positive(dt=dt)
    for name, value in (("viscosity", viscosity), ("forcing", forcing)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    rng = check_random_state(random_state)
    squared = (2 * np.pi) ** 2 * (_waves(size)[0] ** 2 + _waves(size)[1] ** 2)
    noise = np.fft.rfft2(rng.standard_normal((n_samples, size, size)) * size)
    start = noise * np.sqrt(2) * 7**1.5 * (squared + 49.0) ** -1.25
    start[:, 0, 0] = 0
    x = np.arange(size) / size
    s = 2 * np.pi * (x[:, None] + x)
    stirring = np.fft.rfft2(forcing * (np.sin(s) + np.cos(s)))
    return _solve_vorticity(start, stirring, size, viscosity, dt, n_frames)


def _solve_vorticity(spectrum, stirring, size, viscosity, dt, n_frames):
    """Return frames of the vorticity from its Fourier coefficients at time 0."""
    a, b = _waves(size)
    kept = (np.abs(a) < size / 3) & (np.abs(b) < size / 3)
    squared = (2 * np.pi) ** 2 * (a**2 + b**2)
    inverse = np.where(squared > 0, 1 / np.where(squared > 0, squared, 1), 0)
    grid = (size, size)

    def back(s):
        return np.fft.irfft2(s, grid)

    def velocity(s):
        return back(2j * np.pi * b * inverse * s), back(-2j * np.pi * a * inverse * s)

    def flow(s):
        v, w = velocity(s)
        carried = v * back(2j * np.pi * a * s) + w * back(2j * np.pi * b * s)
        return kept * (stirring - np.fft.rfft2(carried))

    spectrum = spectrum * kept
    frames = [back(spectrum)]
    for _ in range(n_frames - 1):
        fastest = max(float(np.abs(part).max()) for part in velocity(spectrum))
        n_steps = _n_steps(dt, fastest, size)
        spectrum = _advance(spectrum, flow, -viscosity * squared, dt / n_steps, n_steps)
        frames.append(back(spectrum))
    return np.stack(frames, axis=-1)


def _waves(size):
    """Return the wave numbers of ``rfft2`` along both axes."""
    return np.fft.fftfreq(size, 1 / size)[:, None], np.fft.rfftfreq(size, 1 / size)[None]


def _n_steps(time, fastest, n):
    return max(4, int(np.ceil(time * max(fastest, 1e-3) * n / _COURANT)))


def _advance(s, flow, decay, step, n_steps):
    """Make steps of s' = decay * s + flow(s): the decay exact, the flow by Runge-Kutta."""
    half = np.exp(decay * step / 2)
    for _ in range(n_steps):
        a = flow(s)
        b = flow(half * (s + step / 2 * a))
        c = flow(half * s + step / 2 * b)
        d = flow(half * (half * s + step * c))
        s = half**2 * s + step / 6 * (half**2 * a + 2 * half * (b + c) + d)
    return s


def _check_counts(**counts):
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def _check_positive(**numbers):
    for name, value in numbers.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value!r}")
