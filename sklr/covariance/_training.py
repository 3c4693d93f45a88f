"""What the classifiers of this package do with their training data before anything else."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from sklr.covariance._delays import (
    PLAIN,
    check_independent_channels,
    check_no_flat_channel,
    is_rank_deficient,
    window_length,
)
from sklr.utils._validation import check_sample_weight, check_trials


class Training(NamedTuple):
    """Checked training data; `weights` and `kept` are None where all count alike."""

    X: Any
    y: Any
    classes: Any
    weights: Any
    kept: Any  # places of the samples that have a weight


def check_training(estimator, X, y, sample_weight=None, check=check_trials):
    """Check samples, classes and weights, and leave out what has no weight.

    Raises
    ------
    ValueError
        Targets that are not classes, a single class, or a class without weight.
    """
    X, y = check(estimator, X, y)
    check_classification_targets(y)
    classes, name = np.unique(y), type(estimator).__name__
    if len(classes) < 2:
        raise ValueError(f"{name} needs at least two classes, got one class: {classes[0]!r}.")
    if sample_weight is None:
        return Training(X, y, classes, None, None)
    weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    kept = np.flatnonzero(weights)
    lost = np.setdiff1d(y, y[kept])
    if len(lost):
        raise ValueError(
            f"All samples of class {lost.tolist()[0]!r} have sample_weight 0: {name} needs some of "
            "each class. Leave the class out of X and y instead."
        )
    return Training(X[kept], y[kept], classes, weights[kept], kept)


def possible_cells(estimator, cells, n_channels, n_times, called=None):
    """Return the cells (order, lag) that trials of this size allow; no such cell is an error."""
    possible = [
        (order, lag)
        for order, lag in cells
        if window_length(n_times, order, lag, estimator.window) >= 2
        and not is_rank_deficient(
            n_channels, n_times, order, lag, estimator.estimator, estimator.window
        )
    ]
    if not possible:
        raise ValueError(
            f"None of the {called or f'cells {cells}'} is possible with {n_channels} channels, "
            f"{n_times} samples a trial and estimator={estimator.estimator!r}: order * lag must be "
            f"below {n_times - 1}, and order * n_channels below the samples that are left unless "
            "the estimator shrinks ('oas', 'lwf', 'sch')."
        )
    return possible


def check_signals(model, X, kept=None, *, together=True):
    """Refuse what `model.estimator` makes no definite matrices of, by trial and channel.

    Parameters
    ----------
    model : estimator
        Has `estimator` and `standardize`, and `feature_names_in_` where the input had names.
    X : ndarray of shape (n_trials, n_channels, n_times)
        The trials.
    kept : ndarray of int, default=None
        Their numbers, where some were left out.
    together : bool, default=True
        Whether to ask also if channels depend on each other in all trials.
    """
    plain = not callable(model.estimator) and model.estimator in PLAIN
    if plain or model.standardize:
        remedy = "use a shrinkage estimator ('oas', 'lwf')"
        if not plain:
            remedy = "use standardize=False"
        names = getattr(model, "feature_names_in_", None)
        check_no_flat_channel(X, names, numbers=kept, remedy=remedy)
    if plain and together:
        check_independent_channels(X, model.estimator)
