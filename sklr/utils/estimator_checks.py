"""Run scikit-learn's estimator checks on estimators whose input is not a table.

scikit-learn yields no check at all for an estimator that takes 3-D input. `as_tabular` makes a
twin that takes (n_samples, n_features) tables and lifts them to what the estimator wants, so
that the whole suite runs on the estimator's own code.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import _check_feature_names

__all__ = ["EXPECTED_FAILED_CHECKS", "as_tabular", "lift_to_spd", "lift_to_trials"]

#: Checks that are known to fail: class name -> check name -> reason.
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {}

_LIFTED_METHODS = (
    "fit",
    "fit_transform",
    "partial_fit",
    "transform",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score",
    "score_samples",
)


def _carrier(n_features: int, n_times: int) -> np.ndarray:
    return np.random.default_rng(n_features).standard_normal((2, n_features, n_times))


def lift_to_trials(X: np.ndarray) -> np.ndarray:
    """Lift a table to trials: feature j is the amplitude of channel j's own fixed carrier.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The table. NaN and infinity stay what they are.

    Returns
    -------
    trials : ndarray of shape (n_samples, n_features, 2 * n_features + 24)
        Trials of full rank, also where a feature is zero; each sample is lifted alone.
    """
    signal, floor = _carrier(X.shape[1], 2 * X.shape[1] + 24)
    # The common part of all channels carries the sign, which a lone amplitude would lose.
    return X[:, :, None] * (signal + signal[:1]) + floor


def lift_to_spd(X: np.ndarray) -> np.ndarray:
    """Lift a table to SPD matrices: the Gram matrices of :func:`lift_to_trials`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The table.

    Returns
    -------
    matrices : ndarray of shape (n_samples, n_features, n_features)
        Symmetric positive definite matrices.
    """
    trials = lift_to_trials(X)
    return trials @ trials.transpose(0, 2, 1) / trials.shape[2]


def _lift_call(method: Callable[..., Any], lift: Callable[[np.ndarray], np.ndarray], reset: bool):
    signature = inspect.signature(method)

    def call(self, X, *args, **kwargs):
        _check_feature_names(self, X, reset=reset)
        if not hasattr(X, "tocsr"):  # a sparse table goes on as it is, to be refused
            table = np.asarray(X)
            if table.ndim == 2 and table.shape[1] > 0 and table.dtype.kind in "biuf":
                X = lift(table.astype(np.float64))
            elif table.ndim == 2 and table.dtype.kind in "OUS":
                try:
                    X = lift(table.astype(np.float64))
                except (TypeError, ValueError):
                    X = table
        return method(self, X, *args, **kwargs)

    call.__name__ = method.__name__
    call.__doc__ = method.__doc__
    call.__signature__ = signature
    return call


def _rebuild(cls: type) -> Any:
    return as_tabular(cls())


def as_tabular(estimator: Any, lift: Callable[[np.ndarray], np.ndarray] | None = None) -> Any:
    """Return a twin of a 3-D estimator that takes tables, for scikit-learn's checks.

    Parameters
    ----------
    estimator : estimator instance
        An estimator with the tags ``three_d_array=True, two_d_array=False``.
    lift : callable, optional
        Table (n_samples, n_features) to 3-D input. By default :func:`lift_to_spd` when the
        tag ``positive_only``-like attribute ``_takes_spd`` is set on the class, else
        :func:`lift_to_trials`.

    Returns
    -------
    twin : estimator instance
        Same class name and parameters; its methods lift `X` and then run the original ones.

    Examples
    --------
    >>> from sklr.covariance import AugmentedCovariance
    >>> from sklr.utils.estimator_checks import as_tabular
    >>> twin = as_tabular(AugmentedCovariance(order=2))
    >>> twin.fit_transform([[0.0, 1.0], [2.0, 3.0]]).shape
    (2, 4, 4)
    """
    base = type(estimator)
    if lift is None:
        lift = lift_to_spd if getattr(base, "_takes_spd", False) else lift_to_trials
    body: dict[str, Any] = {}
    for name in _LIFTED_METHODS:
        method = inspect.getattr_static(base, name, None)
        if inspect.isfunction(method):
            body[name] = _lift_call(method, lift, name in ("fit", "fit_transform"))

    def sklearn_tags(self):
        tags = base.__sklearn_tags__(self)
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        if tags.classifier_tags is not None:
            tags.classifier_tags.poor_score = True  # the lift is not made to separate blobs
        return tags

    body["__sklearn_tags__"] = sklearn_tags
    body["__reduce__"] = lambda self: (_rebuild, (base,), self.__getstate__())
    body["__module__"] = base.__module__
    body["__doc__"] = base.__doc__
    twin = type(base.__name__, (base,), body)
    params = estimator.get_params(deep=False)
    if get_tags(estimator).input_tags.two_d_array:
        raise ValueError(f"{base.__name__} takes tables already; as_tabular is for 3-D input.")
    return twin(**params)
