"""Input checks that scikit-learn does not have: stacks of trials and of SPD matrices."""

from numbers import Integral
from typing import Any

import numpy as np
import sklearn.utils
import sklearn.utils.validation
from sklearn import config_context

from sklr.utils._recordings import compare_recording, read_recording, remember_recording
from sklr.utils._spd_checks import rounding, symmetric


def validate_data(estimator: Any, X: Any = "no_validation", *args: Any, **kwargs: Any) -> Any:
    """Validate as scikit-learn does; arrays of other libraries become NumPy's.

    With scikit-learn's ``array_api_dispatch`` they would stay what they are, and nothing here
    computes with those. One on an accelerator is refused by its own library, which says how to
    bring it to the CPU.
    """
    with config_context(array_api_dispatch=False):
        return sklearn.utils.validation.validate_data(estimator, _known(X), *args, **kwargs)


def check_array(array: Any, *args: Any, **kwargs: Any) -> Any:
    """Check one array as scikit-learn does; as in :func:`validate_data`, NumPy's come out."""
    with config_context(array_api_dispatch=False):
        return sklearn.utils.check_array(_known(array), *args, **kwargs)


def _known(array: Any) -> Any:
    """Return a tensor of torch in a type that NumPy has; anything else unchanged."""
    return array.float() if str(getattr(array, "dtype", "")) == "torch.bfloat16" else array


def check_sample_weight(sample_weight: Any, X: Any, **kwargs: Any) -> np.ndarray:
    """Check weights as scikit-learn does; weights of zero only are refused, in every version."""
    with config_context(array_api_dispatch=False):
        weights = sklearn.utils.validation._check_sample_weight(sample_weight, X, **kwargs)
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def as_trials_array(X: Any) -> Any:
    """Return the good data channels of ``mne.Epochs`` or a list of them, else `X` unchanged."""
    return read_recording(X).data


def check_trials(estimator: Any, X: Any, y: Any = "no_validation", *, reset: bool = True) -> Any:
    """Validate trials of shape (n_trials, n_channels, n_times); `n_features_in_` is n_channels.

    Of ``mne.Epochs`` names of channels and sampling rate are kept as `feature_names_in_` and
    `sfreq_in_` in `fit`, and compared with afterwards.

    Parameters
    ----------
    estimator : estimator instance
        Named in messages; `n_features_in_` is set on it or compared with.
    X : array-like of shape (n_trials, n_channels, n_times), mne.Epochs or list of them
        The trials; of Epochs the good data channels.
    y : array-like of shape (n_trials,), optional
        Labels, validated together with `X` when given.
    reset : bool, default=True
        Whether `n_features_in_` is set (fit) or compared with (predict, transform).

    Returns
    -------
    X : ndarray of shape (n_trials, n_channels, n_times), float64
        Validated trials; only with `y`, a pair (X, y).
    """
    if not reset and isinstance(y, str) and _passes_at_once(estimator, X):
        return X
    recording = read_recording(X)
    options: dict[str, Any] = {"allow_nd": True, "dtype": np.float64}
    if not reset:
        compare_recording(estimator, recording)
    if not reset and recording.ch_names is not None and hasattr(estimator, "feature_names_in_"):
        # The names were compared; scikit-learn would warn that an array has none.
        out = check_array(recording.data, estimator=estimator, input_name="X", **options)
        sklearn.utils.validation._check_n_features(estimator, out, reset=False)
        if not (y is None or (isinstance(y, str) and y == "no_validation")):
            _, y = sklearn.utils.check_X_y(out, y, estimator=estimator, **options)
            out = out, y
    else:
        out = validate_data(estimator, recording.data, y, reset=reset, **options)
    X_out = out[0] if isinstance(out, tuple) else out
    name = type(estimator).__name__
    if X_out.ndim != 3:
        raise ValueError(
            f"{name} expects trials of shape (n_trials, n_channels, n_times), "
            f"got {X_out.ndim} dimensions, shape {X_out.shape}. Reshape your data."
        )
    _check_not_empty(X_out)
    if reset:
        remember_recording(estimator, recording)
    return out


def check_spd_stack(estimator: Any, X: Any, y: Any = "no_validation", *, reset: bool = True) -> Any:
    """Validate symmetric matrices of shape (n_matrices, n, n); `n_features_in_` is n.

    Positive definiteness is left to the decomposition that needs it: it finds out for free.

    Parameters
    ----------
    estimator : estimator instance
        Named in messages; `n_features_in_` is set on it or compared with.
    X : array-like of shape (n_matrices, n, n)
        The matrices.
    y : array-like of shape (n_matrices,), optional
        Labels, validated together with `X` when given.
    reset : bool, default=True
        Whether `n_features_in_` is set (fit) or compared with (transform).

    Returns
    -------
    X : ndarray of shape (n_matrices, n, n), float64
        Validated matrices; only with `y`, a pair (X, y).
    """
    if not reset and isinstance(y, str) and _passes_at_once(estimator, X):
        out = X
    else:
        out = validate_data(estimator, X, y, reset=reset, allow_nd=True, dtype=np.float64)
    X_out = out[0] if isinstance(out, tuple) else out
    name = type(estimator).__name__
    if X_out.ndim != 3 or X_out.shape[1] != X_out.shape[2]:
        raise ValueError(
            f"{name} expects square matrices of shape (n_matrices, n, n), "
            f"got {X_out.ndim} dimensions, shape {X_out.shape}. Reshape your data."
        )
    _check_not_empty(X_out)
    X_out = symmetric(X_out, f"{name} expects symmetric matrices; ", rounding(X))
    return (X_out, out[1]) if isinstance(out, tuple) else X_out


def _passes_at_once(estimator: Any, X: Any) -> bool:
    """Whether there is nothing to convert and nothing to refuse in a stack for a fitted estimator.

    scikit-learn's checks take a quarter of a millisecond, as long as the prediction of one trial.
    What does not pass goes there, for its messages.
    """
    return (
        type(X) is np.ndarray
        and X.dtype == np.float64
        and X.ndim == 3
        and X.size > 0
        and X.shape[1] == getattr(estimator, "n_features_in_", None)
        and not hasattr(estimator, "feature_names_in_")
        and bool(np.isfinite(X).all())
    )


def _check_not_empty(X: np.ndarray) -> None:
    if X.shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape[:2]}) while a minimum of 1 is required."
        )
    if X.shape[2] == 0:
        raise ValueError(
            f"Found trials with 0 time samples (shape={X.shape}) while a minimum of 1 is required."
        )


def check_positive_int(value: Any, name: str) -> int:
    """Return `value` as int, or say which parameter is not a positive integer."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(
            f"{name} must be an integer >= 1, got {value!r} of type {type(value).__name__}."
        )
    if value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
    return int(value)
