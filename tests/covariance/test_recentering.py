"""Recentring: where centres go, groups that are new or not named, streams, pipelines."""

import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline

from sklr.covariance import AugmentedCovariance, GroupRecentering, TangentSpace
from sklr.geometry import bw_mean, mean_riemann

METRICS = ("riemann", "wasserstein")


def sessions(n=30, d=4, n_sessions=3, seed=0, drift=0.4):
    """Two classes in each session, and another mixing of the channels in each."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(n) % 2, n_sessions)
    group = np.repeat(np.arange(n_sessions), n)
    Z = rng.standard_normal((len(y), d, 40))
    Z[:, 0] *= 1 + y[:, None]
    mixing = np.eye(d) + drift * rng.standard_normal((n_sessions, d, d))
    Z = mixing[group] @ Z
    return Z @ Z.transpose(0, 2, 1) / 40, y, group


def mean_of(X, centre):
    if centre.metric == "riemann":
        return mean_riemann(X)
    return bw_mean(X, metric=centre.metric_)


@pytest.mark.parametrize("metric", METRICS)
def test_every_group_has_the_same_centre_also_one_that_was_not_seen(metric):
    X, _, group = sessions()
    seen = group < 2
    centre = GroupRecentering(metric).fit(X[seen], groups=group[seen])
    target = np.eye(4) if metric == "riemann" else centre.metric_
    Z = centre.transform(X, groups=group)
    for name in range(3):
        assert_allclose(mean_of(Z[group == name], centre), target, atol=1e-7)
    assert_allclose(
        centre.fit_transform(X[seen], groups=group[seen]),
        centre.transform(X[seen], groups=group[seen]),
    )


def test_affine_recentring_equals_the_formula():
    X, _, group = sessions()
    Z = GroupRecentering().fit_transform(X, groups=group)
    for name in range(3):
        values, V = np.linalg.eigh(mean_riemann(X[group == name]))
        root = (V / np.sqrt(values)) @ V.T
        assert_allclose(Z[group == name], root @ X[group == name] @ root, atol=1e-7)


def test_units_of_channels_do_not_matter():
    X, _, group = sessions()
    unit = np.array([1e-12, 1.0, 1e6, 1e-6])
    plain = TangentSpace().fit_transform(GroupRecentering().fit_transform(X, groups=group))
    # Symmetric roots of other units differ by rotations of each group: the lengths do not.
    other = GroupRecentering().fit_transform(X * unit[:, None] * unit, groups=group)
    other = TangentSpace().fit_transform(other)
    assert_allclose(np.linalg.norm(other, axis=1), np.linalg.norm(plain, axis=1), rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_without_groups_new_sessions_are_centred_and_old_ones_stay(metric):
    X, _, group = sessions(n=80)
    centre = GroupRecentering(metric).fit(X[group == 0][:40])
    same = centre.transform(X[group == 0][40:])
    fixed = GroupRecentering(metric, ungrouped="fitted").fit(X[group == 0][:40])
    plain = fixed.transform(X[group == 0][40:])
    size = np.linalg.norm(plain)
    assert np.linalg.norm(same - plain) < 0.1 * size  # hardly moved
    own = centre.transform(X[group == 1], groups=["new"] * 80)
    drawn = centre.transform(X[group == 1])
    assert np.linalg.norm(drawn - own) < 0.1 * np.linalg.norm(own)  # centred by itself, nearly
    assert np.linalg.norm(fixed.transform(X[group == 1]) - own) > 0.3 * np.linalg.norm(own)


@pytest.mark.parametrize("metric", METRICS)
def test_one_matrix_is_not_its_own_centre(metric):
    X, _, group = sessions()
    centre = GroupRecentering(metric).fit(X[group == 0])
    fixed = GroupRecentering(metric, ungrouped="fitted").fit(X[group == 0])
    for groups in (None, ["new"]):
        one = np.concatenate([centre.transform(x[None], groups=groups) for x in X[group == 0]])
        gap = np.linalg.norm(one - fixed.transform(X[group == 0]), axis=(1, 2))
        assert np.median(gap) < 0.3 * np.linalg.norm(one, axis=(1, 2)).mean()
        assert np.std(one, axis=0).max() > 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_a_stream_ends_near_the_mean_of_its_session(metric):
    X, _, group = sessions(n=60)
    centre = GroupRecentering(metric).fit(X[group == 0], groups=group[group == 0])
    for x in X[group == 1]:
        centre.partial_fit(x[None], groups=[1])
        assert centre.transform(x[None], groups=[1]).shape == (1, 4, 4)
    assert_array_equal(centre.groups_, [0, 1])
    assert_array_equal(centre.n_samples_, [60, 60])
    Z = centre.transform(X[group == 1], groups=group[group == 1])
    assert_allclose(
        mean_of(Z, centre),
        mean_of(centre.transform(X[group == 0], groups=group[group == 0]), centre),
        atol=0.15,
    )
    # In one call or one by one.
    again = GroupRecentering(metric).fit(X[group == 0], groups=group[group == 0])
    again.partial_fit(X[group == 1], groups=group[group == 1])
    assert_allclose(again.means_, centre.means_)


def test_a_stream_may_start_with_one_matrix():
    X, _, group = sessions()
    centre = GroupRecentering()
    for x in X[group == 0]:
        centre.partial_fit(x[None])
    assert_allclose(centre.mean_, mean_riemann(X[group == 0]), rtol=0.2, atol=0.1)
    whole = GroupRecentering().fit(X[group == 0])
    assert centre.var_ == pytest.approx(whole.var_, rel=0.2)
    forgetful = GroupRecentering(momentum=1.0).partial_fit(X[:2])
    forgetful.partial_fit(X[5:6])
    assert_allclose(forgetful.mean_, X[5])


def test_groups_are_routed_through_pipelines():
    X, y, group = sessions(drift=0.1)
    with sklearn.config_context(enable_metadata_routing=True):
        centre = GroupRecentering().set_fit_request(groups=True)
        centre.set_transform_request(groups=True)
        pipe = make_pipeline(centre, TangentSpace(), LogisticRegression())
        seen = group < 2
        pipe.fit(X[seen], y[seen], groups=group[seen])
        assert_array_equal(pipe[0].groups_, [0, 1])
        labels = pipe.predict(X[~seen], groups=group[~seen])
        assert (labels == y[~seen]).mean() > 0.8
        scores = cross_validate(
            pipe, X, y, params={"groups": group}, cv=LeaveOneGroupOut(), error_score="raise"
        )["test_score"]
        assert scores.min() > 0.8


def test_recentring_helps_where_sessions_drift_and_no_labels_are_used():
    X, y, group = sessions(n=60)
    plain = make_pipeline(TangentSpace(), LogisticRegression())
    with_centre = make_pipeline(GroupRecentering(), TangentSpace(), LogisticRegression())
    for test in range(1, 3):
        a = plain.fit(X[group == 0], y[group == 0]).score(X[group == test], y[group == test])
        b = with_centre.fit(X[group == 0], y[group == 0]).score(X[group == test], y[group == test])
        assert b >= a
    assert b > 0.9


def test_sessions_of_real_recordings(data_folder):
    """Never below doing nothing on SSVEP sessions, and equal to the formula."""
    from scipy.io import loadmat

    content = loadmat(data_folder / "eeg" / "mamem-ssvep2" / "U001.mat")
    X, y = content["x_test"][:300], content["y_test"].ravel()[:300]
    session = np.arange(300) // 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = [
            cross_val_score(
                make_pipeline(
                    AugmentedCovariance(3, 2, estimator="oas"),
                    *steps,
                    TangentSpace(),
                    LogisticRegression(max_iter=1000),
                ),
                X, y, groups=session, cv=LeaveOneGroupOut(),
            ).mean()
            for steps in ([], [GroupRecentering()])
        ]  # fmt: skip
    assert scores[1] > scores[0] - 0.03


@pytest.mark.parametrize(
    "groups, message",
    [
        ([0, 1], "inconsistent numbers of samples"),
        ([0.0, np.nan] * 6, "groups contains NaN"),
        ([None, "a"] * 6, "groups contains None|groups contains NaN"),
        (np.zeros((12, 2)), "one-dimensional"),
        ([0] * 11 + [1], r"One matrix of group 1 \(n_samples=1\) is its own centre"),
    ],
)
def test_bad_groups(groups, message):
    X, _, _ = sessions(n=12, n_sessions=1)
    with pytest.raises(ValueError, match=message):
        GroupRecentering().fit(X, groups=groups)


def test_groups_must_be_named_in_partial_fit_where_fit_has_seen_names():
    X, _, group = sessions()
    centre = GroupRecentering().fit(X, groups=group)
    with pytest.raises(ValueError, match=r"has seen groups \[.*0.*name the group"):
        centre.partial_fit(X)
    with pytest.raises(ValueError, match="not positive definite"):
        centre.transform(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="'metric' parameter"):
        GroupRecentering("mean").fit(X)
