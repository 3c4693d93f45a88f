"""scikit-learn's base class, whose pickles also say which version of sklr wrote them."""

import warnings
from typing import Any

import sklearn.base
from sklearn.exceptions import InconsistentVersionWarning

import sklr


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


class BaseEstimator(sklearn.base.BaseEstimator):
    """Base of every estimator of sklr."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_sklr_version": sklr.__version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written_by = state.pop("_sklr_version", "of an unknown version")
        if written_by != sklr.__version__:
            warnings.warn(
                PickledByAnotherVersionWarning(type(self).__name__, written_by), stacklevel=2
            )
        super().__setstate__(state)
