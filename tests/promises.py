"""Promises of what results do not depend on, and where each subpackage keeps its own.

``tests/<subpackage>/declarations.py`` says for each estimator in ``DECLARED`` what becomes of its
results after a change of the data, and how exactly, or why nothing is promised. It may have

- ``PARAMS``: class name -> parameters, where a promise would be empty with those of the checks;
- ``DATA``: class name -> function ``(estimator, n, p, rng)`` that makes ``(X, y, arguments)`` with
  ``n + 5`` samples, where what :func:`make_check_data` makes would be empty;
- ``KINDS``: class name -> kind of input, where the tags do not tell.
"""

import importlib.util
import pathlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import pdist

WORST = defaultdict(float)  # (class, change, result) -> largest deviation that was seen


class Data(NamedTuple):
    """What is fitted, and the samples that the fitted object is asked about."""

    X: np.ndarray
    y: np.ndarray | None
    asked: np.ndarray
    arguments: dict


@dataclass
class Change:
    """Changed data, and what a promise needs to know of the change."""

    data: Data
    order: np.ndarray | None = None
    factor: float = 1.0
    offset: float = 0.0
    act: object = None
    classes: dict = field(default_factory=dict)


# Promises: what is expected of a result after a change; and what is compared.


@dataclass(frozen=True)
class Promise:
    """``expected(value, change)`` is what comes out, to ``tol`` of the largest entry of ``of``."""

    tol: float
    expected: object = lambda value, change: value
    of: object = lambda value: value


def same(tol):
    return Promise(tol)


def times(tol):
    return Promise(tol, lambda value, change: change.factor * value)


def times_squared(tol):
    return Promise(tol, lambda value, change: change.factor**2 * value)


def divided(tol):
    return Promise(tol, lambda value, change: value / change.factor)


def plus(tol):
    return Promise(tol, lambda value, change: value + change.offset)


def negated(tol):
    return Promise(tol, lambda value, change: -value)


def moved(tol):
    """Results are samples, and change as the samples do."""
    return Promise(tol, lambda value, change: change.act(value))


def distances(tol):
    """Results may turn, be mirrored or change places, as long as their distances are kept."""

    def between(value):
        return pdist(value.reshape(len(value), -1).astype(float))

    return Promise(tol, of=between)


def partition():
    """Clusters may be numbered in another way."""
    return Promise(0.0, of=lambda labels: (labels[:, None] == labels).astype(float))


def check(promise, where, got, value, change):
    expected = promise.expected(value, change)
    if change.classes and where[2] == "predict":
        expected = np.array([change.classes[label] for label in value])
    if expected.dtype.kind not in "fc" and promise.of(expected) is expected:
        assert (got == expected).all(), f"{(got != expected).sum()} of {len(got)} differ"
        return
    expected, got = promise.of(expected), promise.of(got)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    size = max(np.abs(expected).max(initial=0.0), np.finfo(float).tiny)
    off = np.abs(got - expected).max(initial=0.0) / size
    WORST[where] = max(WORST[where], off)
    assert off <= promise.tol, f"off by {off:.1e} of the largest, {promise.tol:.0e} is promised"


def a_rotation(n, rng):
    """Return an orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


# Reasons that several classes have.

NEIGHBOURS = "neighbours are found by distances, which other units of single columns change"
DRAWN = "rows of the random matrix are drawn for positions of the samples"
RIDGE = "the ridge is in the units of the data"
BASIS = "functions and modes belong to the columns as they are"
NETWORK = "the network takes features as they are, and its first weights do not follow them"
BATCHES = "batches and views are drawn by position"

# Subspaces may be numbered in another way, and a basis may take the other sign.
OF_SUBSPACES = {
    "labels_": partition(),
    "predict": partition(),
    "predict_proba": distances(1e-9),
    "score_samples": same(1e-9),
    "transform": distances(1e-9),
}
OF_COVARIANCES = dict(sign=same(0), scale=same(1e-9), columns=same(1e-7), shift=same(1e-7))


def of_distances(promise):
    """Promise the same for every change that keeps distances, or multiplies all of them."""
    return dict.fromkeys(("columns", "scale", "sign", "shift", "rotation"), promise)


def declarations():
    """Return the files of declarations, loaded: subpackage -> module."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*/declarations.py")):
        spec = importlib.util.spec_from_file_location(f"declarations_{path.parent.name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[path.parent.name] = module
    return found


def declared(what):
    """Return all entries of one kind (``"DECLARED"``, ``"PARAMS"``, ...), over all subpackages."""
    merged = {}
    for subpackage, module in declarations().items():
        for name, entry in getattr(module, what, {}).items():
            assert name not in merged, f"{name} stands twice in {what}, once in {subpackage}"
            merged[name] = entry
    return merged
