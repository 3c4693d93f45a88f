"""Delay embeddings of trials and their covariances, one (order, lag) or a grid of them."""

from collections.abc import Iterable, Iterator
from numbers import Integral, Real

import numpy as np
from joblib import effective_n_jobs

from sklr.utils._spd_checks import EIGENVALUE_NOISE, NOT_SPD
from sklr.utils._threads import single_blas_thread, thread_map
from sklr.utils._validation import as_trials_array, check_array, check_positive_int
from sklr.utils._warnings import warn_user

# Estimators that are a function of the scatter matrix alone: computed without the stack.
_FROM_SCATTER = ("cov", "scm", "corr", "oas")
# Single cells up to this order are quicker from the stack (measured at 9 and 21 channels).
_DIRECT_ORDER = 4
# Ratio of channels' standard deviations from which they count as having unlike units.
_UNLIKE = 1e3
_SHRINKAGE = ("lwf", "oas", "sch")
ESTIMATORS = ("corr", "cov", "hub", "lwf", "mcd", "oas", "sch", "scm", "stu", "tyl")
WINDOWS = ("paper", "full")
#: Estimators without shrinkage, whose matrices are checked trial by trial.
PLAIN = ("cov", "scm", "corr")
STRUCTURES = ("sample", "toeplitz")


def window_length(n_times: int, order: int, lag: int, window: str = "paper") -> int:
    """Samples that each block of the embedding keeps; may be zero or negative."""
    if order == 1:
        return n_times
    return n_times - (order if window == "paper" else order - 1) * lag


def lag_in_samples(lag, sfreq, name="lag"):
    """Samples of a lag: an integer as it is, a float in seconds by the sampling rate."""
    if isinstance(lag, Integral) and not isinstance(lag, (bool, np.bool_)):
        return check_positive_int(lag, name)
    if not isinstance(lag, Real) or isinstance(lag, (bool, np.bool_)):
        raise TypeError(
            f"{name} must be an integer >= 1 (samples) or a float (seconds), got {lag!r}."
        )
    if sfreq is None:
        raise ValueError(
            f"The '{name}' parameter is in seconds where it is a float, and the sampling rate is "
            "not known: give sfreq, or mne.Epochs; or an integer, which is in samples. "
            f"Got {lag!r}."
        )
    samples = round(lag * sfreq) if np.isfinite(lag) else 0
    if samples < 1:
        raise ValueError(
            f"{name}={lag!r} seconds are less than one sample at sfreq={sfreq:g}: at least "
            f"{1 / sfreq:.3g} s are needed."
        )
    return samples


def rate_of(estimator):
    """Sampling rate in use: the parameter `sfreq`, or that of the Epochs that `fit` saw."""
    seen = getattr(estimator, "sfreq_in_", None)
    if estimator.sfreq is None:
        return seen
    if seen is not None and abs(seen - estimator.sfreq) > 1e-6 * seen:
        raise ValueError(f"sfreq={estimator.sfreq!r}, but the Epochs have {seen:g}: leave it out.")
    return float(estimator.sfreq)


def check_embedding(order, lag, n_times, window="paper"):
    """Validate one (order, lag) against the trial length; return them as int."""
    order = check_positive_int(order, "order")
    lag = check_positive_int(lag, "lag")
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {WINDOWS}, got {window!r}.")
    if window_length(n_times, order, lag, window) < 2:
        raise ValueError(
            f"order={order} and lag={lag} leave "
            f"{max(0, window_length(n_times, order, lag, window))} of {n_times} samples a trial "
            f"(window={window!r}), at least 2 are needed: order * lag must be below "
            f"n_times - 1 = {n_times - 1}. Choose a smaller order or lag, or longer trials."
        )
    return order, lag


def is_rank_deficient(n_channels, n_times, order, lag, estimator, window, structure="sample"):
    """Whether the matrix cannot be positive definite, whatever the data."""
    if structure == "toeplitz" or callable(estimator) or estimator in _SHRINKAGE:
        return False
    return order * n_channels > window_length(n_times, order, lag, window) - 1


def check_rank(X, order, lag, estimator, window, structure):
    n_channels, n_times = X.shape[1:]
    if is_rank_deficient(n_channels, n_times, order, lag, estimator, window, structure):
        raise ValueError(
            f"order * n_channels = {order} * {n_channels} = {order * n_channels} exceeds the "
            f"{window_length(n_times, order, lag, window) - 1} degrees of freedom of a window, so "
            f"estimator={estimator!r} cannot give positive definite matrices. Use a shrinkage "
            "estimator ('oas', 'lwf', 'sch'), a smaller order or lag, or fewer channels."
        )


def check_independent_channels(X, estimator):
    """Refuse channels that depend on each other in all trials, as after an average reference."""
    centred = X - X.mean(axis=2, keepdims=True)
    scatter = np.tensordot(centred, centred, axes=([0, 2], [0, 2]))
    scale = np.sqrt(np.diagonal(scatter))
    if not scale.all():
        what = f"channel {int(np.argmin(scale))} is constant"
    else:
        values = np.linalg.eigvalsh(scatter / np.outer(scale, scale))
        rank = int((values > EIGENVALUE_NOISE * len(values)).sum())
        if rank == len(values):
            return
        what = f"the {len(values)} channels have rank {rank} only"
    raise ValueError(
        f"With estimator={estimator!r} the matrices are not positive definite, because {what}. "
        "Average-referenced or ICA-cleaned signals are like that: use a shrinkage estimator "
        "('oas', 'lwf', 'sch'), or fewer channels."
    )


def check_no_flat_channel(X, channels=None, first=0, numbers=None, remedy=None):
    """Refuse a channel that is constant in one trial, by the numbers of both.

    `numbers` are those of the trials where some were left out before; `remedy` is what to do
    beside rejecting trials or channels.
    """
    flat = X.max(axis=2) == X.min(axis=2)
    if flat.any():
        trial, channel = (int(place) for place in np.argwhere(flat)[0])
        called = str(channel) if channels is None else channels[channel]
        if flat[:, channel].all():
            raise ValueError(NOT_SPD.format(what=f"channel {called} is constant: the covariance"))
        trial = first + trial if numbers is None else int(numbers[trial])
        remedy = remedy or (
            "use a shrinkage estimator ('oas', 'lwf'), or rank_deficient='keep' with shrinkage "
            "after it"
        )
        raise ValueError(
            f"Channel {called} is constant in trial {trial} "
            f"({int(flat.any(axis=1).sum())} of {len(X)} trials have such channels), so that its "
            f"covariance is not positive definite. Reject these trials or channels, or {remedy}."
        )


def warn_of_unlike_units(X, estimator):
    """Warn where shrinking towards a multiple of the identity would wipe out small channels."""
    if not (isinstance(estimator, str) and estimator in ("oas", "lwf")):
        return
    deviation = X.std(axis=2).mean(axis=0)
    if deviation.min() > 0 and deviation.max() > _UNLIKE * deviation.min():
        warn_user(
            f"Standard deviations of channels go from {deviation.min():.3g} to "
            f"{deviation.max():.3g}; estimator={estimator!r} shrinks towards a multiple of the "
            "identity, in which small channels vanish. Use standardize=True, or bring channels "
            "to one unit.",
        )


def check_input(X):
    X = check_array(
        as_trials_array(X), allow_nd=True, ensure_2d=False, dtype=np.float64, input_name="X"
    )
    if X.ndim != 3 or 0 in X.shape[1:]:
        raise ValueError(
            "X must hold trials of shape (n_trials, n_channels, n_times), "
            f"got {X.ndim} dimensions, shape {X.shape}. Reshape your data."
        )
    return X


def check_options(estimator, window, structure):
    if not callable(estimator) and estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS} or a callable, got {estimator!r}.")
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {WINDOWS}, got {window!r}.")
    if structure not in STRUCTURES:
        raise ValueError(f"structure must be one of {STRUCTURES}, got {structure!r}.")
    if structure == "toeplitz" and estimator != "cov":
        raise ValueError(
            f"structure='toeplitz' goes with estimator='cov' only, got estimator={estimator!r}."
        )


def delay_embed(X, order=1, lag=1, *, window="paper"):
    """Stack delayed copies of each trial on the channel axis.

    Parameters
    ----------
    X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
        The trials.
    order : int, default=1
        Number of copies. 1 returns the trials as they are, whatever `lag`.
    lag : int, default=1
        Samples between one copy and the next.
    window : {"paper", "full"}, default="paper"
        Samples kept of each copy: ``n_times - order * lag`` as in the paper's code and in
        MOABB, or all ``n_times - (order - 1) * lag`` that the copies have in common.

    Returns
    -------
    Z : ndarray of shape (n_trials, order * n_channels, n_window)
        Row block k is the signal advanced by ``k * lag`` samples.

    Raises
    ------
    TypeError, ValueError
        Wrong shape, NaN or infinity, complex data, `order` or `lag` not a positive integer or
        too long for the trials.

    See Also
    --------
    augmented_covariance : The covariance of the stack, without building it.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.covariance import delay_embed
    >>> delay_embed(np.arange(6.0).reshape(1, 1, 6), order=2, lag=1)
    array([[[0., 1., 2., 3.],
            [1., 2., 3., 4.]]])
    """
    X = check_input(X)
    order, lag = check_embedding(order, lag, X.shape[2], window)
    return _stack(X, order, lag, window)


def _stack(X, order, lag, window):
    if order == 1:
        return X.copy()
    n_window = window_length(X.shape[2], order, lag, window)
    return np.concatenate([X[:, :, k * lag : k * lag + n_window] for k in range(order)], axis=1)


def augmented_covariance(
    X,
    order=1,
    lag=1,
    *,
    estimator="cov",
    window="paper",
    structure="sample",
    standardize=False,
    n_jobs=None,
):
    r"""Covariance matrix of each trial stacked with its delayed copies.

    Parameters
    ----------
    X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
        The trials.
    order : int, default=1
        Number of copies; 1 is the ordinary covariance.
    lag : int, default=1
        Samples between one copy and the next. Without effect at ``order=1``.
    estimator : str or callable, default="cov"
        One of pyRiemann's covariance estimators ("corr", "cov", "hub", "lwf", "mcd", "oas",
        "sch", "scm", "stu", "tyl"), or a callable from a stacked trial (n_rows, n_window) to its
        matrix.
    window : {"paper", "full"}, default="paper"
        Samples kept of each copy, see :func:`delay_embed`.
    structure : {"sample", "toeplitz"}, default="sample"
        "sample" estimates from the stack, whose blocks have windows of their own and are only
        nearly Toeplitz. "toeplitz" puts the biased autocovariances of the whole trial into an
        exactly block-Toeplitz matrix, positive semidefinite for any trial; `window` is then
        without effect.
    standardize : bool, default=False
        Whether the estimator gets rows of unit variance, and its matrix is scaled back: "oas" and
        "lwf" then shrink correlations, and channels may have any units.
    n_jobs : int, default=None
        Threads over trials. The result does not depend on it.

    Returns
    -------
    covariances : ndarray of shape (n_trials, order * n_channels, order * n_channels)
        Symmetric matrices, float64.

    Raises
    ------
    TypeError, ValueError
        Wrong shape, NaN or infinity, complex data; `order` or `lag` not a positive integer or
        too long for the trials; an unregularised estimator with more rows than degrees of
        freedom.

    See Also
    --------
    augmented_covariance_grid : Many (order, lag) of the same trials.
    AugmentedCovariance : The same as a transformer.

    Notes
    -----
    The stack is not built: block (a, b) is the lagged product :math:`\sum_t x(t) x(t + (b-a)
    \tau)^T` of the trial less its edge terms, so that `order` products of channels by channels
    do for ``order ** 2`` blocks. Time is O(n_trials (order C^2 T + order^2 C^2 lag)).
    Estimators that need the stack itself ("lwf", "hub", ...) are pyRiemann's.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.covariance import augmented_covariance
    >>> X = np.random.default_rng(0).standard_normal((5, 3, 100))
    >>> augmented_covariance(X, order=4, lag=2).shape
    (5, 12, 12)
    """
    check_options(estimator, window, structure)
    X = check_input(X)
    order, lag = check_embedding(order, lag, X.shape[2], window)
    check_rank(X, order, lag, estimator, window, structure)
    return cell_covariances(X, order, lag, estimator, window, structure, n_jobs, standardize)


def cell_covariances(X, order, lag, estimator, window, structure, n_jobs, standardize=False):
    """One cell, validated input: trials in chunks over threads."""
    n_chunks = min(len(X), 4 * effective_n_jobs(n_jobs)) if n_jobs is not None else 1
    chunks = np.array_split(X, n_chunks)

    # The stack of few copies fits the cache, and costs less than edge corrections do.
    direct = structure == "sample" and order <= _DIRECT_ORDER and estimator in _FROM_SCATTER

    def one(chunk):
        if direct:
            n_window = window_length(X.shape[2], order, lag, window)
            scatter = _direct(chunk, order, lag, window)
            return _finish(scatter, n_window, estimator, standardize)
        cell = [(order, lag)]
        return next(iterate_cells(chunk, cell, estimator, window, structure, standardize))[2]

    with single_blas_thread():
        parts = thread_map(one, chunks, n_jobs)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def augmented_covariance_grid(
    X, orders, lags, *, estimator="cov", window="paper", structure="sample", standardize=False
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Augmented covariances of the same trials for many orders and lags.

    The lagged products are shared by all cells: a grid of 10 orders and 10 lags needs 42 of
    them where the cells one by one take 541. One cell is in memory at a time.

    Parameters
    ----------
    X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
        The trials.
    orders : iterable of int
        Orders. Order 1 does not depend on the lag and comes once, first, with the first lag.
    lags : iterable of int
        Lags.
    estimator : str or callable, default="cov"
        See :func:`augmented_covariance`.
    window : {"paper", "full"}, default="paper"
        See :func:`delay_embed`.
    structure : {"sample", "toeplitz"}, default="sample"
        See :func:`augmented_covariance`.
    standardize : bool, default=False
        See :func:`augmented_covariance`.

    Returns
    -------
    cells : iterator of (order, lag, covariances)
        Lag by lag, orders as given. All input is checked before the first cell.

    Raises
    ------
    TypeError, ValueError
        As :func:`augmented_covariance`, for the first cell that is not possible.

    See Also
    --------
    augmented_covariance : One cell.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.covariance import augmented_covariance_grid
    >>> X = np.random.default_rng(0).standard_normal((5, 3, 100))
    >>> [(p, lag, G.shape[1]) for p, lag, G in augmented_covariance_grid(X, [1, 2], [1, 5])]
    [(1, 1, 3), (2, 1, 6), (2, 5, 6)]
    """
    check_options(estimator, window, structure)
    X = check_input(X)
    cells = list(grid_cells(orders, lags))
    for order, lag in cells:
        check_embedding(order, lag, X.shape[2], window)
        check_rank(X, order, lag, estimator, window, structure)
    return iterate_cells(X, cells, estimator, window, structure, standardize)


def grid_cells(orders: Iterable[int], lags: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Return the distinct cells of a grid: order 1 once, then lag by lag."""
    orders = [check_positive_int(order, "orders") for order in orders]
    lags = [check_positive_int(lag, "lags") for lag in lags]
    if not orders or not lags:
        raise ValueError(f"orders and lags must not be empty, got {orders} and {lags}.")
    if 1 in orders:
        yield 1, lags[0]
    for lag in dict.fromkeys(lags):
        for order in dict.fromkeys(orders):
            if order != 1:
                yield order, lag


def iterate_cells(X, cells, estimator, window, structure, standardize=False):
    """Yield (order, lag, covariances) of validated input."""
    cells = list(cells)
    if estimator not in _FROM_SCATTER:
        # Costs about 0.5 s once: pyRiemann imports PyTorch and matplotlib where they are there.
        from pyriemann.geometry.covariance import covariances

        for order, lag in cells:
            Z = _stack(X, order, lag, window)
            if standardize:
                scale = Z.std(axis=2, keepdims=True)
                scale[scale == 0.0] = 1.0
                matrices = covariances(Z / scale, estimator=estimator)
                yield order, lag, matrices * scale * scale.transpose(0, 2, 1)
            else:
                yield order, lag, covariances(Z, estimator=estimator)
        return

    n_trials, n_channels, n_times = X.shape
    # Exact, and it keeps the subtractions of the edge terms well conditioned.
    signals = np.array(X.transpose(0, 2, 1), order="C")  # a copy, whatever X's layout is
    signals -= signals.mean(axis=1, keepdims=True)
    sums = np.zeros((n_trials, n_times + 1, n_channels))
    np.cumsum(signals, axis=1, out=sums[:, 1:])
    # How many cells still need each lagged product: it is dropped after the last one.
    uses: dict[int, int] = {}
    for order, lag in cells:
        for k in range(order):
            uses[k * lag] = uses.get(k * lag, 0) + 1
    products: dict[int, np.ndarray] = {}
    for order, lag in cells:
        for k in range(order):
            h = k * lag
            if h not in products:
                products[h] = signals[:, : n_times - h].transpose(0, 2, 1) @ signals[:, h:]
        # Built in a call of its own: no name here keeps a cell that the caller has dropped.
        lagged = [products[k * lag] for k in range(order)]
        if structure == "toeplitz":
            yield order, lag, _toeplitz(lagged, n_times)
        else:
            n_window = window_length(n_times, order, lag, window)
            spare = int(window == "paper")
            yield (
                order,
                lag,
                _finish(
                    _sample(signals, sums, lagged, lag, n_window, spare),
                    n_window,
                    estimator,
                    standardize,
                ),
            )
        del lagged
        for k in range(order):
            h = k * lag
            uses[h] -= 1
            if not uses[h]:
                del products[h]


def _direct(X, order, lag, window):
    """Scatter matrices from the stack itself, trial by trial in one small buffer."""
    n_trials, n_channels, n_times = X.shape
    n_window = window_length(n_times, order, lag, window)
    stacked = np.empty((order * n_channels, n_window))
    average = np.full(n_window, 1.0 / n_window)
    scatter = np.empty((n_trials, len(stacked), len(stacked)))
    for x, out in zip(X, scatter, strict=True):
        for k in range(order):
            stacked[k * n_channels : (k + 1) * n_channels] = x[:, k * lag : k * lag + n_window]
        stacked -= stacked.dot(average)[:, None]
        stacked.dot(stacked.T, out=out)
    return scatter


def _sample(signals, sums, lagged, lag, n_window, spare):
    """Scatter matrices from lagged products less their edge terms."""
    from sklr.covariance._augmented_kernels import assemble

    order = len(lagged)
    n_trials, n_channels, _ = lagged[0].shape
    if order == 1:
        return 0.5 * (lagged[0] + lagged[0].transpose(0, 2, 1))
    scatter = np.empty((n_trials, order * n_channels, order * n_channels))
    edge = np.empty((n_channels, n_channels))
    assemble(signals, sums, np.stack(lagged), order, lag, n_window, spare, edge, scatter)
    return scatter


def _toeplitz(lagged, n_times):
    """Block-Toeplitz matrices of biased autocovariances."""
    order = len(lagged)
    n_trials, n_channels, _ = lagged[0].shape
    out = np.empty((n_trials, order, n_channels, order, n_channels))
    for k, products in enumerate(lagged):
        block = products / n_times
        if k == 0:
            block = 0.5 * (block + block.transpose(0, 2, 1))
        for a in range(order - k):
            out[:, a, :, a + k] = block
            out[:, a + k, :, a] = block.transpose(0, 2, 1)
    return out.reshape(n_trials, order * n_channels, order * n_channels)


def _finish(scatter, n_window, estimator, standardize=False):
    """Turn scatter matrices into the estimator's matrices, in place."""
    d = scatter.shape[1]
    if standardize and estimator == "oas":
        scale = _row_scale(scatter, n_window)
        scatter /= scale * scale.transpose(0, 2, 1)
        scatter = _finish(scatter, n_window, estimator)
        scatter *= scale * scale.transpose(0, 2, 1)
        return scatter
    if estimator == "cov":
        scatter /= n_window - 1
    elif estimator == "corr":
        scale = _row_scale(scatter, 1)
        scatter /= scale
        scatter /= scale.transpose(0, 2, 1)
        np.clip(scatter, -1, 1, out=scatter)
    elif estimator == "scm":
        scatter /= n_window
    else:  # oas, scikit-learn's formula; of one channel there is nothing to shrink
        scatter /= n_window
        if d > 1:
            alpha = np.mean(scatter**2, axis=(1, 2))
            mu = np.trace(scatter, axis1=1, axis2=2) / d
            numerator = alpha + mu**2
            denominator = (n_window + 1) * (alpha - mu**2 / d)
            with np.errstate(divide="ignore", invalid="ignore"):
                shrinkage = np.where(denominator == 0, 1.0, numerator / denominator)
            shrinkage = np.minimum(shrinkage, 1.0)
            scatter *= (1 - shrinkage)[:, None, None]
            scatter[:, np.arange(d), np.arange(d)] += (shrinkage * mu)[:, None]
    return scatter


def _row_scale(scatter, n_window):
    """Standard deviation of each row, one where a row is constant: it stays zero."""
    scale = np.sqrt(np.diagonal(scatter, axis1=1, axis2=2) / n_window)
    return np.where(scale > 0.0, scale, 1.0)[:, :, None]
