"""The decorator of ``fit`` on an estimator of three lines."""

import sys
from itertools import count

import pytest
from sklearn import config_context
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sklr.decomposition import LowRankImputer
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


class Changing(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Leaves one attribute or the other, by its parameter; counts its calls of partial_fit."""

    _parameter_constraints = {"kind": [str]}

    def __init__(self, kind="a"):
        self.kind = kind

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        assert not [name for name in vars(self) if name.endswith("_")]
        setattr(self, f"{self.kind}_", 1)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        self.calls_ = getattr(self, "calls_", 0) + 1
        return self


def test_a_fit_begins_without_the_former_one():
    estimator = Changing().fit([[0.0]])
    estimator._private = 1
    estimator.set_params(kind="b").fit([[0.0]])
    assert vars(estimator) == {"kind": "b", "b_": 1}


def test_what_scikit_learn_keeps_beside_parameters_stays():
    with config_context(enable_metadata_routing=True):
        estimator = Changing().set_output(transform="pandas").set_fit_request(sample_weight=True)
        before = dict(vars(estimator))
        estimator.fit([[0.0]]).fit([[0.0]])
    assert vars(estimator) == before | {"a_": 1}


def test_partial_fit_goes_on_with_what_there_is():
    estimator = Changing().partial_fit([[0.0]]).partial_fit([[0.0]])
    assert estimator.calls_ == 2
    assert not hasattr(estimator.fit([[0.0]]), "calls_")


def test_the_html_form_links_to_the_page_where_there_is_an_address(monkeypatch):
    page = "https://pages.example/generated/sklr.decomposition.LowRankImputer.html"
    monkeypatch.setattr(_base, "_documentation", lambda: "")
    assert LowRankImputer()._get_doc_link() == ""
    monkeypatch.setattr(_base, "_documentation", lambda: "https://pages.example")
    assert LowRankImputer()._get_doc_link() == page
    assert page in LowRankImputer()._repr_html_()

    class OfAUser(LowRankImputer):
        pass

    assert OfAUser()._get_doc_link() == ""
