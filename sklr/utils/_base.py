"""scikit-learn's base class, whose pickles also say which version of sklr wrote them.

And its decorator of ``fit``, which begins without the former fit and undoes one that fails.
"""

import contextlib
import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

import sklearn
import sklearn.base
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import _is_fitted

import sklr
from sklr.utils._threads import openmp_after_fork
from sklr.utils._warnings import warn_user


class PickledByAnotherVersionWarning(InconsistentVersionWarning):
    """An estimator is unpickled that another version of sklr pickled.

    Parameters
    ----------
    estimator_name : str
        Name of the class.
    written_by : str
        The version that pickled it.
    """

    def __init__(self, estimator_name: str, written_by: str) -> None:
        self.estimator_name = estimator_name
        self.written_by = written_by

    def __str__(self) -> str:
        return (
            f"{self.estimator_name} was pickled by sklr {self.written_by} and is loaded by sklr "
            f"{sklr.__version__}: attributes may be missing or mean something else. Fit it again."
        )


@functools.cache
def _documentation() -> str:
    """Return the address of the pages that the installed package gives, or nothing."""
    try:
        urls = importlib.metadata.metadata("sklr").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return ""
    named = dict(line.split(", ", 1) for line in urls)
    return named.get("Documentation", "").rstrip("/")


class BaseEstimator(sklearn.base.BaseEstimator):
    """Base of every estimator of sklr."""

    def _get_doc_link(self) -> str:
        """Return the address of the class's page, or nothing; scikit-learn's HTML form asks."""
        home, _, private = type(self).__module__.partition("._")
        if not home.startswith("sklr") or not private or not _documentation():
            return ""
        return f"{_documentation()}/generated/{home}.{type(self).__name__}.html"

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_sklr_version": sklr.__version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written_by = state.pop("_sklr_version", "of an unknown version")
        if written_by != sklr.__version__:
            warn_user(PickledByAnotherVersionWarning(type(self).__name__, written_by))
        super().__setstate__(state)


# What scikit-learn keeps in an estimator beside its parameters: requests of metadata, the container
# of outputs, callbacks.
_OF_SKLEARN = ("_metadata_request", "_sklearn_", "_skl_", "_parent_callback", "_callback")


def _without_a_fit(estimator: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    parameters = set(estimator._get_param_names())
    return {
        name: value
        for name, value in attributes.items()
        if name in parameters or name.startswith(_OF_SKLEARN)
    }


@functools.cache
def _callbacks() -> Callable[[Any], contextlib.AbstractContextManager]:
    """Return scikit-learn's context of callbacks; imported late, since it takes a while."""
    try:
        from sklearn.callback._callback_support import callback_management_context
    except ImportError:  # before scikit-learn 1.9
        return contextlib.nullcontext
    return callback_management_context


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Callable], Callable]:
    """Do what scikit-learn's ``_fit_context`` does, and keep fits apart.

    A fit begins with the constructor's parameters only, so that no attribute of a former fit is
    left beside new ones; ``partial_fit`` of a fitted estimator goes on with what there is. A fit
    that fails or is interrupted leaves the former fit or none: half of a fit would answer with
    attributes that are not there, or mix with the fit before. All is in one function, since each
    further frame would move the place that warnings name.
    """

    def decorator(method: Callable) -> Callable:
        @functools.wraps(method)
        def wrapper(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            skip = sklearn.get_config()["skip_parameter_validation"]
            goes_on = method.__name__ == "partial_fit" and _is_fitted(estimator)
            if not (skip or goes_on):
                estimator._validate_params()
            before = dict(vars(estimator))
            try:
                try:
                    if not goes_on:
                        estimator.__dict__ = _without_a_fit(estimator, before)
                    with (
                        sklearn.config_context(
                            skip_parameter_validation=prefer_skip_nested_validation or skip
                        ),
                        _callbacks()(estimator),
                        openmp_after_fork(),
                    ):
                        return method(estimator, *args, **kwargs)
                except BaseException:
                    # In one step: another thread would find it without parameters.
                    estimator.__dict__ = before
                    raise
            except BaseException:
                estimator.__dict__ = before  # a second Ctrl-C came before the first line
                raise

        return wrapper

    return decorator
