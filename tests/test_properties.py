"""Every estimator on data that nobody tidied: shapes, dtypes, layouts, scales, degenerate tables.

A fit either raises a ValueError or TypeError that says something, or every result is finite and
of the right length, the input is untouched, and no floating-point warning escapes. The suite
draws a few tables a class; ``SKLR_EXAMPLES=1000`` draws more and prints the counts.
"""

import os
import warnings
from collections import Counter, defaultdict

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import get_tags

hypothesis = pytest.importorskip("hypothesis", reason="needs the extra test")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from sklr.utils import all_estimators  # noqa: E402
from sklr.utils.estimator_checks import (  # noqa: E402
    instance_for_checks,
    make_check_data,
    missing_extra,
)

EXAMPLES = int(os.environ.get("SKLR_EXAMPLES", "8"))
TABULAR = [instance_for_checks(cls, tabular=True) for _, cls in all_estimators()]
METHODS = ("transform", "predict", "predict_proba", "decision_function", "score_samples")
RAN = defaultdict(Counter)

several = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
of_every_class = pytest.mark.parametrize(
    "estimator", TABULAR, ids=lambda estimator: type(estimator).__name__
)

KINDS = (
    "normal",
    "counts",
    "constant",
    "duplicated rows",
    "zero column",
    "collinear",
    "one outlier",
    "two values",
    "columns of different scales",
)
SCALES = (1.0, 1e-12, 1e12, 1e-100, 1e100)


@st.composite
def tables(draw):
    """Draw a description of a table; the values come from a seed, which is quicker."""
    return {
        "n": draw(st.integers(1, 20)),
        "p": draw(st.integers(1, 5)),
        "kind": draw(st.sampled_from(KINDS)),
        "scale": draw(st.sampled_from(SCALES)),
        "dtype": draw(st.sampled_from(("float64", "float32"))),
        "seed": draw(st.integers(0, 99)),
    }


def make_table(n, p, kind, scale, dtype, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    if kind == "counts":
        X = rng.poisson(1.0, (n, p)).astype(float)
    elif kind == "constant":
        X[:] = 1.0
    elif kind == "duplicated rows":
        X = X[rng.integers(0, max(1, n // 3), n)]
    elif kind == "zero column":
        X[:, 0] = 0.0
    elif kind == "collinear":
        X = np.outer(X[:, 0], np.arange(1, p + 1))
    elif kind == "one outlier":
        X[0] += 1e6
    elif kind == "two values":
        X = np.sign(X)
    elif kind == "columns of different scales":
        X = X * np.logspace(-6, 6, p)
    if dtype == "float32":
        scale = np.clip(scale, 1e-30, 1e30)
    return (X * scale).astype(dtype)


def make_target(estimator, X, seed):
    tags = get_tags(estimator)
    rng = np.random.default_rng(seed)
    if tags.estimator_type == "regressor":
        return rng.standard_normal(len(X))
    _, y = make_check_data(estimator, n_samples=max(2, len(X)))
    return None if y is None else np.asarray(y)[: len(X)]


def results_of(estimator, X, y):
    """Return what every method gives for the training table, by name."""
    out = {}
    fitted = clone(estimator).fit(X, y)
    for name in METHODS:
        if hasattr(fitted, name):
            out[name] = np.asarray(getattr(fitted, name)(X))
    if hasattr(fitted, "labels_"):
        out["labels_"] = fitted.labels_
    return out


@of_every_class
def test_fits_or_says_why(estimator):
    if missing_extra(estimator):
        pytest.skip("needs an extra that is not installed")
    name = type(estimator).__name__

    @several
    @given(tables())
    def holds(table):
        X = make_table(**table)
        y = make_target(estimator, X, table["seed"])
        if get_tags(estimator).input_tags.positive_only:
            X = np.abs(X)
        before = X.copy()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", "overflow|invalid value|divide by zero")
                results = results_of(estimator, X, y)
        except (ValueError, TypeError) as exc:
            assert len(str(exc)) > 15, repr(exc)
            RAN[name]["refused"] += 1
            return
        finally:
            assert_array_equal(X, before)
        RAN[name]["fitted"] += 1
        for method, values in results.items():
            assert len(values) == len(X), method
            if values.dtype.kind == "f":
                assert np.isfinite(values).all(), f"{method} is not finite"

    holds()
    assert RAN[name]["fitted"], "every table was refused"


def other_layouts(X, folder):
    """Yield the same numbers in other containers."""
    padded = np.zeros((2 * len(X), X.shape[1] + 3))
    padded[::2, 1:-2] = X
    on_disk = np.memmap(folder / "X.dat", dtype=X.dtype, mode="w+", shape=X.shape)
    on_disk[:] = X
    on_disk.flush()
    yield "Fortran order", np.asfortranarray(X)
    yield "strided view", padded[::2, 1:-2]
    yield "reversed view", X[::-1].copy()[::-1]
    yield "big endian", X.astype(X.dtype.newbyteorder(">"))
    yield "read-only map", np.memmap(folder / "X.dat", dtype=X.dtype, mode="r", shape=X.shape)
    yield "list", X.tolist()
    yield "integers", X.astype(np.int32)
    yield "half precision", X.astype(np.float16)
    yield "extended precision", X.astype(np.longdouble)


@of_every_class
def test_same_numbers_in_another_container(estimator, tmp_path):
    if missing_extra(estimator):
        pytest.skip("needs an extra that is not installed")
    X, y = make_check_data(estimator, n_samples=16)
    X = np.round(4 * np.asarray(X, dtype=float))  # numbers that every one of them can hold
    if get_tags(estimator).input_tags.pairwise:
        pytest.skip("a matrix of pairs is not drawn here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = results_of(estimator, X, y)
        for container, same in other_layouts(X, tmp_path):
            got = results_of(estimator, same, y)
            assert got.keys() == wanted.keys()
            tol = 1e-9
            if container == "half precision":
                # It may be computed in single precision: near, or what single precision has, whose
                # distance from double a processor's rounding and some epochs of training decide.
                tol = 2e-3
                single = results_of(estimator, X.astype(np.float32), y)
                if all(np.array_equal(got[method], single[method]) for method in single):
                    continue
            for method, values in wanted.items():
                if values.dtype.kind == "f":
                    scale = max(1.0, np.abs(values).max())
                    assert_allclose(
                        got[method], values, rtol=tol, atol=tol * scale, err_msg=container
                    )
                else:
                    assert_array_equal(got[method], values, err_msg=container)


@of_every_class
def test_two_fits_agree_bit_for_bit(estimator):
    if missing_extra(estimator):
        pytest.skip("needs an extra that is not installed")
    X, y = make_check_data(estimator)
    first, second = results_of(estimator, X, y), results_of(estimator, X, y)
    for method, values in first.items():
        assert_array_equal(second[method], values, err_msg=method)


def test_counts(capsys):
    """Print what the tables came to; more than a handful must have been fitted."""
    with capsys.disabled():
        if EXAMPLES > 8:
            for name, counts in sorted(RAN.items()):
                print(f"{name:32s} {dict(counts)}")
    assert not RAN or sum(counts["fitted"] for counts in RAN.values()) > len(RAN)
