"""The search for the intrinsic dimension, on problems whose answer is known."""

import joblib
import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.geometry import RandomSubspace  # noqa: E402
from sklr.landscape import DimensionCurveDisplay, IntrinsicDimension  # noqa: E402

X = np.zeros((20, 1))
Y = np.zeros(20)


class Toy(RegressorMixin, BaseEstimator):
    """The paper's toy problem: ten sums of a hundred parameters each; other ranks too."""

    def __init__(self, n_components=5, rank=10, random_state=None):
        self.n_components = n_components
        self.rank = rank
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        A, b = np.kron(np.eye(self.rank), np.ones(100)), np.arange(1.0, self.rank + 1)
        self.n_parameters_ = A.shape[1]
        P = np.eye(A.shape[1])
        if self.n_components is not None:
            P = RandomSubspace(
                A.shape[1], self.n_components, random_state=self.random_state
            ).to_dense()
        left = b - A @ P @ np.linalg.lstsq(A @ P, b, rcond=None)[0]
        self.score_ = float(np.exp(-left @ left))
        self.weight_ = sample_weight
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def score(self, X, y, sample_weight=None):
        return self.score_ if sample_weight is None else self.score_ * float(sample_weight.mean())


@pytest.mark.parametrize("rank", [4, 10, 23])
def test_toy_problem(rank):
    """Li et al.: the dimension is the number of conditions, whatever the number of parameters."""
    found = IntrinsicDimension(Toy(rank=rank), ratio=0.99, random_state=0, n_repeats=3).fit(X, Y)
    assert found.reached_ and np.ceil(found.dimension_) == rank
    assert found.best_estimator_.n_components == rank
    assert found.n_parameters_ == 100 * rank and found.baseline_score_ == pytest.approx(1)
    dims, mean = found.results_["dims"], found.results_["mean"]
    assert (mean[dims >= rank] > 0.999).all() and (mean[dims < rank] < 0.99).all()
    assert found.results_["scores"].shape == (len(dims), 3)
    assert found.score(X, Y) == pytest.approx(1) and (found.predict(X) == 0).all()
    assert 0 <= found.dimension_std_ < 1


def test_given_dimensions_and_processes():
    one = IntrinsicDimension(Toy(), dims=[12, 8, 9, 12], random_state=0).fit(X, Y)
    with joblib.parallel_config("threading"):
        two = IntrinsicDimension(Toy(), dims=[8, 9, 12], random_state=0, n_jobs=2).fit(X, Y)
    assert one.results_["dims"].tolist() == [8, 9, 12]
    assert_allclose(one.results_["scores"], two.results_["scores"])
    assert one.dimension_ == two.dimension_


def test_threshold_that_is_not_reached():
    with pytest.warns(UserWarning, match=r"at most .* up to 5 dimensions, below the threshold 0.9"):
        found = IntrinsicDimension(Toy(), max_dim=5, random_state=0).fit(X, Y)
    assert not found.reached_ and np.isnan(found.dimension_) and np.isnan(found.dimension_std_)
    assert found.best_estimator_.n_components == 5
    found = IntrinsicDimension(Toy(), baseline=0.1, ratio=0.5, random_state=0).fit(X, Y)
    assert found.threshold_ == pytest.approx(0.05)


def test_metadata_arrives():
    weights = np.full(20, 0.5)
    with sklearn.config_context(enable_metadata_routing=True):
        inner = Toy().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = IntrinsicDimension(inner, dims=[12], random_state=0)
        found.fit(X, Y, sample_weight=weights)
        assert_allclose(found.best_estimator_.weight_, weights)
        assert found.results_["mean"][0] == pytest.approx(0.5)
        assert found.score(X, Y, sample_weight=weights) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="sample_weight"):
        IntrinsicDimension(Toy()).fit(X, Y, sample_weight=weights)


def test_refusals():
    with pytest.raises(NotFittedError):
        IntrinsicDimension(Toy()).predict(X)
    for params, message in (
        ({"dims": [0, 3]}, "dims must be whole numbers"),
        ({"dims": [0.5]}, "dims must be whole numbers"),
        ({"dims": [50], "max_dim": 20}, "are all above 20"),
        ({"ratio": 0.0}, "ratio"),
    ):
        with pytest.raises(ValueError, match=message):
            IntrinsicDimension(Toy(), **params).fit(X, Y)
    with pytest.raises(ValueError, match="has no parameter n_components"):
        IntrinsicDimension(sklearn.linear_model.Ridge()).fit(X, Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        IntrinsicDimension(Toy()).fit(X, Y[:-1])


def test_display_draws():
    pytest.importorskip("matplotlib")
    found = IntrinsicDimension(Toy(), dims=[5, 10, 20], random_state=0).fit(X, Y)
    display = DimensionCurveDisplay.from_estimator(found, label="toy")
    assert display.ax_.get_xscale() == "log"
    assert display.plot(ax=display.ax_).figure_ is display.figure_
