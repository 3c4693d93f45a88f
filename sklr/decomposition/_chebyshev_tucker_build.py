"""Chebyshev-Tucker coefficients of a function: on the whole grid, and from fibres of it."""

import inspect
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy.linalg import lu_factor, lu_solve, qr

from sklr.decomposition._chebyshev import (
    all_coefficients,
    cheb_points,
    cheb_values_to_coefficients,
    series,
    tail,
)
from sklr.decomposition._tucker import MAX_CORE, hosvd, moderate, rank_of, singular
from sklr.utils._threads import single_blas_thread

FIRST_DEGREE = 17
# Nodes of the largest grid.
MAX_NODES = 20_000_000
# Points that a function gets in one call.
_CHUNK = 65_536
N_CHECKS = 1000
_MAX_ROUNDS = 8
# Points that are evaluated at a time, and rows of the core that are multiplied with them.
_BLOCK = 128
_ROWS = 512


class Sampler:
    """A function of d coordinates, called on arrays; counts calls and looks at what comes back."""

    def __init__(self, func, bounds, vectorized):
        self.func, self.bounds, self.vectorized = func, bounds, vectorized
        self.n_evaluations = 0
        self.largest = 0.0
        try:
            inspect.signature(func).bind(*range(len(bounds)))
        except TypeError as exc:
            raise ValueError(
                f"func cannot be called with {len(bounds)} coordinates, as many as bounds has "
                f"rows: {exc}."
            ) from None
        except ValueError:  # no signature to look at
            pass

    def __call__(self, columns):
        """Return the values at points given by d arrays (n,)."""
        n = len(columns[0])
        out = np.empty(n)
        for start in range(0, n, _CHUNK):
            part = [np.ascontiguousarray(c[start : start + _CHUNK]) for c in columns]
            out[start : start + _CHUNK] = self._values(part)
        self.n_evaluations += n
        self.largest = max(self.largest, float(np.abs(out).max(initial=0.0)))
        return out

    def _values(self, part):
        n = len(part[0])
        if self.vectorized:
            try:
                values = np.asarray(self.func(*part))
            except (TypeError, ValueError) as exc:
                exc.add_note(
                    f"func was called with arrays of shape ({n},). Pass vectorized=False if it "
                    "takes single points."
                )
                raise
        else:
            values = np.asarray([self.func(*map(float, point)) for point in zip(*part)])
        if values.dtype.kind not in "biuf":
            raise ValueError(f"func must return real numbers, got values of dtype {values.dtype}.")
        if values.ndim > 1 and values.shape[0] == n:
            raise ValueError(
                f"func must return one number for each point, got {values.shape[1:]} numbers: "
                "compress each output by itself, [ChebyshevTucker().fit_function(lambda *x, j=j: "
                f"func(*x)[:, j], bounds) for j in range({values.shape[1]})]."
                if self.vectorized
                else f"func must return one number, got an array of shape {values.shape[1:]}: "
                "compress each output by itself."
            )
        if values.shape not in ((), (n,)):
            raise ValueError(
                f"func must return an array of the shape of its coordinates, ({n},), or one "
                f"number; got shape {values.shape}. Pass vectorized=False if it takes single "
                f"points."
            )
        if not np.isfinite(values).all():
            values = np.broadcast_to(values, n)
            i = int(np.flatnonzero(~np.isfinite(values))[0])
            point = tuple(float(c[i]) for c in part)
            raise ValueError(
                f"func is {values[i]} at {point}: it must be finite on the whole box "
                f"{[tuple(b) for b in self.bounds.tolist()]}."
            )
        return values

    def on_grid(self, axes):
        """Return the values on the grid of d arrays of coordinates, row by row of the grid."""
        shape = tuple(len(axis) for axis in axes)
        out = np.empty(int(np.prod(shape)))
        inner = [np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*axes[1:], indexing="ij")]
        n_inner = int(np.prod(shape[1:]))
        step = max(1, _CHUNK // n_inner)
        for start in range(0, shape[0], step):
            rows = axes[0][start : start + step]
            columns = [np.repeat(rows, n_inner), *(np.tile(a, len(rows)) for a in inner)]
            out[start * n_inner : (start + len(rows)) * n_inner] = self(columns)
        return out.reshape(shape)

    def random(self, n, rng):
        """Draw points of the box, (n, d): every other one denser near its sides.

        Many functions of several coordinates are large in a corner, which uniform points miss.
        """
        return random_points(self.bounds, n, rng)


def random_points(bounds, n, rng):
    """Draw points of a box, (n, d), the odd ones with the density of Chebyshev points."""
    low, high = bounds.T
    unit = rng.random((n, len(low)))
    unit[1::2] = 0.5 - 0.5 * np.cos(np.pi * unit[1::2])
    return np.clip(low + (high - low) * unit, low, high)


@dataclass
class Built:
    """What a build found: the format, and by axis how far its degree resolves the function."""

    core: np.ndarray
    factors: list
    tails: list = field(default_factory=list)


def next_degree(m, cap):
    """Return the next degree whose points include those of `m`, or the cap."""
    return min(2 * m - 1, cap)


def trim(C, tol):
    """Drop trailing coefficients along each axis whose norm is a small share of the tolerance."""
    C, scale = moderate(C)
    threshold = 0.1 * tol * np.linalg.norm(C) / np.sqrt(C.ndim)
    for k in range(C.ndim):
        others = tuple(j for j in range(C.ndim) if j != k)
        sizes = np.sqrt(np.square(C).sum(axis=others))
        C = np.take(C, range(rank_of(sizes, threshold)), axis=k)
    return np.ascontiguousarray(C if scale == 1.0 else C * scale)


def grid_coefficients(sampler, degrees, adaptive, tol, max_degree):
    """Coefficients on the whole grid, its axes refined until their tails are small.

    Returns the coefficients, the tails, and whether the grid got too large before that.
    """
    bounds = sampler.bounds
    axes = [cheb_points(m, b) for m, b in zip(degrees, bounds, strict=True)]
    values = sampler.on_grid(axes)
    while True:
        C = all_coefficients(values)
        scale = np.abs(C).max()
        tails = [tail(np.moveaxis(C, k, 0)) / max(scale, 1e-300) for k in range(C.ndim)]
        wanted = [
            next_degree(m, max_degree) if adaptive and t >= tol else m
            for m, t in zip(values.shape, tails, strict=True)
        ]
        if tuple(wanted) == values.shape:
            return C, tails, False
        if np.prod(wanted, dtype=float) > MAX_NODES:
            return C, tails, True
        values = refine(sampler, values, wanted)


def refine(sampler, values, wanted):
    """Return the values on the grid of the wanted degrees, those of the old grid used again."""
    bounds = sampler.bounds
    axes = [cheb_points(m, b) for m, b in zip(wanted, bounds, strict=True)]
    nested = [m == n or m == 2 * n - 1 for m, n in zip(wanted, values.shape, strict=True)]
    if not all(nested):  # the cap is no power of two plus one
        return sampler.on_grid(axes)
    out = np.empty(wanted)
    parts = [
        [(slice(None), True)] if m == n else [(slice(0, None, 2), True), (slice(1, None, 2), False)]
        for m, n in zip(wanted, values.shape, strict=True)
    ]
    for block in product(*parts):
        where = tuple(piece for piece, _ in block)
        if all(old for _, old in block):
            out[where] = values
        else:
            out[where] = sampler.on_grid([axis[piece] for axis, piece in zip(axes, where)])
    return out


def build_full(sampler, degrees, adaptive, tol, max_degree, ranks, n_iter):
    """Build from all values on the grid; None when the grid would get too large."""
    C, tails, too_large = grid_coefficients(sampler, degrees, adaptive, tol, max_degree)
    if too_large:
        return None
    if adaptive:
        C = trim(C, tol)
    if ranks is not None:
        ranks = [min(r, m) for r, m in zip(ranks, C.shape, strict=True)]
    return Built(*hosvd(C, tol, ranks, n_iter=n_iter), tails)


class Fibres:
    """Values of a function along one axis, through some points of the others."""

    def __init__(self, sampler, k, m):
        self.sampler, self.k = sampler, k
        self.bounds = sampler.bounds[k]
        self.points = np.empty((0, len(sampler.bounds)))
        self.nodes = cheb_points(m, self.bounds)
        self.values = np.empty((m, 0))

    def _along(self, points, nodes):
        n, m = len(points), len(nodes)
        columns = [np.repeat(c, m) for c in points.T]
        columns[self.k] = np.tile(nodes, n)
        return self.sampler(columns).reshape(n, m).T

    def add(self, points):
        """Evaluate along further points."""
        self.values = np.hstack([self.values, self._along(points, self.nodes)])
        self.points = np.vstack([self.points, points])

    def refine(self, m):
        """Go to more nodes; those of before are used again where they are among them."""
        n = len(self.nodes)
        nodes = cheb_points(m, self.bounds)
        if m == 2 * n - 1:
            values = np.empty((m, len(self.points)))
            values[::2] = self.values
            values[1::2] = self._along(self.points, nodes[1::2])
        else:
            values = self._along(self.points, nodes)
        self.nodes, self.values = nodes, values

    def tail(self):
        """Return the tail of the coefficients beside the largest."""
        C = cheb_values_to_coefficients(self.values)
        return tail(C) / max(np.abs(C).max(), 1e-300)

    def basis(self, tol, limit):
        """Orthonormal coefficients that span the fibres to a tolerance, and nodes to pin them at.

        The nodes are the pivots of a QR decomposition of the basis' values: interpolation there
        is about as good as projection.
        """
        C, _ = moderate(cheb_values_to_coefficients(self.values))
        U, s = singular(C)
        rank = min(rank_of(s, tol * np.linalg.norm(s)), limit)
        V = np.ascontiguousarray(U[:, :rank])
        at_nodes = series(self.nodes, V, self.bounds)
        pivots = qr(at_nodes.T, mode="r", pivoting=True, check_finite=False)[1][:rank]
        return V, at_nodes[pivots], self.nodes[pivots]


def build_cross(sampler, degrees, adaptive, tol, max_degree, ranks, shown):
    """Build from fibres: bases of each axis from values along it, the core by interpolation.

    Each round takes fibres through the nodes that pin down the other axes, and through the points
    where the last round was wrong.
    """
    d = len(degrees)
    rng = np.random.default_rng(0)
    fibres = [Fibres(sampler, k, m) for k, m in enumerate(degrees)]
    limits = ranks if ranks is not None else [m if not adaptive else max_degree for m in degrees]
    middle = sampler.bounds.mean(axis=1)
    first = np.vstack([middle, sampler.random(10, rng)])
    for fibre in fibres:
        fibre.add(first)
    checks = sampler.random(N_CHECKS // 2, rng)
    truth = sampler(list(checks.T))
    best, best_error = None, np.inf
    inner = 0.1 * tol / np.sqrt(d)
    for _ in shown(range(_MAX_ROUNDS)):
        bases = _settle_bases(fibres, adaptive, inner, max_degree, limits, rng)
        shape = [V.shape[1] for V, _, _ in bases]
        if np.prod(shape, dtype=float) > MAX_CORE:
            if best is not None:
                break
            raise ValueError(
                f"the ranks {tuple(shape)} that tol={tol:g} asks for make a core of "
                f"{np.prod(shape, dtype=float):.0f} entries, more than {MAX_CORE}: give rank, or "
                "a larger tol. If func is a sum of products, fit_cp is much cheaper."
            )
        core = sampler.on_grid([nodes for _, _, nodes in bases])
        for k, (_, pinned, _) in enumerate(bases):
            core = _solve_mode(core, pinned, k)
        factors = [V for V, _, _ in bases]
        wrong = np.abs(_values(core, factors, sampler.bounds, checks) - truth)
        error = wrong.max() / max(sampler.largest, 1e-300)
        if error < best_error:
            best, best_error = (core, factors), error
        if error <= 2 * tol:
            break
        worst = checks[np.argsort(wrong)[-8:]]
        for fibre in fibres:
            fibre.add(worst)
        checks = sampler.random(len(checks), rng)
        truth = sampler(list(checks.T))
    core, factors = best
    if ranks is not None:
        ranks = [min(r, s) for r, s in zip(ranks, core.shape, strict=True)]
    small, turns = hosvd(core, tol, ranks)
    factors = [V @ W for V, W in zip(factors, turns, strict=True)]
    return Built(small, factors, [fibre.tail() for fibre in fibres])


def _settle_bases(fibres, adaptive, tol, max_degree, limits, rng):
    """Refine degrees and add fibres until the bases have fewer columns than fibres."""
    nodes = None
    for step in range(12):
        for fibre in fibres:
            while adaptive and fibre.tail() >= tol and len(fibre.nodes) < max_degree:
                fibre.refine(next_degree(len(fibre.nodes), max_degree))
        bases = [f.basis(tol, limit) for f, limit in zip(fibres, limits, strict=True)]
        new_nodes = [points for _, _, points in bases]
        short = False
        for k, fibre in enumerate(fibres):
            rank, n = bases[k][0].shape[1], fibre.values.shape[1]
            full = rank > 0.7 * n and rank < min(limits[k], len(fibre.nodes))
            short |= full
            if full or step == 0:
                fibre.add(_crossings(new_nodes, max(rank, 6), rng))
        if not short and step > 0 and nodes is not None:
            return bases
        nodes = new_nodes
    return bases


def _crossings(nodes, n, rng):
    """Draw points whose coordinates are nodes that pin down each axis."""
    return np.column_stack([rng.choice(points, size=n) for points in nodes])


def _solve_mode(core, matrix, k):
    """Divide the core by a matrix along axis k."""
    moved = np.moveaxis(core, k, 0)
    flat = lu_solve(lu_factor(matrix), moved.reshape(len(moved), -1), check_finite=False)
    return np.ascontiguousarray(np.moveaxis(flat.reshape(moved.shape), 0, k))


def _values(core, factors, bounds, points):
    """Return values at a few points, (n,)."""
    return evaluate_unit(core, factors, to_unit(points, bounds))


def to_unit(points, bounds):
    """Return points of the box (n, d), carried to [-1, 1]."""
    low, high = bounds.T
    return (2.0 * points - (low + high)) / (high - low)


def evaluate_unit(core, factors, points):
    """Return values at points of [-1, 1]^d, (n, d), or beyond.

    Points go in blocks that stay in the cache: the polynomials of a block by their recurrence,
    times the coefficients, times the core. No array of all points by degrees is there at any time.
    """
    from sklr.decomposition._chebyshev_tucker_kernels import contract, polynomials

    n, d = points.shape
    out = np.empty(n)
    if n == 0:
        return out
    points = np.ascontiguousarray(points, dtype=np.float64)
    transposed = [np.ascontiguousarray(V.T) for V in factors]
    rows = np.ascontiguousarray(core).reshape(-1, core.shape[-1])
    ranks = np.array([len(V) for V in transposed])
    offsets = np.concatenate([[0], np.cumsum(ranks)])
    bounds = np.concatenate([[0], np.cumsum([len(V) for V in factors])])
    block = min(_BLOCK, n)
    T, F = np.empty((bounds[-1], block)), np.empty((offsets[-1], block))
    W = np.empty((min(_ROWS, len(rows)), block))
    sums, index = np.empty((d, block)), np.empty(d, dtype=np.int64)
    products = [
        (V, T[bounds[k] : bounds[k + 1]], F[offsets[k] : offsets[k + 1]])
        for k, V in enumerate(transposed)
    ]
    starts = [*range(0, n - block, block), n - block]  # the last block is a full one too
    with single_blas_thread():
        for start in starts:
            polynomials(points[start : start + block], bounds, T)
            for V, values, functions in products:
                np.dot(V, values, out=functions)
            sums[:], index[:] = 0.0, 0
            for first in range(0, len(rows), _ROWS):
                some = rows[first : first + _ROWS]
                np.dot(some, products[-1][-1], out=W[: len(some)])
                contract(W[: len(some)], F, offsets, ranks, index, sums)
            out[start : start + block] = sums[0]
    return out
