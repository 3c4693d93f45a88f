"""How a table is fitted: units, number of groups of rows, residuals of near rows, uncertainty."""

from dataclasses import dataclass

import numpy as np

from sklr.decomposition._factor_analysis import (
    Mixture,
    Table,
    expected,
    improve,
    leave_one_out,
    row_posterior,
    variances,
)
from sklr.decomposition._factor_analysis_start import split, start
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread

# Entries set aside to choose by: a tenth, in several splits of a small table.
_HIDDEN, _SMALL, _SPLITS = 0.1, 10_000, 4
# Rows that choices are made on, that sweeps begin with, and whose residuals are kept.
_CHOICE_ROWS, _FIRST_ROWS, _DONORS = 1000, 20_000, 2000
_CHOICE_SWEEPS, _CHOICE_TOL = 15, 5e-3
# Groups that fit better and better predict worse after some sweeps: as soon as the error on the
# entries set aside is above that of so many sweeps before, their last sweep is done.
_PATIENCE = 3
# What is more complicated must be better by this.
_GAIN = 0.985
# Numbers of groups that are worse by this on so many entries, or whose squared errors are larger
# than those of the best by more than a standard error, are not tried on further splits.
_HOPELESS, _ENOUGH = 1.03, 250
# Groups that are tried, and rows that each needs on average.
_GROUPS, _ROWS_A_GROUP = (2, 3, 5), 40
# Neighbours by default, and how many residuals of zero are added to theirs.
_NEIGHBOURS, _SHRINKAGE = 5, 2.0
_CHUNK = 2048
# Operations in a sweep from which on a kernel is compiled (a second, once).
_COMPILED = 1e6


@dataclass
class FittedTable:
    """All that filling in needs; columns without evidence are left out of `model`."""

    centre: np.ndarray
    scale: np.ndarray
    active: np.ndarray  # columns that vary
    model: Mixture
    neighbours: int
    donors: Table | None  # completed rows; their residuals where observed
    residuals: np.ndarray | None
    inflation: float  # of variances
    held_out: float  # error on entries set aside, in standard deviations
    n_iter: int
    change: float
    converged: bool
    compiled: bool = False

    def table(self, X, mask):
        """Standardise rows; columns without evidence in fit have none here."""
        seen = mask[:, self.active].T
        with np.errstate(invalid="ignore", over="ignore"):
            Z = (np.asarray(X, float)[:, self.active] - self.centre[self.active]).T
            Z /= self.scale[self.active][:, None]
        return Table(np.where(seen, Z, 0.0), seen.astype(float), None, self.compiled)


def units(X, mask):
    """Mean and standard deviation of the observed values of each column; 0 where they are alike."""
    seen = mask.any(axis=0)
    low = np.where(mask, X, np.inf).min(axis=0, initial=np.inf)
    high = np.where(mask, X, -np.inf).max(axis=0, initial=-np.inf)
    low, high = np.where(seen, low, 0.0), np.where(seen, high, 0.0)
    # Exact for a constant, right beside a large offset, and squares neither over- nor underflow.
    width = high / 2 - low / 2
    width = np.where(width > 1e-14 * np.maximum(abs(low), abs(high)), width, 0.0)
    middle = low + width
    safe = np.where(width > 0, width, 1.0)
    T = np.where(mask, (X - middle) / safe, 0.0)
    count = np.maximum(mask.sum(axis=0), 1)
    mean = T.sum(axis=0) / count
    deviation = np.sqrt((np.where(mask, T - mean, 0.0) ** 2).sum(axis=0) / count)
    return np.where(width > 0, middle + mean * width, low), deviation * width


@single_blas_thread()  # chunks are small, threads would wait for each other
def fit_table(X, mask, *, n_components, n_clusters, n_neighbors, max_iter, tol, rng, verbose=0):
    """Fit factor analysis to the observed values of a table.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The table.
    mask : ndarray of shape (n_samples, n_features)
        What is observed.
    n_components, n_clusters, n_neighbors : int or None
        None is chosen by the data.
    max_iter, tol : int, float
        Largest number of sweeps, and change of the expected values that ends them.
    rng : RandomState
        Draws the entries and rows that choices are made on.
    verbose : int
        Whether progress is shown.

    Returns
    -------
    fitted : FittedTable
        The parameters, and what filling in needs beside them.
    """
    X = np.asarray(X, dtype=float)
    centre, scale = units(X, mask)
    active = scale > 0
    fitted = FittedTable(centre, scale, active, _nothing(0), 0, None, None, 1.0, 1.0, 0, 0.0, True)
    p = int(active.sum())
    if p == 0:
        return fitted
    table = fitted.table(X, mask)
    table = table.rows(_order(table.values, 0)).with_patterns()
    n = table.n_rows
    k = n_components
    if k is None:
        # Ledermann's bound: more factors have more parameters than there are covariances.
        most = int(p + 0.5 - np.sqrt(2.0 * p + 0.25))
        k = max(1, min(20, max(most, 3), p - 1, n - 1))
    prune = n_components is None
    table.compiled = fitted.compiled = n * k**3 > _COMPILED

    chosen = _choose(table, k, prune, n_clusters, n_neighbors, rng)
    n_groups, fitted.neighbours, fitted.inflation, fitted.held_out, n_sweeps = chosen
    # The more rows, the later do groups fit what is accidental.
    n_sweeps = int(min(max_iter, np.ceil(n_sweeps * max(1.0, n / _CHOICE_ROWS))))
    if n_groups == 0:
        fitted.model = _nothing(p)
        return fitted
    if n > _FIRST_ROWS:
        table = table.rows(rng.permutation(n))
    first = table.rows(slice(_FIRST_ROWS))
    model = start(first, k)
    if n_groups > 1 or n > _FIRST_ROWS:
        model = _last(improve(model, first, max_iter, tol, prune=prune))
        if n_groups > 1:
            model = split(model, first, n_groups)
            if n > _FIRST_ROWS:
                model = _last(improve(model, first, n_sweeps, tol, prune=prune))
    sweeps = improve(model, table, n_sweeps, tol, prune=prune)
    for fitted.model, fitted.change in progress(
        sweeps, total=max_iter, description="factor analysis, at most", verbose=verbose
    ):
        fitted.n_iter += 1
    fitted.converged = fitted.change <= tol or fitted.n_iter < max_iter
    if fitted.neighbours:
        some = table.rows(rng.permutation(n)[:_DONORS] if n > _DONORS else slice(None))
        fitted.donors, fitted.residuals = _donors(fitted.model, some)
    return fitted


def _order(values, axis):
    """An order of rows or columns that does not depend on how they are arranged, nor on signs.

    What is drawn at random is drawn in this order.
    """
    return np.argsort(np.sort(np.abs(values) ** 3, axis=axis).sum(axis=axis), kind="stable")


def _last(sweeps):
    model = None
    for model, _ in sweeps:  # noqa: B007
        pass
    return model


def _nothing(p):
    """A model of `p` standardised columns that have nothing in common."""
    return Mixture(
        np.ones(1), np.zeros((1, p)), np.zeros((1, p, 0)), np.ones((1, p)), np.zeros((1, p, 1, 1))
    )


def _choose(table, k, prune, n_clusters, n_neighbors, rng):
    """Number of groups (0: column means are better), neighbours, inflation, held-out error, sweeps.

    Sweeps are the most that a mixture should have, infinity for one group.
    """
    kept = (n_clusters or 1, n_neighbors or 0, 1.0, np.nan, np.inf)
    if table.n_rows > _CHOICE_ROWS:
        table = table.rows(rng.permutation(table.n_rows)[:_CHOICE_ROWS])
    enough = table.observed.sum(axis=1) >= 5
    if table.n_rows < 5 or table.observed[enough].sum() < 40:
        return kept
    groups = [n_clusters or 1]
    if n_clusters is None:
        groups += [g for g in _GROUPS if table.n_rows >= g * _ROWS_A_GROUP]
    trials = {g: _Trial() for g in groups}
    n_splits = int(np.clip(_SMALL // table.values.size, 1, _SPLITS))
    plain = 0.0
    for _ in range(n_splits):
        drawn = np.empty(table.values.shape)
        drawn[_order(table.values, 1)] = rng.random_sample(table.values.shape)
        hidden = (table.observed > 0) & (drawn < _HIDDEN)
        hidden &= enough[:, None]
        if not hidden.any():
            return kept
        plain += np.mean(table.values[hidden] ** 2)
        rest = Table(
            np.where(hidden, 0.0, table.values),
            np.where(hidden, 0.0, table.observed),
            compiled=table.compiled,
        ).with_patterns()
        options = {"max_iter": _CHOICE_SWEEPS, "tol": _CHOICE_TOL, "prune": prune}
        base = _last(improve(start(rest, k), rest, **options))
        for g in list(trials):
            # Many groups only where some are better than fewer.
            if g == _GROUPS[-1] and g != groups[0] and _best(trials) != _GROUPS[-2]:
                del trials[g]
                continue
            model = base
            if g > 1:
                stop = _Worse(table.values, hidden)
                model = _last(improve(split(base, rest, g), rest, **options, stop=stop))
                trials[g].sweeps.append(len(stop.errors))
            trials[g].add(model, rest, table.values, hidden)
        first = trials[groups[0]]
        best = trials[_best(trials)]
        trials = {g: t for g, t in trials.items() if t is first or not t.clearly_worse(best)}
        if first.size() < _ENOUGH:
            continue
        limit = _HOPELESS * trials[_best(trials)].error()
        trials = {g: t for g, t in trials.items() if t is first or t.error() < limit}
    chosen = groups[0]
    for g, trial in trials.items():
        if trial.error() < _GAIN * trials[chosen].error():
            chosen = g
    trial = trials[chosen]
    error, near = trial.error(), 0
    if n_neighbors != 0:
        trial.look_around(n_neighbors or _NEIGHBOURS)
        if n_neighbors or trial.error() < _GAIN * error:
            error, near = trial.error(), n_neighbors or _NEIGHBOURS
        else:
            trial.corrections = []
    if n_clusters is None and prune and error >= np.sqrt(plain / n_splits):
        return 0, 0, 1.0, float(np.sqrt(plain / n_splits)), np.inf
    sweeps = float(np.mean(trial.sweeps)) if trial.sweeps else np.inf
    return chosen, near, trial.inflation(), error, sweeps


def _best(trials):
    return min(trials, key=lambda g: trials[g].error())


class _Worse:
    """Whether the error at the entries that were set aside has begun to grow."""

    def __init__(self, values, hidden):
        self.values, self.hidden, self.errors = values, hidden, []

    def __call__(self, filled):
        """Note the error; true if it is above that of some sweeps before."""
        self.errors.append(float(np.mean((filled - self.values)[self.hidden] ** 2)))
        return len(self.errors) > _PATIENCE and self.errors[-1] > self.errors[-1 - _PATIENCE]


class _Trial:
    """Errors of one number of groups at the entries that were set aside."""

    def __init__(self):
        self.fits, self.gaps, self.variances, self.corrections = [], [], [], []
        self.sweeps = []

    def add(self, model, rest, values, hidden):
        """Note the errors of a fit."""
        posterior = row_posterior(model, rest)
        self.fits.append((model, rest, hidden))
        self.variances.append(variances(model, posterior)[hidden])
        self.gaps.append((values - expected(model, posterior))[hidden])

    def look_around(self, neighbours):
        """Add what the residuals of near rows say."""
        for model, rest, hidden in self.fits:
            donors, residuals = _donors(model, rest)
            self.corrections.append(_near(donors, residuals, donors.values, neighbours)[hidden])

    def size(self):
        """Number of entries set aside so far."""
        return sum(map(len, self.gaps))

    def left(self):
        """Errors so far."""
        gaps = np.concatenate(self.gaps)
        return gaps - np.concatenate(self.corrections) if self.corrections else gaps

    def clearly_worse(self, other):
        """Whether squared errors are above the other's by more than a standard error."""
        more = np.concatenate(self.gaps) ** 2 - np.concatenate(other.gaps) ** 2
        return more.mean() > more.std() / np.sqrt(len(more))

    def error(self):
        """Root mean square error so far."""
        return float(np.sqrt(np.mean(self.left() ** 2))) if self.gaps else np.inf

    def inflation(self):
        """What variances are multiplied by, so that 90 % intervals hold 90 %."""
        size = np.abs(self.left()) / np.sqrt(np.concatenate(self.variances))
        return float(np.clip((np.quantile(size, 0.9) / 1.645) ** 2, 0.5, 10.0))


def _donors(model, table):
    """Completed rows, and what is left of each observed value predicted from its row's others."""
    filled, residuals = np.empty_like(table.values), np.empty_like(table.values)
    for rows in _parts(table.n_rows):
        part = table.rows(rows)
        posterior = row_posterior(model, part)
        filled[:, rows] = np.where(part.observed > 0, part.values, expected(model, posterior))
        residuals[:, rows] = leave_one_out(model, posterior, part)[0]
    return Table(filled, table.observed), residuals


def _near(donors, residuals, filled, neighbours):
    """Weighted mean of the residuals of near rows, drawn to zero where few have the column.

    A row that is a donor itself adds nothing to its own holes.
    """
    D = donors.values
    far = (filled * filled).sum(axis=0)[:, None] + (D * D).sum(axis=0) - 2.0 * (filled.T @ D)
    np.maximum(far, 0.0, out=far)
    last = min(neighbours, far.shape[1] - 1)
    width = np.partition(far, last, axis=1)[:, last, None]
    far *= -2.0 / np.maximum(width, 1e-12)
    # Numbers near the smallest that there are would slow the products down.
    weights = np.exp(np.maximum(far, -50.0, out=far), out=far).T
    return (residuals @ weights) / (donors.observed @ weights + _SHRINKAGE)


def _parts(n):
    return [slice(first, min(first + _CHUNK, n)) for first in range(0, n, _CHUNK)]


@single_blas_thread()
def predict(fitted, X, mask, *, return_std=False, fill=True):
    """Expected values of all entries of rows, and their standard deviations, in original units.

    Parameters
    ----------
    fitted : FittedTable
        Of `fit_table`.
    X, mask : ndarray of shape (n_samples, n_features)
        The rows, and what of them is observed.
    return_std : bool
        Whether standard deviations are computed.
    fill : bool
        Whether what residuals of near rows say is added: right for holes only.

    Returns
    -------
    values, std : ndarray of shape (n_samples, n_features), None
        The second one is None unless wanted.
    """
    out = np.tile(fitted.centre, (len(X), 1))
    std = np.zeros_like(out) if return_std else None
    active = fitted.active
    if not active.any():
        return out, std
    for rows in _parts(len(X)):
        table = fitted.table(X[rows], mask[rows])
        posterior = row_posterior(fitted.model, table)
        middle = expected(fitted.model, posterior)
        if fill:
            middle = middle + _correction(fitted, table, middle)
        out[rows, active] += middle.T * fitted.scale[active]
        if return_std:
            var = variances(fitted.model, posterior) * fitted.inflation
            std[rows, active] = np.sqrt(var.T) * fitted.scale[active]
    return out, std


def _correction(fitted, table, middle):
    if not fitted.neighbours:
        return 0.0
    filled = np.where(table.observed > 0, table.values, middle)
    near = _near(fitted.donors, fitted.residuals, filled, fitted.neighbours)
    return near * table.observed.any(axis=0)  # a row without values has no near ones


@single_blas_thread()
def draw(fitted, X, mask, rng):
    """One draw of all entries from their joint posterior, in original units.

    Parameters of the columns are drawn once, group, scores and noise for each row.

    Parameters
    ----------
    fitted : FittedTable
        Of `fit_table`.
    X, mask : ndarray of shape (n_samples, n_features)
        The rows, and what of them is observed.
    rng : RandomState
        Source of the draw.

    Returns
    -------
    values : ndarray of shape (n_samples, n_features)
        The draw.
    """
    out = np.tile(fitted.centre, (len(X), 1))
    active, model = fitted.active, fitted.model
    if not active.any():
        return out
    groups, p, k = model.loadings.shape
    chol = np.linalg.cholesky(model.cov + 1e-14 * np.eye(k + 1))
    parameters = np.concatenate([model.loadings, model.means[:, :, None]], axis=2)
    parameters = parameters + (chol @ rng.standard_normal((groups, p, k + 1, 1)))[..., 0]
    for rows in _parts(len(X)):
        table = fitted.table(X[rows], mask[rows])
        posterior = row_posterior(model, table)
        middle = expected(model, posterior)
        n = table.n_rows
        group = (posterior.shares.cumsum(axis=0) < rng.random_sample(n)).sum(axis=0)
        group = np.minimum(group, groups - 1)
        values = np.empty((p, n))
        for c in range(groups):
            here = group == c
            S = np.moveaxis(posterior.covariances[c][:, :, here], -1, 0)
            spread = np.linalg.cholesky(S + 1e-14 * np.eye(k))
            scores = posterior.scores[c][:, here]
            scores = scores + (spread @ rng.standard_normal((len(S), k, 1)))[..., 0].T
            noise = np.sqrt(model.noise[c])[:, None] * rng.standard_normal((p, len(S)))
            values[:, here] = parameters[c, :, :k] @ scores + parameters[c, :, k:] + noise
        values = middle + np.sqrt(fitted.inflation) * (values - middle)
        values += _correction(fitted, table, middle)
        out[rows, active] += values.T * fitted.scale[active]
    return out
