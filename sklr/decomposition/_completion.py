"""Alternating minimisation over observed entries: the engine of the imputer and the regressor.

`minimise` fits: biases and a sketched SVD to start from (`_completion_start`), then sweeps of a
`Fit`, each of which solves one small regression for every column and one for every row
(`_completion_data`). `exact_rows` finds the factors of new rows.
"""

from dataclasses import dataclass, replace

import numpy as np

from sklr.decomposition._completion_data import RowRegressions
from sklr.decomposition._completion_start import spectral_start, start_biases
from sklr.decomposition._posterior_variances import KnownVariances, PosteriorVariances
from sklr.decomposition._robust_scale import cut_that_keeps, median_size
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
# A noise below this part counts as zero.
_NO_NOISE = 1e-12
# Where less than this part of the variance is left, a default ridge goes down to this many times
# that part, step by step (at once it would let go of what it holds down: components in excess),
# and no further than to the last.
_CLEAN, _RIDGE_OF_NOISE, _RIDGE_STEP, _LEAST_RIDGE = 1e-3, 10.0, 0.1, 1e-8
# Up to here rows are solved to the end by their normal equations, then by CG.
_EXACT_UP_TO = 64
# Smallest ratio of eigenvalues of a Gram matrix of which a root is still worth something.
_SINGULAR = 1e-12


@dataclass
class Stage:
    """A stretch of sweeps: where the loss turns to absolute values, in deviations, and the ridge.

    The loss ends at `cut` parts of the values' spread. `tail` is what a ridge leaves at most.
    """

    delta: float
    settings: object
    tol: float
    max_iter: int
    cut: float = np.inf
    tail: float = 1.0


def scaled(settings, model):
    """Put the ridge in the data's unit.

    Products of factors have that unit, so squares of factors have it too. Weights of the absolute
    loss are around its delta, those of the others around one.
    """
    return replace(
        settings,
        alpha=settings.alpha * model.scale * settings.entry_weight,
        bias_alpha=settings.bias_alpha * settings.entry_weight,
    )


def _stages(given, model):
    """Return the stages of a run, the last of which has the settings that were given."""
    settings = scaled(given, model)
    limit = given.max_iter
    if given.loss == "squared":
        return [Stage(0.0, settings, given.tol, limit)]
    far = replace(given, loss="absolute", alpha=max(given.alpha, _FAR_RIDGE), power=0.0)
    near = given
    if given.uncertainty:  # is for the end: here it would take outliers for noise
        far = replace(far, alpha=_FAR_RIDGE)
        near = replace(given, alpha=min(given.alpha, _FAR_RIDGE))
    stages = [Stage(_ABSOLUTE_DELTA, scaled(far, model), 1e-3, _FAR_SWEEPS)]
    if given.loss == "absolute":
        return [*stages, Stage(_ABSOLUTE_DELTA, settings, given.tol, limit)]
    near = scaled(near, model)
    stages += [Stage(np.inf, near, 1e-2, _NEAR_SWEEPS, cut) for cut in _CUTS[:-1]]
    return [*stages, Stage(_LAST_DELTA, settings, given.tol, limit, _CUTS[-1], _TAIL_DELTA)]


def rotate_to_diagonal(F, X, mass):
    """Rotate both factors so that the weighted Gram of F is diagonal.

    The shared k x k Gram, per entry: a row with n entries sees n times as much on average. Returns
    F, X, the rotation, and the diagonal with the weighted mean of F.
    """
    share = (mass / max(mass.sum(), 1e-300)).astype(F.dtype)
    spectrum, Q = np.linalg.eigh((F * share[:, None]).T @ F)
    F = F @ Q
    return F, X @ Q, Q, (np.maximum(spectrum, 0), share @ F)


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


class Fit:
    """State of a fit: the entries, the model, and what its ridges are measured in.

    Side 0 are the rows, side 1 the columns. `settings` are those of the present stage, with ridges
    in the data's unit. `variances` are there once uncertainty is estimated. New rows alone are a
    fit whose columns are known: their entries are None, and their weights as good as given.
    """

    def __init__(self, by_row, by_column, model, settings, *, masses=None, variances=None):
        self.entries = by_row, by_column
        self.model, self.settings, self.variances = model, settings, variances
        if masses is None:
            masses = by_row.weight_sums(), by_column.weight_sums()
        self.masses = masses
        self.rotation = None

    @property
    def noise_share(self):
        """Part of the values' variance that ridges are measured in."""
        return 1.0 if self.variances is None else self.variances.noise_share

    def start_variances(self, noise_share):
        """Begin to estimate uncertainty and noise."""
        model, settings = self.model, self.settings
        self.variances = PosteriorVariances(
            *self.entries, model.U, model.V, settings.alpha, model.scale**2,
            noise_share=noise_share, entry_weight=settings.entry_weight,
        )  # fmt: skip

    def regressions(self, side, F):
        """Return what the regressions of a side on factors F have in common."""
        model, settings, number = self.model, self.settings, self.model.number
        extra = np.empty((0, F.shape[1]), F.dtype)
        if self.variances is not None:
            extra = self.variances.ridge(side)
        return RowRegressions(
            mean=number(model.mean),
            offset=model.row_bias if side else model.col_bias,
            F=F,
            alpha=number(settings.alpha * self.noise_share),
            bias_alpha=number(settings.bias_alpha * self.noise_share),
            power=settings.power,
            fit_bias=settings.fit_bias,
            robust=settings.loss != "squared",
            delta=number(model.delta),
            cut=number(model.cut),
            extra_ridge=extra,
        )

    def half_sweep(self, side, solver, n_steps, tol=0.0):
        """Solve for every row (side 0) or column (1) with the other side fixed.

        With uncertainty, what the fixed factors are uncertain by adds to the ridge. "cg" leaves
        both factors turned by `rotation`.

        Returns the loss before, and the sum of what the objectives fell by.
        """
        model, entries, variances = self.model, self.entries[side], self.variances
        F, X, bias = model.V, model.U, model.row_bias
        if side:
            F, X, bias = model.U, model.V, model.col_bias
        if solver == "cg":
            F, X, self.rotation, gram = rotate_to_diagonal(F, X, self.masses[1 - side])
            if variances is not None:
                variances.rotate(self.rotation)
        problem, steps = self.regressions(side, F), {"n_steps": n_steps, "tol": tol}
        if solver == "cg":
            out = entries.descend(problem, gram, X, bias, self.settings, **steps)
        else:
            out = entries.solve(problem, X, bias, self.settings, **steps)
        if variances is not None:
            variances.update(side, F, X, self.settings.alpha)
        model.U, model.V = (F, X) if side else (X, F)
        return out[:, 0].sum(), out[:, 1].sum()

    def penalty(self):
        """Ridge of factors and biases."""
        model, settings, total = self.model, self.settings, 0.0
        for mass, X, bias in zip(
            self.masses, (model.U, model.V), (model.row_bias, model.col_bias), strict=True
        ):
            squares = settings.alpha * np.einsum("ij,ij->i", X, X)
            squares += settings.bias_alpha * bias.astype(np.float64) ** 2
            total += mass**settings.power @ squares
        return float(total) * self.noise_share

    def deviation(self):
        """Robust standard deviation of the residuals."""
        return 1.4826 * median_size(self.entries[0], self.model, self.settings)

    def ridge_residual(self):
        """What the ridge leaves of a row."""
        model, settings = self.model, self.settings
        spreads = model.row_bias.std() + model.col_bias.std()
        fewest = self.masses[0].sum() / max(len(mass) for mass in self.masses)
        return 4 * self.noise_share * (settings.alpha + settings.bias_alpha * spreads) / fewest

    def lower_ridge(self, loss):
        """Lower a ridge that would leave more than the noise does; say whether it was.

        On data without noise what is left is the ridge's own doing, and each time less of it.
        """
        model, settings = self.model, self.settings
        if not settings.follow_noise or model.ridge_share <= _LEAST_RIDGE:
            return False
        left = loss / self.masses[0].sum() / model.scale**2
        share = max(_RIDGE_OF_NOISE * left, _RIDGE_STEP * model.ridge_share, _LEAST_RIDGE)
        if left > _CLEAN or share > 0.3 * model.ridge_share:
            return False
        factor = share / model.ridge_share
        model.ridge_share = share
        self.settings = replace(
            settings, alpha=settings.alpha * factor, bias_alpha=settings.bias_alpha * factor
        )
        return True

    def move_shared_part(self):
        """Move what factors and biases share to where the ridge on it is least.

        Neither the model's values nor, with alternation alone, this division would change quickly.
        Rows and columns without entries keep their zeros.
        """
        model, settings = self.model, self.settings
        seen = [mass > 0 for mass in self.masses]
        if settings.fit_bias:
            for F, G, bias, known in (
                (model.U, model.V, model.row_bias, seen[1]),
                (model.V, model.U, model.col_bias, seen[0]),
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
        model.U, model.V = balanced(model.U, model.V)

    def enter(self, stage, *, last):
        """Go over to the next stage of a robust loss: its settings, and where the loss ends."""
        self.settings = stage.settings
        size = self.deviation()
        if self.settings.uncertainty and last:
            self.start_variances(min(1.0, (size / self.model.scale) ** 2))
        if np.isfinite(stage.cut):
            (by_row, by_column), model = self.entries, self.model
            cut = max(_CUT * size, _TAIL_CUT * self.ridge_residual(), stage.cut * model.scale)
            model.cut = cut_that_keeps(float(cut), by_row, by_column.n, model, self.settings)

    def sweep(self, stage, solver):
        """Solve all columns, then all rows; returns a few numbers of it.

        These are the objective before, what it fell by, the loss before the rows were solved, and
        whether the noise is settled.
        """
        model, settings, size = self.model, self.settings, None
        if stage.delta:
            size = self.deviation()
            eps = np.finfo(model.dtype).eps
            least = max(stage.tail * self.ridge_residual(), 64 * eps * model.scale)
            delta = np.inf if np.isinf(stage.delta) else stage.delta * size
            model.delta = float(max(delta, least))
        before = self.penalty()
        n_steps = settings.n_inner if solver == "cg" else 1
        loss, fell = self.half_sweep(1, solver, n_steps)
        before += loss
        loss, fell_too = self.half_sweep(0, solver, n_steps)
        fell += fell_too
        model.history.append(before - fell)
        settled = True
        if self.variances is not None:
            # Of a robust loss, the middle of the residuals: outliers are not the noise.
            total = self.masses[0].sum() * self.variances.entry_weight
            settled = self.variances.estimate_noise(loss if size is None else size**2 * total)
            model.noise_share = self.noise_share
            if solver != "cg":
                model.U, model.V = self.variances.align(model.U, model.V)
            model.col_variances = self.variances.col_variances
        elif settings.alpha > 0 and settings.power == 0:
            self.move_shared_part()
        return before, fell, loss, settled


def _check_range(values):
    """Refuse values whose squares, or their sum, leave the range of their type."""
    info = np.finfo(values.dtype)
    largest = float(np.abs(values).max(initial=0.0))
    limit = float(np.sqrt(info.max / max(len(values), 1)))
    if largest > limit:
        raise ValueError(
            f"the values reach {largest:.3g}, and alternating minimisation in {values.dtype.name} "
            f"overflows beyond {limit:.3g} for this shape; scale the values down"
        )
    least = float(np.sqrt(info.tiny))
    if 0 < largest < least:
        raise ValueError(
            f"the values reach only {largest:.3g}, and squares of less than {least:.3g} underflow "
            f"in {values.dtype.name}; scale the values up"
        )


@single_blas_thread()
def minimise(by_row, by_column, settings, rng, *, verbose=0, callback=None):
    """Alternate between rows and columns until the objective stays; return the model.

    Rows and columns without entries take no part, and have zeros in the model.
    """
    _check_range(by_row.values)
    seen = by_row.seen(), by_column.seen()
    if all(of_side.all() for of_side in seen):
        return _minimise(by_row, by_column, settings, rng, verbose, callback)
    inner = callback and (lambda sweep, model: callback(sweep, model.spread(*seen)))
    args = by_row.without_empty(*seen), by_column.without_empty(*seen[::-1])
    return _minimise(*args, settings, rng, verbose, inner).spread(*seen)


def _minimise(by_row, by_column, settings, rng, verbose, callback):
    model, clip = start_biases(by_row, by_column, settings)
    dtype, n_sweeps = model.dtype, settings.max_iter
    if model.scale == 0:
        model.U = np.zeros((by_row.n, settings.rank), dtype)
        model.V = np.zeros((by_column.n, settings.rank), dtype)
        model.converged = True
        model.history.append(0.0)
        return model
    stages = _stages(settings, model)
    stage = stages.pop(0)
    fit = Fit(by_row, by_column, model, stage.settings)
    solver = settings.resolved_solver if settings.compiles(by_row) else "cholesky"
    model.U, model.V = spectral_start(by_row, by_column, model, settings, rng, clip)
    if settings.uncertainty and not stages:
        fit.start_variances(_FIRST_NOISE)
    floor = fit.masses[0].sum() * (16 * np.finfo(dtype).eps * model.scale) ** 2
    in_stage = 0
    for sweep in progress(range(n_sweeps), total=n_sweeps, description="sweeps", verbose=verbose):
        before, fell, loss, settled = fit.sweep(stage, solver)
        if callback is not None:
            callback(sweep + 1, model)
        if not np.isfinite(before):
            raise ValueError(
                f"alternating minimisation overflowed in sweep {sweep + 1} "
                f"({dtype.name}); scale the values down."
            )
        in_stage += 1
        if fit.variances is not None and sweep:
            # What both sides can exchange goes on with hardly a change of the objective.
            fell = min(fell, abs(model.history[-2] - model.history[-1]))
        model.last_gain = float(fell / before) if before > 0 else 0.0
        stays = (fell <= stage.tol * before and settled) or loss <= floor
        stays = stays or model.noise_share <= _NO_NOISE
        if not stages and stays and loss > floor and fit.lower_ridge(loss):
            continue
        if not stages and stays:
            model.converged = True
            break
        if stages and (stays or in_stage >= stage.max_iter):
            stage, in_stage = stages.pop(0), 0
            fit.enter(stage, last=not stages)
    return model


@single_blas_thread()
def exact_rows(rows, model, settings):
    """Write factors and biases of rows into the model: one regression each, solved to the end."""
    seen = rows.seen()
    if not seen.all():
        some = replace(model, U=model.U[seen], row_bias=model.row_bias[seen])
        if seen.any():
            exact_rows(rows.without_empty(seen, None), some, settings)
        model.U[:], model.row_bias[:] = 0, 0
        model.U[seen], model.row_bias[seen] = some.U, some.row_bias
        return
    if model.scale == 0:
        settings = replace(settings, alpha=1.0)  # no factors: any ridge will do
    robust = settings.loss != "squared"
    model.U[:] = 0
    model.row_bias[:] = 0
    # Where nothing is known of the rows, every column counts alike in the preconditioner.
    fit = _fit_of_rows(rows, model, settings)
    if settings.rank <= _EXACT_UP_TO or robust or not settings.compiles(rows):
        # Nothing can be left out before something is known of the rows.
        for cut in (np.inf, model.cut) if np.isfinite(model.cut) else (np.inf,):
            fit.model = replace(model, cut=cut)
            fit.half_sweep(0, "cholesky", 100 if robust else 1, tol=1e-12)
        return
    tol = 1e-22 if model.dtype == np.float64 else 1e-12
    V = model.V
    fit.half_sweep(0, "cg", 4 * settings.rank, tol=tol)
    model.U, model.V = model.U @ fit.rotation.T, V


def leave_one_out(rows, model, settings):
    """Sums of squared and absolute residuals of entries left out of their row's regression."""
    fit = _fit_of_rows(rows, model, settings)
    return rows.leave_one_out(fit.regressions(0, model.V), model.U, model.row_bias, settings)


def _fit_of_rows(rows, model, settings):
    variances = None
    if model.col_variances is not None:
        variances = KnownVariances(
            rows, model.col_variances, model.noise_share, settings.entry_weight
        )
    masses = None, np.ones(len(model.V))
    return Fit(rows, None, model, settings, masses=masses, variances=variances)
