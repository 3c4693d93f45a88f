"""The decorator of ``fit`` on an estimator of three lines."""

import sys
from itertools import count

import pytest

from sklr.utils import _base
from sklr.utils._base import BaseEstimator, fit_context


class Interrupted(BaseEstimator):
    _parameter_constraints = {"a": [int]}

    def __init__(self, a=1):
        self.a = a

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        self.half_ = 1
        raise KeyboardInterrupt


def fit_with_a_second_interrupt(estimator, wanted):
    """Interrupt again, before the line of that number after the first; say whether there was."""
    seen = None

    def on_line(frame, event, arg):
        nonlocal seen
        if event == "exception" and seen is None:
            seen = 0
        elif event == "line" and seen is not None:
            seen += 1
            if seen == wanted:
                raise KeyboardInterrupt
        return on_line

    def on_call(frame, event, arg):
        return on_line if frame.f_code.co_filename == _base.__file__ else None

    previous = sys.gettrace()
    sys.settrace(on_call)
    try:
        with pytest.raises(KeyboardInterrupt):
            estimator.fit([[0.0]])
    finally:
        sys.settrace(previous)
    return seen >= wanted


def test_second_interrupt_leaves_parameters_and_former_fit():
    """A second Ctrl-C may come while the first one's fit is undone."""
    for wanted in count(1):
        estimator = Interrupted(3)
        estimator.coef_ = 7
        again = fit_with_a_second_interrupt(estimator, wanted)
        assert estimator.get_params() == {"a": 3}
        assert estimator.coef_ == 7
        if not again:
            break
    assert wanted > 2
    assert vars(estimator) == {"a": 3, "coef_": 7}
