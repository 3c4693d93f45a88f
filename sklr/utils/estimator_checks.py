"""Run scikit-learn's estimator checks, and ours, on every kind of estimator.

scikit-learn yields no check at all for an estimator that takes 3-D input. `as_tabular` makes a
twin that takes (n_samples, n_features) tables and lifts them to what the estimator wants, so
that the whole suite runs on the estimator's own code.

One time sample per trial would give covariances of rank one, or zero after centring. So the lift
has more time samples than channels, and what is checked is what users call.
"""

import functools
import importlib
import inspect
import pathlib
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import _enforce_estimator_tags_X, _enforce_estimator_tags_y
from sklearn.utils.validation import _check_feature_names

import sklr
from sklr.utils._imports import TORCH_PACKAGES

__all__ = [
    "CHECK_PARAMS",
    "EXPECTED_FAILED_CHECKS",
    "as_tabular",
    "instance_for_checks",
    "lift_to_spd",
    "lift_to_trials",
    "make_check_data",
    "missing_extra",
]


def _declared(what: str) -> dict[str, Any]:
    """Return what the subpackages' files ``_check_params.py`` say, by class name."""
    found: dict[str, Any] = {}
    root = pathlib.Path(sklr.__file__).parent
    for path in sorted(root.rglob("_check_params.py")):
        package = ".".join(("sklr", *path.relative_to(root).parent.parts))
        found |= getattr(importlib.import_module(f"{package}._check_params"), what, {})
    return found


#: Checks that are known to fail: class name -> check name -> reason.
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = _declared("EXPECTED_FAILED_CHECKS")

#: Parameters that make a class quick enough to be checked hundreds of times: class name ->
#: parameters. Classes that are not named are checked with their defaults.
CHECK_PARAMS: dict[str, dict[str, Any]] = _declared("CHECK_PARAMS")

_LIFTED_METHODS = (
    "fit",
    "fit_transform",
    "fit_predict",
    "partial_fit",
    "transform",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score",
    "score_samples",
)
_EXTRA_IN_MESSAGE = re.compile(r"sklr\[(\w+)\]")

# Which twins are inside one of their own methods, by thread: what a method calls on itself
# gets what the method made of the input, and is not lifted again.
_RUNNING = threading.local()


@functools.lru_cache(maxsize=64)
def _carriers(n_features: int, n_times: int) -> np.ndarray:
    carriers = np.random.default_rng(n_features).standard_normal((2, n_features, n_times))
    carriers.setflags(write=False)
    return carriers


def lift_to_trials(X: np.ndarray) -> np.ndarray:
    """Lift a table to trials: feature j is the amplitude of channel j's own fixed carrier.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The table: real or complex numbers. NaN and infinity stay what they are.

    Returns
    -------
    trials : ndarray of shape (n_samples, n_features, 4 * n_features + 24)
        Trials of full rank, also where a feature is zero; each sample is lifted alone.
        Floating and complex dtypes are kept, others become float64.

    See Also
    --------
    lift_to_spd : The same for estimators that take SPD matrices.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.utils.estimator_checks import lift_to_trials
    >>> lift_to_trials(np.eye(3)).shape
    (3, 3, 36)
    """
    X = np.asarray(X)
    # Half precision would round the carriers, other types cannot hold them.
    wide = np.promote_types(X.dtype, np.float32) if X.dtype.kind in "fc" else np.float64
    X = X.astype(wide, copy=False)
    # The common part of all channels carries the sign, which a lone amplitude would lose.
    signal, floor = _carriers(X.shape[1], 4 * X.shape[1] + 24).astype(X.dtype)
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

    See Also
    --------
    lift_to_trials : The same for estimators that take trials.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.utils.estimator_checks import lift_to_spd
    >>> matrices = lift_to_spd(np.eye(3))
    >>> matrices.shape
    (3, 3, 3)
    >>> bool((np.linalg.eigvalsh(matrices) > 0).all())
    True
    """
    trials = lift_to_trials(X)
    # einsum, not matmul: each entry is summed in one order, so that the matrices are symmetric
    # to the last bit and do not depend on how many samples are lifted together.
    return np.einsum("nit,njt->nij", trials, trials) / trials.shape[2]


def _default_lift(cls: type) -> Callable[[np.ndarray], np.ndarray]:
    own = getattr(cls, "_lift_table", None)
    if own is not None:
        return own
    return lift_to_spd if getattr(cls, "_takes_spd", False) else lift_to_trials


def _lifted(X: Any, lift: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return `X` lifted when it is a table of numbers, else as it is, to be refused."""
    if hasattr(X, "tocsr"):
        return X
    table = np.asarray(X)
    if table.ndim != 2:
        return X
    if table.dtype.kind not in "biufc":
        try:
            table = table.astype(np.float64)
        except (TypeError, ValueError):
            return X
    return lift(table)


def _call_lifted(estimator, method, lift, name, X, args, kwargs):
    running = getattr(_RUNNING, "twins", frozenset())
    if id(estimator) in running:
        return method(X, *args, **kwargs)
    is_fitted = hasattr(estimator, "n_features_in_")
    reset = name.startswith("fit") or (name == "partial_fit" and not is_fitted)
    if reset or is_fitted:
        _check_feature_names(estimator, X, reset=reset)
    # The estimator itself sees an array without names, and would forget or miss them.
    names = vars(estimator).pop("feature_names_in_", None)
    _RUNNING.twins = running | {id(estimator)}
    try:
        out = method(_lifted(X, lift), *args, **kwargs)
        if hasattr(out, "columns") and hasattr(out, "index") and hasattr(X, "index"):
            out.index = X.index  # trials have no row names to hand on, the table has
        return out
    finally:
        _RUNNING.twins = running
        if names is not None:
            estimator.feature_names_in_ = names


def _lift_function(function, name, lift):
    def call(self, X, *args, **kwargs):
        return _call_lifted(self, function.__get__(self), lift, name, X, args, kwargs)

    call.__name__ = name
    call.__doc__ = function.__doc__
    call.__signature__ = inspect.signature(function)
    return call


class _LiftedDescriptor:
    """A method that exists only for some parameters (``available_if``), with lifted input."""

    def __init__(self, descriptor, name, lift):
        self.descriptor, self.name, self.lift = descriptor, name, lift

    def __get__(self, instance, owner=None):
        method = self.descriptor.__get__(instance, owner)  # AttributeError when not available
        if instance is None:
            return method

        def call(X, *args, **kwargs):
            return _call_lifted(instance, method, self.lift, self.name, X, args, kwargs)

        call.__name__ = self.name
        call.__doc__ = method.__doc__
        call.__signature__ = inspect.signature(method)
        return call


@functools.cache
def _twin_class(base: type, lift: Callable[[np.ndarray], np.ndarray]) -> type:
    body: dict[str, Any] = {}
    for name in _LIFTED_METHODS:
        method = inspect.getattr_static(base, name, None)
        if inspect.isfunction(method):
            body[name] = _lift_function(method, name, lift)
        elif hasattr(type(method), "__get__"):
            body[name] = _LiftedDescriptor(method, name, lift)

    def sklearn_tags(self):
        tags = base.__sklearn_tags__(self)
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        # The lift keeps samples apart, but was not made to keep blobs or linear targets easy.
        if tags.classifier_tags is not None:
            tags.classifier_tags.poor_score = True
        if tags.regressor_tags is not None:
            tags.regressor_tags.poor_score = True
        return tags

    body["__sklearn_tags__"] = sklearn_tags
    body["__reduce__"] = lambda self: (_empty_twin, (base, lift), self.__getstate__())
    body["__module__"] = base.__module__
    body["__qualname__"] = base.__qualname__
    body["__doc__"] = base.__doc__
    return type(base.__name__, (base,), body)


def _empty_twin(base: type, lift: Callable[[np.ndarray], np.ndarray]) -> Any:
    twin: Any = _twin_class(base, lift)
    return twin.__new__(twin)


@functools.cache
def _supplied_class(base: type) -> type:
    """Return a subclass whose `fit` gets what it needs and the checks do not hand over."""
    fit = base.fit  # type: ignore[attr-defined]

    @functools.wraps(fit)
    def supplied_fit(self, X, y=None, **arguments):
        shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
        if len(shape) == 2:
            arguments = base._arguments_for_checks(shape[1], arguments)  # type: ignore[attr-defined]
        return fit(self, X, y, **arguments)

    body: dict[str, Any] = {"fit": supplied_fit}
    body["__reduce__"] = lambda self: (_empty_supplied, (base,), self.__getstate__())
    for name in ("__module__", "__qualname__", "__doc__"):
        body[name] = getattr(base, name)
    return type(base.__name__, (base,), body)


def _empty_supplied(base: type) -> Any:
    twin: Any = _supplied_class(base)
    return twin.__new__(twin)


def as_tabular(estimator: Any, lift: Callable[[np.ndarray], np.ndarray] | None = None) -> Any:
    """Return a twin of a 3-D estimator that takes tables, for scikit-learn's checks.

    Parameters
    ----------
    estimator : estimator instance
        An estimator with the tag ``two_d_array=False``.
    lift : callable, default=None
        Table (n_samples, n_features) to the estimator's input, sample by sample; a function
        of a module, so that the twin can be pickled. By default the class's own
        ``_lift_table`` where it has one, :func:`lift_to_spd` where the class has
        ``_takes_spd = True``, else :func:`lift_to_trials`.

    Returns
    -------
    twin : estimator instance
        Same class name and parameters; its methods lift `X` and then run the original ones.
        Names of a table's columns are kept as scikit-learn keeps them.

    See Also
    --------
    sklearn.utils.estimator_checks.parametrize_with_checks : The suite that the twin is for.

    Examples
    --------
    >>> from sklr.covariance import AugmentedCovariance
    >>> from sklr.utils.estimator_checks import as_tabular
    >>> twin = as_tabular(AugmentedCovariance(order=2))
    >>> twin.fit_transform([[0.0, 1.0], [2.0, 3.0]]).shape
    (2, 4, 4)
    """
    base: Any = type(estimator)
    if get_tags(estimator).input_tags.two_d_array:
        raise ValueError(f"{base.__name__} takes tables already; as_tabular is for 3-D input.")
    twin = _twin_class(base, _default_lift(base) if lift is None else lift)
    return twin(**estimator.get_params(deep=False))


def instance_for_checks(estimator_class: type, *, tabular: bool = False) -> Any:
    """Return an instance of a class with the parameters that checks use.

    Parameters
    ----------
    estimator_class : type
        An estimator class.
    tabular : bool, default=False
        Whether a class with 3-D input comes as its twin that takes tables.

    Returns
    -------
    estimator : estimator instance
        With the parameters of ``CHECK_PARAMS``, with ``random_state=0`` where it has one, and in
        float64 where it has a network inside and the parameter ``dtype`` to choose. A
        class whose ``fit`` needs more than samples and labels has a static method
        ``_arguments_for_checks(n_features, given)`` that completes the arguments of ``fit``; it
        comes as a twin that calls it.

    See Also
    --------
    make_check_data : The data that such an instance takes.

    Examples
    --------
    >>> from sklr.covariance import AugmentedCovariance
    >>> from sklr.utils.estimator_checks import instance_for_checks
    >>> instance_for_checks(AugmentedCovariance)
    AugmentedCovariance()
    """
    if hasattr(estimator_class, "_arguments_for_checks"):
        estimator_class = _supplied_class(estimator_class)
    estimator = estimator_class(**CHECK_PARAMS.get(estimator_class.__name__, {}))
    parameters = estimator.get_params(deep=False)
    if "random_state" in parameters:
        estimator.set_params(random_state=0)
    of_torch = estimator_class.__module__.startswith(
        tuple(f"sklr.{package}." for package in TORCH_PACKAGES)
    )
    if of_torch and parameters.get("dtype") == "auto":
        # Weights are compared with repeated samples to 1e-7, below the rounding of float32.
        estimator.set_params(dtype="float64")
    if tabular and not get_tags(estimator).input_tags.two_d_array:
        return as_tabular(estimator)
    return estimator


def make_check_data(
    estimator: Any, n_samples: int = 24, n_features: int = 3, *, seed: int = 0
) -> tuple[Any, np.ndarray | None]:
    """Make small data that an estimator takes, from its tags alone.

    Parameters
    ----------
    estimator : estimator instance
        The estimator; its tags say what it takes.
    n_samples : int, default=24
        Number of samples.
    n_features : int, default=3
        Number of features, or channels.
    seed : int, default=0
        Seed of the data.

    Returns
    -------
    X : ndarray of shape (n_samples, ...)
        A table, an array of trials, SPD matrices, or a matrix of pairs.
    y : ndarray of shape (n_samples,) or None
        Two classes, or a continuous target; None for an estimator that needs none.

    See Also
    --------
    as_tabular : The twin of a 3-D estimator that takes the table itself.

    Examples
    --------
    >>> from sklr.covariance import AugmentedCovariance
    >>> from sklr.utils.estimator_checks import make_check_data
    >>> X, y = make_check_data(AugmentedCovariance())
    >>> X.shape, y is None
    ((24, 3, 36), True)
    """
    tags = get_tags(estimator)
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % 2
    table = rng.standard_normal((n_samples, n_features)) + 2.0 * labels[:, None]
    y: np.ndarray | None = None
    if tags.estimator_type == "classifier" or (
        tags.target_tags.required and tags.estimator_type != "regressor"
    ):
        y = _enforce_estimator_tags_y(estimator, labels)
    elif tags.estimator_type == "regressor":
        target = table @ np.arange(1, n_features + 1) + 0.1 * rng.standard_normal(n_samples)
        y = _enforce_estimator_tags_y(estimator, target)
    if tags.input_tags.two_d_array or tags.input_tags.one_d_array:
        return _enforce_estimator_tags_X(estimator, table), y
    return _default_lift(type(estimator))(table), y


def missing_extra(estimator: Any) -> str | None:
    """Return the extra without which an estimator cannot be fitted here, if there is one.

    Parameters
    ----------
    estimator : estimator instance
        The estimator; a clone of it is fitted.

    Returns
    -------
    extra : str or None
        Name of the extra, as the message of the failed import gives it; None when the
        estimator can be fitted.

    See Also
    --------
    make_check_data : The data that the clone is fitted to.

    Examples
    --------
    >>> from sklr.covariance import AugmentedCovariance
    >>> from sklr.utils.estimator_checks import missing_extra
    >>> print(missing_extra(AugmentedCovariance()))
    None
    """
    X, y = make_check_data(estimator)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            clone(estimator).fit(X, y)
    except ImportError as exc:
        found = _EXTRA_IN_MESSAGE.search(str(exc))
        if found:
            return found[1]
        raise
    return None
