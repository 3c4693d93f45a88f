"""The transformer: its map, domains, weights, pipelines, refusals."""

import warnings

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sklr.transport import EntropicTransport, _problem


@pytest.fixture
def domains():
    rng = np.random.default_rng(0)
    return rng.random((60, 3)), rng.random((45, 3)) * [1.0, 2.0, 0.5] + 1.0


def well_separated(n=25):
    side = np.arange(5.0)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)[:n]


def test_the_map_is_the_barycentric_projection_on_fitted_samples(domains):
    X, Z = domains
    mapping = EntropicTransport(reg=0.02).fit(X, X_target=Z)
    projection = mapping.plan_ @ Z / mapping.plan_.sum(axis=1, keepdims=True)
    assert_allclose(mapping.transform(X), projection, rtol=1e-6)
    assert_array_equal(
        mapping.fit_transform(X, X_target=Z), mapping.fit(X, X_target=Z).transform(X)
    )
    back = mapping.plan_.T @ X / mapping.plan_.sum(axis=0)[:, None]
    assert_allclose(mapping.inverse_transform(Z), back, rtol=1e-6)
    assert mapping.marginal_error_ < 1e-9
    assert_allclose(mapping.plan_.sum(axis=0), 1 / 45, atol=1e-9)


def test_the_map_holds_for_new_points_and_is_smooth(domains):
    """Between fitted samples the map lies between their images; each point stands alone."""
    X, Z = domains
    mapping = EntropicTransport(reg=0.05).fit(X, X_target=Z)
    line = np.linspace(X[0], X[1], 50)
    image = mapping.transform(line)
    assert np.abs(np.diff(image, axis=0)).max() < 0.2 * np.ptp(Z)
    assert_allclose(mapping.transform(line[7:9]), image[7:9], rtol=1e-12)
    h = 1e-5
    moved = mapping.transform(line + [h, 0, 0]) - mapping.transform(line - [h, 0, 0])
    assert np.isfinite(moved).all() and np.abs(moved).max() < 1e3 * h


def test_tiny_reg_leaves_equal_domains_alone():
    X = well_separated()
    mapping = EntropicTransport(reg=1e-3).fit(X, X_target=X)
    assert_allclose(mapping.transform(X), X, atol=1e-6)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock", "chebyshev"])
def test_a_translation_is_found(metric):
    X = well_separated()
    shift = np.array([20.0, -7.0])
    # Under norms every monotone pairing of a far translation costs nearly the same.
    reg = 1e-4 if metric == "sqeuclidean" else 1e-5
    mapping = EntropicTransport(reg=reg, metric=metric).fit(X, X_target=X + shift)
    if metric == "sqeuclidean":
        assert_allclose(mapping.transform(X), X + shift, atol=1e-3)
        assert_allclose(mapping.inverse_transform(X + shift), X, atol=1e-3)
    assert_allclose(mapping.transform(X).mean(axis=0), (X + shift).mean(axis=0), atol=1e-6)


def test_large_reg_maps_to_the_mean_of_the_target(domains):
    X, Z = domains
    mapping = EntropicTransport(reg=1e4).fit(X, X_target=Z)
    assert_allclose(mapping.transform(X), np.tile(Z.mean(axis=0), (60, 1)), rtol=1e-3)


@pytest.mark.parametrize("solver", ["auto", "sinkhorn", "sinkhorn-newton"])
@pytest.mark.parametrize("cost_norm", ["target", "max", "mean", None])
def test_solvers_and_scales(domains, solver, cost_norm):
    X, Z = domains
    C = ((X[:, None] - Z) ** 2).sum(axis=2)
    rows = np.quantile(cdist(Z, Z, "sqeuclidean"), 0.5, axis=1, method="inverted_cdf")
    median = np.quantile(rows, 0.5, method="inverted_cdf")
    scale = {"target": median, "max": C.max(), "mean": C.mean(), None: 1.0}[cost_norm]
    mapping = EntropicTransport(0.06, solver=solver, cost_norm=cost_norm).fit(X, X_target=Z)
    assert_allclose(mapping.cost_scale_, scale)
    assert_allclose(mapping.reg_, 0.06 * scale)
    x, y = mapping.potentials_
    assert_allclose(mapping.plan_, np.exp((x[:, None] + y - C) / mapping.reg_), rtol=1e-6)
    assert_allclose(mapping.cost_, (mapping.plan_ * C).sum(), rtol=1e-9)


def test_domains_in_one_table_are_domains_apart(domains):
    X, Z = domains
    order = np.random.default_rng(1).permutation(105)
    both = np.concatenate([X, Z])[order]
    domain = np.where(order < 60, 1, -2)
    apart = EntropicTransport(0.05).fit(X, X_target=Z)
    together = EntropicTransport(0.05)
    image = together.fit_transform(both, sample_domain=domain)
    assert_array_equal(image[domain < 0], both[domain < 0])
    assert_allclose(image[domain > 0], apart.transform(both[domain > 0]), rtol=1e-6)
    assert_allclose(together.transform(both), apart.transform(both), rtol=1e-6)
    back = together.inverse_transform(both, sample_domain=domain)
    assert_array_equal(back[domain > 0], both[domain > 0])
    assert_allclose(
        together.score(both, sample_domain=domain), apart.score(X), rtol=1e-5, atol=1e-9
    )


def test_weights_are_repetitions(domains):
    X, Z = domains
    repeats = np.random.default_rng(0).integers(0, 3, 60)
    weighted = EntropicTransport(0.05, tol=1e-12).fit(X, X_target=Z, sample_weight=repeats)
    repeated = EntropicTransport(0.05, tol=1e-12).fit(np.repeat(X, repeats, axis=0), X_target=Z)
    assert_allclose(weighted.transform(X), repeated.transform(X), rtol=1e-8)
    assert (weighted.plan_[repeats == 0] == 0).all()
    domain = np.r_[np.ones(60), -np.ones(45)]
    both = np.concatenate([X, Z])
    counts = np.r_[repeats, np.arange(45) % 2]
    one = EntropicTransport(0.05, tol=1e-12)
    one.fit(both, sample_domain=domain, sample_weight=counts)
    two = EntropicTransport(0.05, tol=1e-12)
    two.fit(np.repeat(both, counts, axis=0), sample_domain=np.repeat(domain, counts))
    assert_allclose(one.transform(X), two.transform(X), rtol=1e-8)
    assert_allclose(one.score(X), two.score(X), rtol=1e-6)


def test_score_prefers_the_map_that_meets_the_target(domains):
    X, Z = domains
    good = EntropicTransport(0.005).fit(X, X_target=Z).score(X)
    poor = EntropicTransport(10.0).fit(X, X_target=Z)
    poor.reg_, wanted = EntropicTransport(0.005).fit(X, X_target=Z).reg_, good
    assert good <= 0 and np.isfinite(poor.score(X)) and wanted > poor.score(X)


def test_large_problems_are_solved_in_blocks(domains, monkeypatch):
    X, Z = domains
    dense = EntropicTransport(0.01).fit(X, X_target=Z)
    monkeypatch.setattr(_problem, "MAX_DENSE", 100)
    blocks = EntropicTransport(0.01).fit(X, X_target=Z)
    assert isinstance(blocks.plan_, csr_array)
    assert_allclose(blocks.plan_.toarray(), dense.plan_, atol=1e-9)
    assert_allclose(blocks.transform(X), dense.transform(X), rtol=1e-5)
    assert_allclose(blocks.score(X), dense.score(X), rtol=1e-4, atol=1e-9)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def shifted_problem():
    """Two classes; the target is the source turned, stretched and moved."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    X = rng.standard_normal((240, 2)) * 0.4 + np.where(y, 1.0, -1.0)[:, None] * [1.0, 0.0]
    domain = np.where(rng.permutation(240) < 120, 1, -1)
    turn = np.array([[np.cos(0.9), -np.sin(0.9)], [np.sin(0.9), np.cos(0.9)]])
    X[domain < 0] = X[domain < 0] @ turn.T + [4.0, 0.0]
    return X, y, domain


def test_cross_validation_under_covariate_shift(routing):
    """Trained on labels of the source alone, scored on the target alone, in cross-validation."""
    X, y, domain = shifted_problem()
    on_source, on_target = (domain > 0).astype(float), (domain < 0).astype(float)
    # An alias for one of the two: both are the classifier's sample_weight.
    params = {"sample_domain": domain, "on_source": on_source, "sample_weight": on_target}

    def classifier():
        return (
            LogisticRegression()
            .set_fit_request(sample_weight="on_source")
            .set_score_request(sample_weight=True)
        )

    mapping = (
        EntropicTransport(0.01)
        .set_fit_request(sample_domain=True, sample_weight=False)
        .set_transform_request(sample_domain=True)
    )
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    adapted = cross_val_score(make_pipeline(mapping, classifier()), X, y, cv=cv, params=params)
    del params["sample_domain"]
    plain = cross_val_score(make_pipeline(classifier()), X, y, cv=cv, params=params)
    # Unequal shares of the classes in the folds of the two domains keep it from 1.
    assert adapted.mean() > 0.9
    assert plain.mean() < 0.7


def test_target_of_another_length_passes_through_cross_validation_whole(routing):
    X, y, domain = shifted_problem()
    mapping = EntropicTransport(0.01).set_fit_request(X_target=True)
    pipe = make_pipeline(mapping, LogisticRegression())
    source = domain > 0
    cross_val_score(pipe, X[source], y[source], params={"X_target": X[~source][:100]})
    pipe.fit(X[source], y[source], X_target=X[~source][:100])
    assert pipe[0].target_.shape == (100, 2)


def test_float32_stays_float32(domains):
    X, Z = (D.astype(np.float32) for D in domains)
    mapping = EntropicTransport(0.05).fit(X, X_target=Z)
    assert mapping.transform(X).dtype == mapping.inverse_transform(Z).dtype == np.float32
    wanted = EntropicTransport(0.05).fit(X.astype(float), X_target=Z.astype(float)).transform(X)
    assert_allclose(mapping.transform(X), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"X_target": np.zeros((4, 2))}, "X_target has 2 features, but X has 3"),
        ({"X_target": np.full((4, 3), np.nan)}, "X_target contains NaN"),
        ({"X_target": np.zeros((0, 3))}, "0 sample"),
        ({"sample_domain": np.ones(60)}, "60 samples of the source .* 0 of the target"),
        ({"sample_domain": np.zeros(60)}, "positive for samples of the source"),
        ({"sample_domain": ["a"] * 60}, "positive for samples of the source"),
        ({"sample_domain": [1, -1]}, r"sample_domain must have shape \(60,\)"),
        ({"sample_domain": np.ones(60), "X_target": np.ones((2, 3))}, "not both"),
        (
            {"sample_weight": -np.ones(60), "X_target": np.ones((2, 3))},
            "sample_weight must not be negative",
        ),
        ({"sample_weight": np.zeros(60)}, "at least one non-zero number"),
        (
            {"sample_domain": np.r_[-1, np.ones(59)], "sample_weight": np.r_[0, np.ones(59)]},
            "sums to zero over the target",
        ),
    ],
)
def test_bad_input(domains, arguments, message):
    with pytest.raises(ValueError, match=message):
        EntropicTransport().fit(domains[0], **arguments)


def test_samples_whose_costs_overflow_are_refused(domains):
    X, Z = domains
    mapping = EntropicTransport(0.05).fit(X, X_target=Z)
    assert np.isfinite(mapping.transform(X * 1e6)).all()
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="NaN or infinity"):
        mapping.transform(X * 1e200)


@pytest.mark.parametrize("reg", [np.inf, np.nan])
def test_reg_has_to_be_finite(domains, reg):
    with pytest.raises(ValueError, match="reg"):
        EntropicTransport(reg).fit(domains[0])


def test_an_error_above_tol_is_said(domains):
    X, Z = domains
    with pytest.warns(ConvergenceWarning, match="marginal error") as caught:
        mapping = EntropicTransport(1e-3, max_iter=1).fit(X, X_target=Z)
    assert np.isfinite(mapping.transform(X)).all()
    assert f"{mapping.marginal_error_:.3g}" in str(caught[0].message)


def test_interrupted_fit_can_be_repeated(domains, monkeypatch):
    X, Z = domains
    mapping = EntropicTransport(0.05)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_problem, "solve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            mapping.fit(X, X_target=Z)
    assert not hasattr(mapping, "plan_")
    assert mapping.fit(X, X_target=Z).plan_.shape == (60, 45)


def test_a_fit_without_a_target_is_refused(domains):
    X, Z = domains
    for arguments in ((X,), (X, Z), (X, np.arange(60))):
        with pytest.raises(ValueError, match="needs a target"):
            EntropicTransport().fit(*arguments)
    with pytest.raises(ValueError, match="second argument is y, which is ignored"):
        EntropicTransport().fit_transform(X, Z)


def test_a_few_outliers_do_not_decide_over_the_default_scale(domains):
    X, Z = domains
    plain = EntropicTransport().fit(X, X_target=Z)
    far, wrong = X + 50.0, Z.copy()
    wrong[:3] += 1e3
    assert_allclose(EntropicTransport().fit(far, X_target=Z).reg_, plain.reg_)
    assert_allclose(EntropicTransport().fit(X, X_target=wrong).reg_, plain.reg_, rtol=0.3)


def test_repeated_points_leave_a_scale(domains):
    """The median cost is zero where most samples are one point."""
    X = np.concatenate([np.zeros((40, 2)), np.arange(10.0).reshape(5, 2)])
    mapping = EntropicTransport().fit(X, X_target=X)
    C = ((X[:, None] - X) ** 2).sum(axis=2)
    assert_allclose(mapping.cost_scale_, C.mean())


@pytest.mark.parametrize("metric", ["hamming", "jaccard", "dice", "yule", "russellrao"])
@pytest.mark.filterwarnings("error")
def test_metrics_of_pairwise_distances(metric):
    rng = np.random.default_rng(0)
    X, Z = (rng.random((20, 6)) < 0.4).astype(float), (rng.random((15, 6)) < 0.6).astype(float)
    X[:, 0] = Z[:, 0] = 1.0  # some are not defined between rows of zeros
    mapping = EntropicTransport(0.5, metric).fit(X, X_target=Z)
    C = pairwise_distances(X != 0, Z != 0, metric=metric)
    assert_allclose(mapping.cost_, (mapping.plan_ * C).sum(), rtol=1e-9)
    projection = mapping.plan_ @ Z / mapping.plan_.sum(axis=1, keepdims=True)
    assert_allclose(mapping.transform(X), projection, rtol=1e-6)


def test_verbose_prints_a_line_a_stage(domains, capsys):
    X, Z = domains
    EntropicTransport(1e-3, verbose=1).fit(X, X_target=Z)
    assert capsys.readouterr().out.count("marginal error") > 2


def test_domains_that_are_far_apart_are_told_what_to_do():
    rng = np.random.default_rng(0)
    X, Z = rng.standard_normal((40, 3)), rng.standard_normal((30, 3))
    with pytest.warns(ConvergenceWarning, match="far apart: centre or standardise each"):
        EntropicTransport().fit(X, X_target=Z + 1e6)
    # What the message says does help: the plan is that of domains in one place.
    near = EntropicTransport().fit(X, X_target=Z - Z.mean(axis=0) + X.mean(axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = EntropicTransport().fit(X, X_target=Z).plan_
        EntropicTransport().fit(X + 1e6, X_target=Z + 1e6)
    assert_allclose(near.plan_, plan, atol=1e-9)
