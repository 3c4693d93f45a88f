"""Targets that come with samples: labels and their codes, pairs for validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d


def encode_labels(estimator: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes and the number of each label's class; one class alone is refused."""
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs samples of at least two classes, got 1 class: "
            f"{classes.tolist()}"
        )
    return classes, codes


def codes_of(y: Any, classes: np.ndarray, name: str) -> np.ndarray:
    """Return the number of each label's class; labels of no class are refused."""
    y = column_or_1d(np.asarray(y))
    known = np.isin(y, classes)
    if not known.all():
        raise ValueError(
            f"{name} has labels that are not among the classes {classes.tolist()}: "
            f"{np.unique(y[~known]).tolist()}"
        )
    return np.searchsorted(classes, y)


def labels_of_partial_fit(estimator: Any, classes: Any, *, first: bool) -> np.ndarray:
    """Return the classes of ``partial_fit``: given at the first call, the same ever after."""
    if first:
        if classes is None:
            raise ValueError("classes must be given on the first call to partial_fit")
        found = np.unique(np.asarray(classes))
        if len(found) < 2:
            raise ValueError(f"classes must name at least two, got {found.tolist()}")
        return found
    if classes is not None and not np.array_equal(np.unique(classes), estimator.classes_):
        raise ValueError(
            f"classes={np.unique(classes).tolist()} differ from those of the first call, "
            f"{estimator.classes_.tolist()}"
        )
    return estimator.classes_


def validation_pair(
    estimator: Any, X_val: Any, y_val: Any, targets: Callable[[Any, str], np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return validated samples and targets that are scored after each epoch, or None."""
    if (X_val is None) != (y_val is None):
        raise ValueError("X_val and y_val must be given together")
    if X_val is None:
        return None
    X, y = estimator._validate(X_val, reset=False), targets(y_val, "y_val")
    if len(X) != len(y):
        raise ValueError(f"X_val has {len(X)} samples, y_val {len(y)}")
    return X, y
