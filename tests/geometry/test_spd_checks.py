"""The one check of SPD matrices: units, precision, one trial and its channel, everywhere."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklr.covariance import (
    MDM,
    AugmentedCovariance,
    BuresWassersteinScaler,
    GroupRecentering,
    TangentSpace,
)
from sklr.geometry import bw_distance, bw_mean, mean_riemann, tangent_space

CALLS = {
    "mean_riemann": mean_riemann,
    "tangent_space": lambda X: tangent_space(X, np.eye(X.shape[-1])),
    "TangentSpace": lambda X: TangentSpace().fit(X),
    "TangentSpace logeuclid": lambda X: TangentSpace("logeuclid").fit(X),
    "transform": lambda X: TangentSpace().fit(spd(d=X.shape[-1])).transform(X),
    "MDM": lambda X: MDM().fit(X, np.arange(len(X)) % 2),
    "GroupRecentering": lambda X: GroupRecentering().fit(X),
}
SEMIDEFINITE = {
    "bw_mean": bw_mean,
    "bw_distance": lambda X: bw_distance(X, np.eye(X.shape[-1])),
    "BuresWassersteinScaler": lambda X: BuresWassersteinScaler(scale=0.3).fit(X),
    "wasserstein": lambda X: TangentSpace("wasserstein").fit(X),
}


def spd(n=20, d=5, seed=0):
    A = np.random.default_rng(seed).standard_normal((n, d, 60))
    return A @ A.transpose(0, 2, 1) / 60


@pytest.mark.parametrize(
    "call", [*CALLS.values(), *SEMIDEFINITE.values()], ids=[*CALLS, *SEMIDEFINITE]
)
def test_asymmetric_matrices_are_refused_by_all(call):
    X = spd()
    X[7, 1, 3] += 0.01
    with pytest.raises(ValueError, match="matrix 7 differs from its transpose by up to 0.01.*row"):
        call(X)
    # Also in the block of a channel of small unit, which a large one would hide.
    unit = np.array([1.0, 1e-9, 1.0, 1e-9, 1.0])
    with pytest.raises(ValueError, match="matrix 7 differs"):
        call(X * unit[:, None] * unit)


@pytest.mark.parametrize(
    "call", [*CALLS.values(), *SEMIDEFINITE.values()], ids=[*CALLS, *SEMIDEFINITE]
)
def test_single_precision_is_judged_as_such(call):
    W = np.random.default_rng(1).standard_normal((5, 5)).astype(np.float32)
    X = W @ spd().astype(np.float32) @ W.T
    assert not np.array_equal(X, X.transpose(0, 2, 1))  # to rounding only
    call(X)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_rank_deficient_single_precision_is_refused(call):
    """Its smallest eigenvalues are rounding, and positive half of the time."""
    Z = np.random.default_rng(0).standard_normal((20, 5, 60))
    Z -= Z.mean(axis=1, keepdims=True)
    X = (Z @ Z.transpose(0, 2, 1)).astype(np.float32)
    with pytest.raises(ValueError, match="positive definite"):
        call(X)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_trial_and_its_channel_are_named(call):
    X = spd()
    X[7, 3] = X[7, :, 3] = 0
    with pytest.raises(
        ValueError, match="Matrix 7 .channel 3 is constant in it.*positive definite"
    ):
        call(X)
    X = spd()
    X[7, 3] = X[7, 1]
    X[7, :, 3] = X[7, :, 1]
    with pytest.raises(ValueError, match="Matrix 7 .*rank 4 of 5; channels 1, 3 depend on each"):
        call(X)


@pytest.mark.parametrize("call", SEMIDEFINITE.values(), ids=SEMIDEFINITE)
def test_indefinite_blocks_of_small_unit_are_seen(call):
    X = spd()
    X[7, 1, 3] = X[7, 3, 1] = 2 * np.sqrt(X[7, 1, 1] * X[7, 3, 3])
    unit = np.array([1.0, 1e-9, 1.0, 1e-9, 1.0])
    with pytest.raises(ValueError, match="Matrix 7 of . is not positive semidefinite"):
        call(X * unit[:, None] * unit)


@pytest.mark.parametrize("ratio", [1e-3, 1e-6, 1e-8, 1e-12])
@pytest.mark.parametrize("mixed", [False, True])
def test_tangent_vectors_keep_their_inner_products_in_any_units(ratio, mixed):
    X = spd(d=6)
    unit = np.ones(6)
    unit[:: 2 if mixed else 6] = ratio
    scaled = X * unit[:, None] * unit
    expected, got = (TangentSpace().fit_transform(Z) for Z in (X, scaled))
    assert_allclose(got @ got.T, expected @ expected.T, atol=1e-6)  # the mean's tolerance
    y = np.arange(20) % 2
    assert_allclose(MDM().fit(scaled, y).transform(scaled), MDM().fit(X, y).transform(X), rtol=1e-6)
    centred = BuresWassersteinScaler(metric="mean", scale=0.3).fit(scaled)
    assert centred.var_ == pytest.approx(
        BuresWassersteinScaler(metric="mean", scale=0.3).fit(X).var_, rel=1e-7
    )


def test_tangent_vectors_in_unlike_units_are_right_to_all_digits():
    """At the reference D^2 with X = D exp(S) D: by the symmetric root, which is D."""
    unit = np.array([1e-9, 1.0, 1e3, 1e-4])
    S = np.random.default_rng(0).standard_normal((4, 4))
    S = 0.5 * (S + S.T)
    values, V = np.linalg.eigh(S)
    X = unit[:, None] * ((V * np.exp(values)) @ V.T) * unit
    X = 0.5 * (X + X.T)
    rows, columns = np.triu_indices(4)
    expected = S[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))
    assert_allclose(tangent_space(X[None], np.diag(unit**2))[0], expected, atol=1e-12)


@pytest.mark.parametrize("ratio", [1.0, 1e-8])
@pytest.mark.parametrize("metric", ["riemann", "logeuclid", "euclid"])
def test_tangent_space_and_back(metric, ratio):
    unit = np.array([1.0, ratio, 1.0, ratio, 1.0]) if metric == "riemann" else np.ones(5)
    X = spd() * unit[:, None] * unit
    tangent = TangentSpace(metric).fit(X)
    back = tangent.inverse_transform(tangent.transform(X))
    assert_allclose(back / unit[:, None] / unit, spd(), atol=1e-10)
    with pytest.raises(ValueError, match="X has 3 features, but TangentSpace makes 15"):
        tangent.inverse_transform(np.zeros((2, 3)))


def test_any_leading_axes():
    X = spd(24).reshape(2, 3, 4, 5, 5)
    means = mean_riemann(X)
    assert means.shape == (2, 3, 5, 5)
    for i in range(2):
        for j in range(3):
            assert_allclose(means[i, j], mean_riemann(X[i, j]), atol=1e-12)
    vectors = tangent_space(X, means[:, :, None])
    assert vectors.shape == (2, 3, 4, 15)
    assert_allclose(vectors[1, 2], tangent_space(X[1, 2], means[1, 2]), atol=1e-12)
    assert_allclose(tangent_space(X, means[0, 0])[1, 2], tangent_space(X[1, 2], means[0, 0]))
    assert_allclose(tangent_space(X[0, 0, 0], means)[1, 2], tangent_space(X[0, 0, 0], means[1, 2]))
    assert tangent_space(X[0, 0, 0], means[0, 0]).shape == (15,)


@pytest.mark.parametrize("bad", [0.0, np.nan, -1.0])
def test_weight_zero_removes_a_matrix_whatever_it_is(bad):
    X = np.concatenate([spd(), np.full((1, 5, 5), bad)])
    weights = np.r_[np.ones(20), 0.0]
    assert_allclose(mean_riemann(X, sample_weight=weights), mean_riemann(X[:20]))
    assert_allclose(bw_mean(X, sample_weight=weights), bw_mean(X[:20]))
    if np.isfinite(bad):
        tangent = TangentSpace().fit(X, sample_weight=weights)
        assert_allclose(tangent.reference_, mean_riemann(X[:20]))
        BuresWassersteinScaler(scale=0.3).fit(X, sample_weight=weights)
        model = MDM().fit(X, np.arange(21) % 2, sample_weight=weights)
        assert_allclose(model.means_, MDM().fit(X[:20], np.arange(20) % 2).means_)
        X[3] = bad  # numbers are those of the stack that was given
        with pytest.raises(ValueError, match="Matrix 3 .*is not positive definite"):
            mean_riemann(X, sample_weight=np.r_[0.0, np.ones(19), 0.0])


def test_a_matrix_far_from_the_reference_is_no_singular_one():
    """Eigenvalues from 1e-9 to 1e9 at the reference: rounding would leave nothing of the small."""
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))
    R = (Q * np.logspace(-4.5, 4.5, 6)) @ Q.T
    R = 0.5 * (R + R.T)
    X = np.linalg.inv(R)
    X = 0.5 * (X + X.T)
    vectors = tangent_space(X[None], R)
    assert np.linalg.norm(vectors) == pytest.approx(
        2 * np.linalg.norm(np.log(np.logspace(-4.5, 4.5, 6))), rel=1e-6
    )


class TestTrials:
    def trials(self, n=12, d=4):
        return np.random.default_rng(0).standard_normal((n, d, 90))

    @pytest.mark.parametrize("estimator", ["cov", "scm", "corr"])
    def test_a_flat_channel_of_one_trial_is_named(self, estimator):
        X = self.trials()
        est = AugmentedCovariance(2, estimator=estimator).fit(X)
        X[7, 3] = 5.0
        message = "Channel 3 is constant in trial 7 .1 of 12.*positive definite"
        with pytest.raises(ValueError, match=message):
            est.transform(X)
        with pytest.raises(ValueError, match=message):
            est.fit(X)
        kept = AugmentedCovariance(2, estimator=estimator, rank_deficient="keep").fit_transform(X)
        assert np.isfinite(kept).all()

    def test_a_trial_of_low_rank_is_named_in_transform(self):
        X = self.trials()
        est = AugmentedCovariance().fit(X)
        X[7, 3] = X[7, 0] - X[7, 1]
        with pytest.raises(ValueError, match="Matrix 7 .*rank 3 of 4; channels 0, 1, 3 depend"):
            est.transform(X)

    def test_rank_deficient_trials_reach_a_later_step(self):
        from pyriemann.estimation import Shrinkage
        from sklearn.pipeline import make_pipeline

        X = self.trials()
        X -= X.mean(axis=1, keepdims=True)
        keep = AugmentedCovariance(2, rank_deficient="keep")
        assert make_pipeline(keep, Shrinkage(0.1), TangentSpace()).fit_transform(X).shape == (
            12,
            36,
        )
        assert AugmentedCovariance(30, rank_deficient="keep").fit_transform(X).shape == (
            12,
            120,
            120,
        )

    @pytest.mark.parametrize("estimator", ["oas", "lwf", "sch", "cov"])
    def test_standardize_makes_shrinkage_free_of_units(self, estimator):
        X, unit = self.trials(), np.array([1.0, 1e-6, 1e3, 1e-13])
        est = AugmentedCovariance(2, 3, estimator=estimator, standardize=True)
        plain, scaled = est.fit_transform(X), est.fit_transform(unit[:, None] * X)
        big = np.tile(unit, 2)
        assert_allclose(scaled / big[:, None] / big, plain, rtol=1e-8, atol=1e-12)

    def test_shrinking_unlike_units_without_it_warns(self):
        X = self.trials() * np.array([1.0, 1e-6, 1.0, 1.0])[:, None]
        with pytest.warns(UserWarning, match="'oas' shrinks towards a multiple.*standardize=True"):
            AugmentedCovariance(estimator="oas").fit(X)


def test_mdm_equals_pyriemann():
    from pyriemann.classification import MDM as Peer

    X, y = spd(40), np.arange(40) % 3
    X[y == 1] *= 2
    X[y == 2, 0, 0] += 1
    ours, peer = MDM().fit(X[:30], y[:30]), Peer(metric="riemann").fit(X[:30], y[:30])
    assert_allclose(ours.transform(X[30:]), peer.transform(X[30:]), atol=1e-6)
    assert (ours.predict(X[30:]) == peer.predict(X[30:])).all()
    assert_allclose(ours.predict_proba(X[30:]), peer.predict_proba(X[30:]), atol=1e-6)
    assert (ours.decision_function(X[30:]).argmax(axis=1) == ours.predict(X[30:])).all()
    two = MDM().fit(X[y < 2], y[y < 2])
    assert ((two.decision_function(X) > 0) == two.predict(X)).all()
    with pytest.raises(ValueError, match="All samples of class 2 have sample_weight 0"):
        MDM().fit(X, y, sample_weight=(y < 2).astype(float))


def test_whole_pipelines_take_set_output():
    from sklearn.pipeline import make_pipeline

    steps = BuresWassersteinScaler(scale=0.3), GroupRecentering(), TangentSpace()
    table = make_pipeline(*steps).set_output(transform="pandas").fit_transform(spd())
    assert list(table.columns[:2]) == ["tangentspace0", "tangentspace1"]
    for step in (*steps[:2], AugmentedCovariance()):
        with pytest.raises(ValueError, match="transform must be one of.*'foo'"):
            step.set_output(transform="foo")
