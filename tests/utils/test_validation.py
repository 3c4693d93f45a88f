"""Checks of trials, of SPD matrices and of integers: what passes, and each message."""

import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator

from sklr.utils._validation import (
    as_trials_array,
    check_positive_int,
    check_spd_stack,
    check_trials,
)


class Thing(BaseEstimator):
    pass


class Epochs:
    def __init__(self, data):
        self.data, self.ch_names = data, ["C3", "C4"]

    def get_data(self, copy=False):
        return self.data.copy() if copy else self.data

    def __len__(self):
        return len(self.data)


TRIALS = np.random.default_rng(0).standard_normal((6, 2, 9))
MATRICES = np.einsum("nit,njt->nij", TRIALS, TRIALS)


def refused(check, X, message, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=re.escape(message)):
        check(Thing(), X, *args, **kwargs)


def test_trials_pass_as_they_are():
    thing = Thing()
    out = check_trials(thing, TRIALS)
    assert out is TRIALS or np.shares_memory(out, TRIALS)
    assert thing.n_features_in_ == 2
    X, y = check_trials(thing, TRIALS, list("aabbab"))
    assert_array_equal(X, TRIALS)
    assert_array_equal(y, list("aabbab"))


@pytest.mark.parametrize("kind", [np.float32, np.int16, list, Epochs])
def test_other_kinds_of_trials_become_float64(kind):
    values = np.round(10 * TRIALS)
    given = (
        values.tolist() if kind is list else kind(values) if kind is Epochs else values.astype(kind)
    )
    out = check_trials(Thing(), given)
    assert out.dtype == np.float64
    assert_array_equal(out, values)


def test_epochs_are_copied_and_others_are_not_touched():
    epochs = Epochs(TRIALS)
    out = as_trials_array(epochs)
    assert not np.shares_memory(out, TRIALS)
    assert as_trials_array(TRIALS) is TRIALS


def test_trials_of_another_number_of_dimensions():
    message = (
        "Thing expects trials of shape (n_trials, n_channels, n_times), "
        "got 2 dimensions, shape (6, 2). Reshape your data."
    )
    refused(check_trials, TRIALS[:, :, 0], message)
    refused(check_trials, TRIALS[..., None], "got 4 dimensions, shape (6, 2, 9, 1)")
    refused(check_trials, TRIALS[0, 0], "Reshape your data")


def test_trials_without_channels_times_or_trials():
    refused(check_trials, TRIALS[:, :0], "0 feature(s) (shape=(6, 0)) while a minimum of 1")
    refused(check_trials, TRIALS[:, :, :0], "0 time samples")
    refused(check_trials, TRIALS[:0], "0 sample(s)")


@pytest.mark.parametrize("value, message", [(np.nan, "NaN"), (np.inf, "infinity")])
@pytest.mark.parametrize("check, X", [(check_trials, TRIALS), (check_spd_stack, MATRICES)])
def test_not_finite(check, X, value, message):
    X = X.copy()
    X[3, 1, 1] = value
    refused(check, X, message)


@pytest.mark.parametrize("check, X", [(check_trials, TRIALS), (check_spd_stack, MATRICES)])
def test_complex_text_and_sparse_are_refused(check, X):
    refused(check, X + 0j, "Complex data not supported")
    refused(check, np.full(X.shape, "a"), "could not convert string to float")
    from scipy.sparse import csr_array

    refused(check, csr_array(X[0]), "Sparse data was passed", error=TypeError)


@pytest.mark.parametrize("check, X", [(check_trials, TRIALS), (check_spd_stack, MATRICES)])
def test_another_size_than_at_fit(check, X):
    thing = Thing()
    check(thing, X)
    assert_array_equal(check(thing, X, reset=False), X)
    with pytest.raises(ValueError, match="X has 1 features, but Thing is expecting 2 features"):
        check(thing, X[:, :1, :1], reset=False)
    assert thing.n_features_in_ == 2


@pytest.mark.parametrize("check, X", [(check_trials, TRIALS), (check_spd_stack, MATRICES)])
def test_labels_of_another_length(check, X):
    refused(check, X, "inconsistent numbers of samples: [6, 5]", [0, 1, 0, 1, 0])
    refused(check, X, "y contains NaN", [0, 1, 0, 1, 0, np.nan])


def test_matrices_that_are_not_square():
    refused(
        check_spd_stack,
        TRIALS,
        "Thing expects square matrices of shape (n_matrices, n, n), "
        "got 3 dimensions, shape (6, 2, 9). Reshape your data.",
    )
    refused(check_spd_stack, MATRICES[0], "got 2 dimensions, shape (2, 2)")
    refused(check_spd_stack, MATRICES[:, :0, :0], "0 feature(s)")


def test_matrices_that_are_not_symmetric_are_counted_and_measured():
    X = MATRICES.copy()
    X[4, 0, 1] += 0.25
    refused(
        check_spd_stack,
        X,
        "Thing expects symmetric matrices; matrix 4 differs from its transpose by up to 0.25.",
    )
    X = MATRICES.copy()
    X[4, 0, 1] *= 1 + 1e-12  # rounding is no asymmetry
    check_spd_stack(Thing(), X)
    # Asymmetry is measured against the matrix's own size: small ones are not passed over.
    X = 1e-12 * MATRICES
    X[2, 0, 1] *= 1.5
    refused(check_spd_stack, X, "matrix 2 differs")
    X[3] = 1e12 * MATRICES[3]
    refused(check_spd_stack, X, "matrix 2 differs")


@pytest.mark.parametrize("value", [1, 7, np.int32(7), np.uint8(7)])
def test_positive_integers_pass(value):
    out = check_positive_int(value, "order")
    assert out == value and type(out) is int


@pytest.mark.parametrize("value", [1.0, "1", None, True, np.True_, np.float64(2)])
def test_what_is_no_integer(value):
    message = f"order must be an integer >= 1, got {value!r} of type {type(value).__name__}."
    with pytest.raises(TypeError, match=re.escape(message)):
        check_positive_int(value, "order")


@pytest.mark.parametrize("value", [0, -3])
def test_integers_below_one(value):
    with pytest.raises(ValueError, match=re.escape(f"lag must be an integer >= 1, got {value}.")):
        check_positive_int(value, "lag")
