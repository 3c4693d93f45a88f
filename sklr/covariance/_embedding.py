"""Order and lag of the delay embedding, chosen from the signals alone."""

from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import Bunch

from sklr.covariance._delays import check_input
from sklr.utils._progress import progress
from sklr.utils._validation import check_positive_int
from sklr.utils._warnings import warn_user

_METHODS = ("mdop", "afnn")
# Channels times squared samples, over all trials, that a choice is made from: some seconds.
_MDOP_WORK = 8e8
_MIN_TRIALS = 8
# Points that the mutual information's partition needs to say anything.
_MIN_POINTS = 20


def select_embedding(
    X,
    method="mdop",
    *,
    max_delay=50,
    ratio=2.0,
    false_neighbor_threshold=0.05,
    max_cycles=50,
    theiler_max_delay=100,
    afnn_max_delay=30,
    afnn_max_dimension=30,
    max_trials=None,
    n_jobs=None,
    verbose=0,
    return_details=False,
):
    r"""Choose order and lag of a delay embedding without labels.

    Each trial is embedded by a rule of nonlinear dynamics; the trials' answers are averaged and
    rounded. Call it on training trials only.

    Parameters
    ----------
    X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
        The trials.
    method : {"mdop", "afnn"}, default="mdop"
        "mdop": maximum derivatives on projection [2]_, a non-uniform embedding over all channels
        whose delays are averaged. "afnn": averaged false nearest neighbours, the delay from the
        first minimum of the mean self mutual information and the order from the first maximum
        of the mean of Cao's E1 [3]_ (the paper's rule; Cao's own is where E1 saturates).
    max_delay : int, default=50
        Largest delay tried (MDOP).
    ratio : float, default=2.0
        Growth of a neighbour's distance that makes it false (MDOP).
    false_neighbor_threshold : float, default=0.05
        MDOP stops at this fraction of false neighbours.
    max_cycles : int, default=50
        Largest number of MDOP cycles.
    theiler_max_delay : int, default=100
        Delays searched for the Theiler window (MDOP): the largest over channels of the first
        minimum of the self mutual information.
    afnn_max_delay : int, default=30
        Delays of the mutual information curve (aFNN).
    afnn_max_dimension : int, default=30
        Dimensions of the E1 curve (aFNN).
    max_trials : int, default=None
        Largest number of trials that are looked at, evenly spread over `X`. None is all of them,
        but for MDOP on many channels: there as many as keep the sum of n_channels * n_times^2
        over trials below 8e8 (fifty trials of 64 channels and 500 samples), and at least 8.
    n_jobs : int, default=None
        Threads over trials. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress over trials.
    return_details : bool, default=False
        Also return what was found in each trial.

    Returns
    -------
    order, lag : int
        Both at least 1.
    details : Bunch
        Only with `return_details`. "mdop": ``orders`` and ``lags`` of shape (n_trials,),
        ``delays`` and ``fractions`` (lists of arrays: the delays found, the leading 0 included,
        and the false neighbours after each cycle), ``theiler`` of shape (n_trials,). "afnn":
        ``mutual_information`` (mean curve in bits, delays from 1), ``e1`` (mean curve,
        dimensions from 1), ``first_minima`` of shape (n_trials, n_channels). Both: ``trials``,
        the places of the trials that were looked at.

    Raises
    ------
    TypeError, ValueError
        Wrong shape, NaN or infinity, complex data, a constant channel, trials too short for the
        delays, or a parameter out of range.

    Warns
    -----
    UserWarning
        The order is the largest that was tried (aFNN): the curve has no maximum before its end.

    See Also
    --------
    AugmentedCovarianceSVC : Takes the rule's name as its order.
    AugmentedCovarianceSVCCV : Chooses with labels, by cross-validation.

    Notes
    -----
    MDOP keeps as many delays as it did cycles, the leading 0 included and the last one found
    left out; order is their number and lag their mean. Points whose neighbour lies at distance
    zero, or does not diverge at all, do not count in its mean logarithm. Where trials are too
    short for a dimension of the E1 curve, the mean is over those channels that reach it.
    Time is O(n_channels n_times^2) for the first cycle of a trial and O(n_times^2) a coordinate
    after it; memory is linear. On short trials the lags that MDOP finds (about 20 samples at
    160 Hz) cost a good part of the window.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508
    .. [2] C. Nichkawde, "Optimal state-space reconstruction using derivatives on projected
       manifold", Phys. Rev. E 87, 022905, 2013. https://doi.org/10.1103/PhysRevE.87.022905
    .. [3] L. Cao, "Practical method for determining the minimum embedding dimension of a scalar
       time series", Physica D 110, 1997. https://doi.org/10.1016/S0167-2789(97)00118-8

    Examples
    --------
    >>> from sklr.covariance import select_embedding
    >>> from sklr.datasets import make_ar2_trials
    >>> X, _ = make_ar2_trials(n_trials=4, random_state=0)
    >>> order, lag = select_embedding(X)
    >>> order >= 1 and lag >= 1
    True
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {_METHODS}, got {method!r}.")
    for name, value in (
        ("max_delay", max_delay),
        ("max_cycles", max_cycles),
        ("theiler_max_delay", theiler_max_delay),
        ("afnn_max_delay", afnn_max_delay),
        ("afnn_max_dimension", afnn_max_dimension),
    ):
        check_positive_int(value, name)
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not ratio > 1:
        raise ValueError(f"ratio must be a number above 1, got {ratio!r}.")
    threshold = false_neighbor_threshold
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 <= threshold < 1:
        raise ValueError(f"false_neighbor_threshold must be in [0, 1), got {threshold!r}.")
    if max_trials is not None:
        check_positive_int(max_trials, "max_trials")
    if n_jobs is not None and not isinstance(n_jobs, Integral):
        raise TypeError(f"n_jobs must be an integer or None, got {n_jobs!r}.")
    X = check_input(X)
    longest = max(max_delay, theiler_max_delay) if method == "mdop" else afnn_max_delay
    if X.shape[2] < longest + _MIN_POINTS:
        raise ValueError(
            f"Trials have {X.shape[2]} samples; method={method!r} with delays up to {longest} "
            f"needs at least {longest + _MIN_POINTS}. Use longer trials or smaller delays."
        )
    flat = np.ptp(X, axis=2) == 0
    if flat.any():
        trial, channel = np.argwhere(flat)[0]
        raise ValueError(
            f"Channel {channel} of trial {trial} is constant ({flat.sum()} such in all); "
            "remove it: its delays say nothing."
        )
    places = _spread(X.shape, method, max_trials)
    X = X[places]
    if method == "mdop":

        def one(trial):
            return _mdop(trial, max_delay, float(ratio), threshold, max_cycles, theiler_max_delay)
    else:

        def one(trial):
            return _afnn(trial, afnn_max_delay, afnn_max_dimension)

    if effective_n_jobs(n_jobs) == 1:
        done = map(one, X)
    else:
        done = Parallel(n_jobs, prefer="threads", return_as="generator")(
            delayed(one)(trial) for trial in X
        )
    found = list(progress(done, total=len(X), description=method, verbose=verbose))
    summary = _summarise_mdop(found) if method == "mdop" else _summarise_afnn(found)
    order, lag, details = summary
    details["trials"] = places
    if method == "afnn" and order > 1 and order == len(details["e1"]):
        warn_user(
            f"aFNN chose order {order}, the largest of its curve: E1 still rises there, and says "
            f"nothing about the order. The matrices would have {order} * {X.shape[1]} = "
            f"{order * X.shape[1]} rows; method='mdop' or a search chooses smaller ones.",
        )
    return (order, lag, details) if return_details else (order, lag)


def _spread(shape, method, max_trials):
    """Places of the trials that are looked at, evenly spread."""
    n_trials, n_channels, n_times = shape
    if max_trials is None:
        max_trials = n_trials
        if method == "mdop":
            max_trials = max(_MIN_TRIALS, int(_MDOP_WORK / (n_channels * n_times**2)))
    if max_trials >= n_trials:
        return np.arange(n_trials)
    return np.unique(np.linspace(0, n_trials - 1, max_trials).round().astype(int))


def _mdop(trial, max_delay, ratio, threshold, max_cycles, theiler_max_delay):
    from sklr.covariance._embedding_kernels import first_minimum, mdop_trial, mutual_information

    standard = trial - trial.mean(axis=1, keepdims=True)
    # The partition halves from below: without an orientation, a channel's sign could move the
    # window by a sample.
    orientation = np.where((standard**3).sum(axis=1) < 0, -1.0, 1.0)
    theiler = max(
        first_minimum(mutual_information(x, theiler_max_delay))
        for x in standard * orientation[:, None]
    )
    standard /= standard.std(axis=1, ddof=1, keepdims=True)
    done, delays, fractions = mdop_trial(standard, theiler, max_delay, ratio, threshold, max_cycles)
    kept = delays[: max(done, 1)]
    return len(kept), int(np.rint(kept.mean())), delays, fractions, theiler


def _summarise_mdop(found):
    orders, lags, delays, fractions, theiler = (list(column) for column in zip(*found))
    details = Bunch(
        orders=np.array(orders),
        lags=np.array(lags),
        delays=delays,
        fractions=fractions,
        theiler=np.array(theiler),
    )
    order, lag = (max(1, int(np.rint(np.mean(column)))) for column in (orders, lags))
    return order, lag, details


def _afnn(trial, max_delay, max_dimension):
    from sklr.covariance._embedding_kernels import cao_e1, first_minimum, mutual_information

    trial = np.ascontiguousarray(trial)
    information = np.stack([mutual_information(x, max_delay) for x in trial])
    minima = [first_minimum(curve) for curve in information]
    e1 = np.stack([cao_e1(x, delay, max_dimension) for x, delay in zip(trial, minima)])
    return information, e1, minima


def _summarise_afnn(found):
    information = np.mean([item[0] for item in found], axis=(0, 1))
    curves = np.concatenate([item[1] for item in found])
    reached = ~np.isnan(curves)
    counts = reached.sum(axis=0)
    if counts[0] == 0:
        raise ValueError("Trials are too short for the E1 curve at their first-minimum delays.")
    # Mean over the channels that reach a dimension; the curve ends where none does.
    e1 = np.where(reached, curves, 0.0).sum(axis=0)[counts > 0] / counts[counts > 0]
    details = Bunch(
        mutual_information=information, e1=e1, first_minima=np.array([item[2] for item in found])
    )
    return _first_peak(e1), _first_peak(-information), details


def _first_peak(curve):
    """1-based index of the first entry that no neighbour exceeds (plateaus and ends allowed)."""
    padded = np.r_[-np.inf, curve, -np.inf]
    return int(np.argmax((curve >= padded[:-2]) & (curve >= padded[2:]))) + 1
