"""Alternating minimisation over observed entries: the engine of the imputer and the regressor."""

from dataclasses import dataclass, field, replace

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import csr_array

from sklr.decomposition import _completion_plain as plain
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread, thread_map

LOSSES = {"squared": 0, "huber": 1, "absolute": 1}
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
# Up to here the normal equations of a row, made by BLAS, cost less than three steps of CG.
_CHOLESKY_UP_TO = 16
# Multiply-adds of the normal equations below which NumPy does a half-sweep, and nothing has to be
# compiled.
_SMALL = 4_000_000
# Multiply-adds below which a half-sweep is not worth the start of a thread.
_WORTH_A_THREAD = 2_000_000
# Up to here rows are solved to the end by their normal equations, then by CG.
_EXACT_UP_TO = 64
_OVERSAMPLING = 8
_BIAS_ROUNDS = 5
# With a robust loss the start clips residuals to these quantiles.
_CLIP = (0.05, 0.95)
# Smallest ratio of eigenvalues of a Gram matrix of which a root is still worth something.
_SINGULAR = 1e-12
# Entries that a median is taken from.
_SAMPLE = 200_000


@dataclass
class Half:
    """Observed entries grouped by row, or by column."""

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    weights: np.ndarray

    @property
    def n(self):
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def arrays(self):
        """What every kernel takes."""
        return self.indptr, self.indices, self.values, self.weights

    def mass(self):
        """Sum of the weights of each row."""
        if len(self.weights) == 0:
            return np.diff(self.indptr).astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(self.weights, dtype=np.float64)])
        return np.diff(total[self.indptr])

    def ranges(self, n_parts):
        """Cut the rows into ranges of about as many entries each."""
        if n_parts == 1:
            return [(0, self.n)]
        # A row costs something without entries too.
        work = self.indptr + 8 * np.arange(self.n + 1)
        cuts = np.searchsorted(work, np.linspace(0, work[-1], n_parts + 1))
        cuts[0], cuts[-1] = 0, self.n
        return [(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def _turned(data, indices, indptr, n_columns):
    """Return index pointer, row numbers and data of the same entries by columns, in row order."""
    out = csr_array((data, indices, indptr), shape=(len(indptr) - 1, n_columns)).tocsc()
    return out.indptr.astype(np.int64), out.indices.astype(np.int32, copy=False), out.data


def transposed(half, n_columns):
    """Return the entries grouped by their other index."""
    turned = _turned(half.values, half.indices, half.indptr, n_columns)
    weights = half.weights
    if len(weights):
        weights = _turned(weights, half.indices, half.indptr, n_columns)[2]
    return Half(*turned, weights)


def grouped(rows, cols, values, weights, shape):
    """Return entries by row and by column; repeated pairs stay repeated."""
    # A matrix with one entry in a row: its columns are the groups.
    indptr, order, values = _turned(values, cols, np.arange(len(values) + 1), shape[1])
    by_column = Half(
        indptr,
        rows[order].astype(np.int32, copy=False),
        values,
        weights[order] if len(weights) else weights,
    )
    return transposed(by_column, shape[0]), by_column


def _blocks(half):
    """Yield ranges of rows of about a million entries, with their entries and row numbers."""
    for a, b in half.ranges(max(1, len(half.values) >> 20)):
        entries = slice(half.indptr[a], half.indptr[b])
        yield a, b, entries, np.repeat(np.arange(a, b), np.diff(half.indptr[a : b + 1]))


def row_means(half, mean, offset, ridge, out):
    """Write each row's ridge mean of its values without mean and column offsets."""
    mass = half.mass() + ridge
    for a, b, entries, rows in _blocks(half):
        r = half.values[entries] - mean - offset[half.indices[entries]]
        if len(half.weights):
            r *= half.weights[entries]
        total = np.bincount(rows - a, weights=r, minlength=b - a)
        out[a:b] = np.divide(total, mass[a:b], out=np.zeros(b - a), where=mass[a:b] > 0)


@dataclass
class Settings:
    """What one run of alternating minimisation needs to know."""

    rank: int
    alpha: float = 0.0
    bias_alpha: float = 0.0
    power: float = 0.0
    loss: str = "squared"
    solver: str = "auto"
    n_inner: int = 3
    fit_bias: bool = False
    uncertainty: bool = False
    max_iter: int = 50
    tol: float = 1e-5
    n_jobs: int | None = None

    @property
    def resolved_solver(self):
        """The solver that "auto" stands for."""
        if self.solver == "auto" and not self.uncertainty:
            return "cholesky" if self.rank <= _CHOLESKY_UP_TO else "cg"
        return "cg" if self.solver == "auto" else self.solver


@dataclass
class Model:
    """Factors, biases and the scales that came with them."""

    mean: float
    scale: float
    U: np.ndarray
    V: np.ndarray
    row_bias: np.ndarray
    col_bias: np.ndarray
    delta: float = np.inf
    cut: float = np.inf
    noise_share: float = 1.0
    history: list = field(default_factory=list)
    converged: bool = False

    @property
    def dtype(self):
        """Precision of the whole run."""
        return self.V.dtype


def _run(kernel, half, per_entry, n_jobs, *args):
    """Run a kernel over the rows, on threads where it pays."""
    worth = len(half.values) * per_entry > _WORTH_A_THREAD
    n_parts = 4 * effective_n_jobs(n_jobs) if worth and effective_n_jobs(n_jobs) > 1 else 1
    thread_map(lambda cut: kernel(*cut, *half.arrays, *args), half.ranges(n_parts), n_jobs)


def _is_small(half, settings):
    """Whether a half-sweep is done by NumPy."""
    return settings.solver == "auto" and len(half.values) * (settings.rank + 1) ** 2 <= _SMALL


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
        _run(
            cg_rows, half, work, settings.n_jobs, mean, offset, F, spectrum, sums, *tail, X, bias,
            out,
        )  # fmt: skip
    else:
        from sklr.decomposition._completion_kernels import cholesky_rows

        work = F.shape[1] ** 2
        _run(cholesky_rows, half, work, settings.n_jobs, mean, offset, F, *tail, X, bias, out)
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


def spectral_start(rows, cols, masses, model, settings, rng, clip):
    """Return factors from a sketched SVD of the zero-filled residuals of the biases.

    One power step of a Gaussian sketch. Rows and columns are scaled by the root of how often
    they were seen, without which few heavy rows would fill the leading directions.
    """
    dtype, number = model.dtype, model.dtype.type
    low, high = (number(value) for value in clip)
    damp_r, damp_c = ((1.0 / np.sqrt(m + m.mean())).astype(dtype) for m in masses)

    small = _is_small(rows, settings)

    def times(half, bias, offset, scale, B):
        if small:
            return plain.residual_product(
                half, number(model.mean), bias, offset, low, high, scale, B
            )
        from sklr.decomposition._completion_kernels import residual_product

        out = np.empty((half.n, B.shape[1]), dtype=dtype)
        _run(
            residual_product, half, B.shape[1], settings.n_jobs, number(model.mean), bias, offset,
            low, high, scale, np.ascontiguousarray(B), out,
        )  # fmt: skip
        return out

    def forward(B):
        return times(rows, model.row_bias, model.col_bias, damp_r, damp_c[:, None] * B)

    def backward(B):
        return times(cols, model.col_bias, model.row_bias, damp_c, damp_r[:, None] * B)

    size = min(settings.rank + _OVERSAMPLING, rows.n, cols.n)
    sketch = rng.standard_normal((cols.n, size)).astype(dtype)
    sketch = np.linalg.qr(backward(np.linalg.qr(forward(sketch))[0]))[0]
    left = np.linalg.qr(forward(sketch))[0]
    right, s, turn = np.linalg.svd(backward(left), full_matrices=False)
    # On average the scaled matrix has each value times the root of its row's and its column's
    # frequency: taken back here.
    root = np.sqrt(s[: settings.rank] * masses[0].sum() ** 0.5)
    U = damp_r[:, None] * (left @ turn[: settings.rank].T) * root
    V = damp_c[:, None] * right[:, : settings.rank] * root
    return np.ascontiguousarray(U, dtype=dtype), np.ascontiguousarray(V, dtype=dtype)


def weighted_median(values, weights):
    """Median of values, each counted as often as its weight says."""
    if len(weights) == 0:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order], dtype=np.float64)
    middle = cumulated[-1] / 2
    low, high = np.searchsorted(cumulated, [middle * (1 - 1e-12), middle * (1 + 1e-12)])
    return float((values[order[low]] + values[order[min(high, len(order) - 1)]]) / 2)


def _sampled(half):
    """Return step and weights of a sample of the entries, large enough for a median."""
    step = max(1, len(half.values) // _SAMPLE)
    return step, half.weights[::step]


def _sample_residuals(rows, model, U, V, small):
    """Residuals of a sample of the entries, and their weights."""
    step, weights = _sampled(rows)
    number = model.dtype.type
    if small:
        found = plain.residuals(rows, number(model.mean), model.row_bias, model.col_bias, U, V)
        return found[::step], weights
    from sklr.decomposition._completion_kernels import entry_residuals

    out = np.empty(-(-len(rows.values) // step), dtype=model.dtype)
    entry_residuals(
        rows.indptr, rows.indices, rows.values, model.dtype.type(model.mean), model.row_bias,
        model.col_bias, U, V, step, out,
    )  # fmt: skip
    return out, weights


def _median_size(rows, model, U, V, small):
    """Median size of the residuals."""
    residuals, weights = _sample_residuals(rows, model, U, V, small)
    return weighted_median(np.abs(residuals), weights)


def _row_medians(half, mean, offset, ridge):
    """Each row's median of its values without mean and column offsets, shrunk like a mean."""
    residuals = half.values - mean - offset[half.indices]
    counts = np.diff(half.indptr)
    ordered = residuals[np.lexsort((residuals, np.repeat(np.arange(half.n), counts)))]
    last = max(len(ordered) - 1, 0)
    low = np.minimum(half.indptr[:-1] + np.maximum(counts - 1, 0) // 2, last)
    high = np.minimum(half.indptr[:-1] + counts // 2, last)
    shrunk = counts / np.maximum(counts + ridge, 1)
    return ((ordered[low] + ordered[high]) / 2 * shrunk).astype(half.values.dtype)


def squared_loss(rows, model, settings):
    """Weighted sum of squared residuals."""
    if _is_small(rows, settings):
        number = model.dtype.type
        r = plain.residuals(
            rows, number(model.mean), model.row_bias, model.col_bias, model.U, model.V
        ).astype(np.float64)
        return float(r**2 @ rows.weights if len(rows.weights) else r @ r)
    from sklr.decomposition._completion_kernels import row_losses

    out = np.empty(rows.n)
    _run(
        row_losses, rows, settings.rank, settings.n_jobs, model.dtype.type(model.mean),
        model.row_bias, model.col_bias, model.U, model.V, out,
    )  # fmt: skip
    return float(out.sum())


def _start_biases(rows, cols, masses, settings, dtype):
    """Mean and biases by alternating ridge means, or medians; the range to clip residuals to."""
    robust = settings.loss != "squared"
    mean = 0.0
    if settings.fit_bias and robust:
        step, weights = _sampled(rows)
        mean = weighted_median(rows.values[::step], weights)
    elif settings.fit_bias and len(rows.weights):
        mean = float(np.average(rows.values, weights=rows.weights.astype(np.float64)))
    elif settings.fit_bias:
        mean = float(np.mean(rows.values, dtype=np.float64))
    number = dtype.type
    model = Model(
        mean=float(number(mean)),
        scale=1.0,
        U=np.zeros((rows.n, 1), dtype=dtype),
        V=np.zeros((cols.n, 1), dtype=dtype),
        row_bias=np.zeros(rows.n, dtype=dtype),
        col_bias=np.zeros(cols.n, dtype=dtype),
    )
    for _ in range(_BIAS_ROUNDS if settings.fit_bias else 0):
        for half, offset, out in (
            (cols, model.row_bias, model.col_bias),
            (rows, model.col_bias, model.row_bias),
        ):
            if robust:
                out[:] = _row_medians(half, number(mean), offset, settings.bias_alpha)
            else:
                row_means(half, number(mean), offset, settings.bias_alpha, out)
    clip = (-np.inf, np.inf)
    model.scale = float(np.sqrt(squared_loss(rows, model, settings) / masses[0].sum()))
    if robust:
        residuals, weights = _sample_residuals(
            rows, model, model.U, model.V, _is_small(rows, settings)
        )
        # Gross outliers would turn the start towards themselves.
        clip = tuple(np.quantile(residuals, _CLIP).tolist())
        model.scale = 1.4826 * weighted_median(np.abs(residuals), weights) or model.scale
    largest = max(abs(float(rows.values.max())), abs(float(rows.values.min())))
    if model.scale <= 4 * np.finfo(dtype).eps * largest:
        model.scale = 0.0  # the biases explain everything: what is left is rounding
    return model, clip


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
    masses = rows.mass(), cols.mass()
    model, clip = _start_biases(rows, cols, masses, settings, dtype)
    rank = settings.rank
    if model.scale == 0:
        model.U, model.V = np.zeros((rows.n, rank), dtype), np.zeros((cols.n, rank), dtype)
        model.converged = True
        model.history.append(0.0)
        return model
    stages = _stages(settings, model)
    small = _is_small(rows, settings)
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
        return 1.4826 * _median_size(rows, model, U, V, small)

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
                model.cut = float(max(_CUT * size, _TAIL_CUT * left(), stage.cut * model.scale))
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
    small = _is_small(rows, settings)
    if settings.rank <= _EXACT_UP_TO or robust or small:
        # Nothing can be left out before something is known of the rows.
        for cut in (np.inf, model.cut) if np.isfinite(model.cut) else (np.inf,):
            half_sweep(
                rows, mass, model.V, model.col_bias, model.U, model.row_bias,
                replace(model, cut=cut), settings, solver="plain" if small else "cholesky",
                n_steps=100 if robust else 1, tol=1e-12,
            )  # fmt: skip
        return
    tol = 1e-22 if model.dtype == np.float64 else 1e-12
    _, U, Q, _, _ = half_sweep(
        rows, mass, model.V, model.col_bias, model.U, model.row_bias, model, settings,
        solver="cg", n_steps=4 * settings.rank, tol=tol,
    )  # fmt: skip
    model.U[:] = U @ Q.T


def leave_one_out(rows, model, settings):
    """Sums of squared and absolute residuals of entries left out of their row's regression."""
    number = model.dtype.type
    out = np.empty((rows.n, 2))
    args = (
        number(model.mean), model.col_bias, model.V, number(settings.alpha),
        number(settings.bias_alpha), settings.power, settings.fit_bias, LOSSES[settings.loss],
        number(model.delta), number(model.cut), model.U, model.row_bias, out,
    )  # fmt: skip
    if _is_small(rows, settings):
        plain.leave_one_out_rows(rows, *args)
    else:
        from sklr.decomposition._completion_kernels import leave_one_out_rows

        _run(leave_one_out_rows, rows, settings.rank**2, settings.n_jobs, *args)
    return (float(total) for total in out.sum(axis=0))
