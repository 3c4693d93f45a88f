"""Alternating minimisation over observed entries: the engine of the imputer and the regressor."""

from dataclasses import dataclass, replace

import numpy as np

from sklr.decomposition import _completion_plain as plain
from sklr.decomposition._completion_data import LOSSES, Settings, is_small, run
from sklr.decomposition._completion_start import (
    cut_that_keeps,
    median_size,
    spectral_start,
    start_biases,
)
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread

# Where "absolute" turns from square to absolute value, in robust standard deviations of the
# residuals: nearly the absolute value itself.
_ABSOLUTE_DELTA = 0.1
# Robust losses start from nearly absolute values with at least this ridge: with less, a row or
# column of a small table can take a factor for its outliers, and keeps it.
_FAR_RIDGE = 1.0
_FAR_SWEEPS = 20
# "huber" then goes on with squares, and leaves out residuals beyond these parts of the values'
# spread, or _CUT deviations, one after the other. What is wrong by less than the last part pulls no
# more than _LAST_DELTA deviations do.
_CUTS = (1.0, 0.5, 0.2)
_NEAR_SWEEPS = 10
_CUT = 3.5
_LAST_DELTA = 2.5
# What a ridge leaves is no outlier: neither left out nor weighed down, more would be left. That is
# about one part of each row, with tails.
_TAIL_CUT, _TAIL_DELTA = 20.0, 10.0
# Where the noise is estimated it starts at this part of the values' variance: from all of it, small
# tables did not get out of a model without factors.
_FIRST_NOISE = 0.2
# Below this part there is none.
_NO_NOISE = 1e-12
# Up to here rows are solved to the end by their normal equations, then by CG.
_EXACT_UP_TO = 64
# Smallest ratio of eigenvalues of a Gram matrix of which a root is still worth something.
_SINGULAR = 1e-12


def _rotate(F, X, mass):
    """Turn both factors so that the weighted Gram of F is diagonal.

    The shared k x k Gram, per entry: a row with n entries sees n times as much on average.
    """
    share = (mass / max(mass.sum(), 1e-300)).astype(F.dtype)
    spectrum, Q = np.linalg.eigh((F * share[:, None]).T @ F)
    F = F @ Q
    return F, X @ Q, Q, np.maximum(spectrum, 0), share @ F


def scaled(settings, model):
    """Put the ridge in the data's unit.

    Products of factors have that unit, so squares of factors have it too. Weights of the absolute
    loss are around its delta, those of the others around one.
    """
    weight = _unit(settings)
    return replace(
        settings,
        alpha=settings.alpha * model.scale * weight,
        bias_alpha=settings.bias_alpha * weight,
    )


def _unit(settings):
    """What the weight of an entry is about in the loss."""
    return 0.1 if settings.loss == "absolute" else 1.0


def half_sweep(
    half, mass, F, offset, X, bias, model, settings, *, solver, n_steps, tol=0.0, spread=None,
    side=0,
):  # fmt: skip
    """Solve for every row of `half` with the other side fixed; X and bias are written to.

    With `spread`, of which `half` is one side, what F is uncertain by adds to the ridge.

    Returns F, X and the rotation Q that both came out turned by (None for "cholesky"), the loss
    before, and the sum of what the rows' objectives fell by.
    """
    number = model.dtype.type
    out = np.empty((half.n, 2))
    mean = number(model.mean)
    Q = None
    if solver == "cg":
        F, X, Q, spectrum, sums = _rotate(F, X, mass)
    share, more = 1.0, np.empty((0, F.shape[1]), F.dtype)
    if spread is not None:
        if Q is not None:
            spread.turn(Q)
        share, more = spread.share, spread.ridge(side)
    tail = (
        number(settings.alpha * share), number(settings.bias_alpha * share), settings.power,
        settings.fit_bias, LOSSES[settings.loss], number(model.delta), number(model.cut),
        more * number(spread.unit) if spread is not None else more, n_steps, tol,
    )  # fmt: skip
    if solver == "plain":
        plain.solve_rows(half, mean, offset, F, *tail, X, bias, out)
    elif solver == "cg":
        from sklr.decomposition._completion_kernels import cg_rows

        work = 4 * F.shape[1] * (n_steps + 1)
        run(
            cg_rows, half, work, settings.n_jobs, mean, offset, F, spectrum, sums, *tail, X, bias,
            out,
        )  # fmt: skip
    else:
        from sklr.decomposition._completion_kernels import cholesky_rows

        work = F.shape[1] ** 2
        run(cholesky_rows, half, work, settings.n_jobs, mean, offset, F, *tail, X, bias, out)
    if spread is not None:
        spread.update(side, F, X, more, settings.alpha)
    return F, X, Q, out[:, 0].sum(), out[:, 1].sum()


def balanced(U, V):
    """Return factors of the same product whose squares sum to the least: that of its SVD.

    Half-sweeps find this only slowly, since each must keep the product.
    """
    roots = []
    for F in (U, V):
        F = F.astype(np.float64, copy=False)
        spectrum, Q = np.linalg.eigh(F.T @ F)
        if not spectrum[0] > _SINGULAR * spectrum[-1]:
            return U, V
        roots.append((np.sqrt(spectrum), Q))
    (s_u, Q_u), (s_v, Q_v) = roots
    P, s, W = np.linalg.svd((s_u[:, None] * Q_u.T) @ (Q_v * s_v))
    T_u = (Q_u / s_u) @ P * np.sqrt(s)
    T_v = (Q_v / s_v) @ W.T * np.sqrt(s)
    return U @ T_u.astype(U.dtype), V @ T_v.astype(V.dtype)


def _settle_gauge(U, V, model, settings, seen):
    """Move what factors and biases share to where the ridge on it is least.

    Neither the model's values nor, with alternation alone, this division would change quickly.
    Rows and columns without entries keep their zeros.
    """
    if settings.fit_bias:
        for F, G, bias, known in (
            (U, V, model.row_bias, seen[1]),
            (V, U, model.col_bias, seen[0]),
        ):
            # G - 1 a' and bias + F a leave the values alone; the best a is a k x k system.
            left = settings.alpha * known.sum() * np.eye(F.shape[1])
            left += settings.bias_alpha * (F.T @ F)
            right = settings.alpha * G[known].sum(axis=0) - settings.bias_alpha * (F.T @ bias)
            a = np.linalg.solve(left, right).astype(F.dtype)
            G[known] -= a
            bias += F @ a
        for bias, known in ((model.row_bias, seen[0]), (model.col_bias, seen[1])):
            centre = bias[known].mean()
            bias[known] -= centre
            model.mean += float(centre)
    return balanced(U, V)


@dataclass
class _Stage:
    """A stretch of sweeps: where the loss bends, in deviations, and the ridge.

    The loss ends at `cut` parts of the values' spread. `tail` is what a ridge leaves at most.
    """

    delta: float
    settings: Settings
    tol: float
    max_iter: int
    cut: float = np.inf
    tail: float = 1.0


def _stages(given, model):
    """Return the stages of a run, the last of which has the settings that were given."""
    settings = scaled(given, model)
    limit = given.max_iter
    if given.loss == "squared":
        return [_Stage(0.0, settings, given.tol, limit)]
    far = replace(given, loss="absolute", alpha=max(given.alpha, _FAR_RIDGE), power=0.0)
    near = given
    if given.uncertainty:  # is for the end: here it would take outliers for noise
        far = replace(far, alpha=_FAR_RIDGE)
        near = replace(given, alpha=min(given.alpha, _FAR_RIDGE))
    stages = [_Stage(_ABSOLUTE_DELTA, scaled(far, model), 1e-3, _FAR_SWEEPS)]
    if given.loss == "absolute":
        return [*stages, _Stage(_ABSOLUTE_DELTA, settings, given.tol, limit)]
    near = scaled(near, model)
    stages += [_Stage(np.inf, near, 1e-2, _NEAR_SWEEPS, cut) for cut in _CUTS[:-1]]
    return [*stages, _Stage(_LAST_DELTA, settings, given.tol, limit, _CUTS[-1], _TAIL_DELTA)]


@single_blas_thread()
def minimise(rows, cols, settings, rng, *, verbose=0, callback=None):
    """Alternate between rows and columns until the objective stays; return the model."""
    dtype = rows.values.dtype
    largest = float(np.abs(rows.values).max(initial=0.0))
    limit = float(np.sqrt(np.finfo(dtype).max / max(len(rows.values), 1)))
    if largest > limit:
        raise ValueError(
            f"the values reach {largest:.3g}, and alternating minimisation in {dtype.name} "
            f"overflows beyond {limit:.3g} for this shape; scale the values down"
        )
    least = float(np.sqrt(np.finfo(dtype).tiny))
    if 0 < largest < least:
        raise ValueError(
            f"the values reach only {largest:.3g}, and squares of less than {least:.3g} are no "
            f"numbers in {dtype.name}; scale the values up"
        )
    masses = rows.mass(), cols.mass()
    model, clip = start_biases(rows, cols, masses, settings, dtype)
    rank = settings.rank
    if model.scale == 0:
        model.U, model.V = np.zeros((rows.n, rank), dtype), np.zeros((cols.n, rank), dtype)
        model.converged = True
        model.history.append(0.0)
        return model
    stages = _stages(settings, model)
    small = is_small(rows, settings)
    n_sweeps, solver = settings.max_iter, "plain" if small else settings.resolved_solver
    n_steps = settings.n_inner if solver == "cg" else 1
    stage = stages.pop(0)
    settings = stage.settings
    U, V = spectral_start(rows, cols, masses, model, settings, rng, clip)
    eps = np.finfo(dtype).eps
    floor = masses[0].sum() * (16 * eps * model.scale) ** 2
    fewest = masses[0].sum() / max(rows.n, cols.n)
    seen = [mass > 0 for mass in masses]
    spread = None

    def with_spread(share):
        from sklr.decomposition._completion_spread import Spread

        return Spread(
            rows, cols, U, V, settings.alpha, model.scale**2, share=share, unit=_unit(settings)
        )

    if settings.uncertainty and not stages:
        spread = with_spread(_FIRST_NOISE)

    def penalty():
        total, share = 0.0, 1.0 if spread is None else spread.share
        for mass, X, bias in zip(masses, (U, V), (model.row_bias, model.col_bias), strict=True):
            squares = settings.alpha * np.einsum("ij,ij->i", X, X)
            squares += settings.bias_alpha * bias.astype(np.float64) ** 2
            total += mass**settings.power @ squares
        return float(total) * share

    def deviation():
        """Robust standard deviation of the residuals."""
        return 1.4826 * median_size(rows, model, U, V, small)

    def left():
        """What the ridge leaves of a row."""
        spreads = model.row_bias.std() + model.col_bias.std()
        share = 1.0 if spread is None else spread.share
        return 4 * share * (settings.alpha + settings.bias_alpha * spreads) / fewest

    in_stage, size = 0, None
    for sweep in progress(range(n_sweeps), total=n_sweeps, description="sweeps", verbose=verbose):
        if stage.delta:
            size = deviation()
            least = max(stage.tail * left(), 64 * eps * model.scale)
            bend = np.inf if np.isinf(stage.delta) else stage.delta * size
            model.delta = float(max(bend, least))
        before = penalty()
        # With a new rank the columns are solved from the start's V, then the rows from its U.
        U, V, Q, loss, fell_c = half_sweep(
            cols, masses[0], U, model.row_bias, V, model.col_bias, model, settings,
            solver=solver, n_steps=n_steps, spread=spread, side=1,
        )  # fmt: skip
        before += loss
        V, U, _, loss, fell_r = half_sweep(
            rows, masses[1], V, model.col_bias, U, model.row_bias, model, settings,
            solver=solver, n_steps=n_steps, spread=spread, side=0,
        )  # fmt: skip
        fell = fell_c + fell_r
        model.history.append(before - fell)
        settled = True
        if spread is not None:
            # Of a robust loss, the middle of the residuals: outliers are not the noise.
            settled = spread.note_noise(
                loss if size is None else size**2 * masses[0].sum() * spread.unit
            )
            model.noise_share = spread.share
            if Q is None:
                U, V = spread.align(U, V)
        elif settings.alpha > 0 and settings.power == 0:
            U, V = _settle_gauge(U, V, model, settings, seen)
        model.U, model.V = U, V
        if spread is not None:
            model.col_variances = spread.col_variances
        if callback is not None:
            callback(sweep + 1, model)
        if not np.isfinite(before):
            raise ValueError(
                f"alternating minimisation overflowed in sweep {sweep + 1} "
                f"({dtype.name}); scale the values down."
            )
        in_stage += 1
        if spread is not None and sweep:
            # What both sides can exchange goes on with hardly a change of the objective.
            fell = min(fell, abs(model.history[-2] - model.history[-1]))
        stays = (fell <= stage.tol * before and settled) or loss <= floor
        stays = stays or model.noise_share <= _NO_NOISE
        if not stages and stays:
            model.converged = True
            break
        if stages and (stays or in_stage >= stage.max_iter):
            stage, in_stage = stages.pop(0), 0
            settings = stage.settings
            size = deviation()
            if settings.uncertainty and not stages:
                spread = with_spread(min(1.0, (size / model.scale) ** 2))
            if np.isfinite(stage.cut):
                cut = float(max(_CUT * size, _TAIL_CUT * left(), stage.cut * model.scale))
                model.cut = cut_that_keeps(cut, rows, cols, model, U, V, small)
    return model


@single_blas_thread()
def exact_rows(rows, model, settings):
    """Write factors and biases of rows into the model: one regression each, solved to the end."""
    if model.scale == 0:
        settings = replace(settings, alpha=1.0)  # no factors: any ridge will do
    robust = settings.loss != "squared"
    model.U[:] = 0
    model.row_bias[:] = 0
    # Where nothing is known of the rows, every column counts alike in the preconditioner.
    mass = np.ones(len(model.V))
    spread = _known_spread(rows, model, settings)
    small = is_small(rows, settings)
    if settings.rank <= _EXACT_UP_TO or robust or small:
        # Nothing can be left out before something is known of the rows.
        for cut in (np.inf, model.cut) if np.isfinite(model.cut) else (np.inf,):
            half_sweep(
                rows, mass, model.V, model.col_bias, model.U, model.row_bias,
                replace(model, cut=cut), settings, solver="plain" if small else "cholesky",
                n_steps=100 if robust else 1, tol=1e-12, spread=spread,
            )  # fmt: skip
        return
    tol = 1e-22 if model.dtype == np.float64 else 1e-12
    _, U, Q, _, _ = half_sweep(
        rows, mass, model.V, model.col_bias, model.U, model.row_bias, model, settings,
        solver="cg", n_steps=4 * settings.rank, tol=tol, spread=spread,
    )  # fmt: skip
    model.U[:] = U @ Q.T


def _known_spread(rows, model, settings):
    if model.col_variances is None:
        return None
    from sklr.decomposition._completion_spread import KnownSpread

    return KnownSpread(rows, model.col_variances, model.noise_share, _unit(settings))


def leave_one_out(rows, model, settings):
    """Sums of squared and absolute residuals of entries left out of their row's regression."""
    number = model.dtype.type
    out = np.empty((rows.n, 2))
    spread, share, more = _known_spread(rows, model, settings), 1.0, np.empty((0, 1), model.dtype)
    if spread is not None:
        share, more = spread.share, spread.ridge() * number(spread.unit)
    args = (
        number(model.mean), model.col_bias, model.V, number(settings.alpha * share),
        number(settings.bias_alpha * share), settings.power, settings.fit_bias,
        LOSSES[settings.loss], number(model.delta), number(model.cut), more, model.U,
        model.row_bias, out,
    )  # fmt: skip
    if is_small(rows, settings):
        plain.leave_one_out_rows(rows, *args)
    else:
        from sklr.decomposition._completion_kernels import leave_one_out_rows

        run(leave_one_out_rows, rows, settings.rank**2, settings.n_jobs, *args)
    return (float(total) for total in out.sum(axis=0))
