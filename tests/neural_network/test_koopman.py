"""Koopman operators: known systems, layouts of trajectories, what was chosen, bad input."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklr.neural_network import InformationKoopman
from sklr.neural_network._koopman_dictionaries import LeastSquares, Monomials, with_spectral_radius

A = np.array([[0.95, 0.2], [-0.2, 0.95]])


def linear(n=8, length=40, seed=0, matrix=A):
    """Trajectories of x_{n+1} = A x_n, of unequal lengths."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        states = [rng.normal(size=len(matrix))]
        for _ in range(length + i - 1):
            states.append(matrix @ states[-1])
        out.append(np.array(states))
    return out


def slow_manifold(n=8, length=60, seed=0, dt=0.1):
    """x1' = -0.05 x1, x2' = -(x2 - x1^2), exactly: three functions are closed."""
    rng = np.random.default_rng(seed)
    out = []
    for a, b in rng.uniform(-1, 1, (n, 2)):
        t = dt * np.arange(length)
        c = a * a / 0.9  # x2 = c exp(-0.1 t) + ...
        x2 = c * np.exp(-0.1 * t) + (b - c) * np.exp(-t)
        out.append(np.stack([a * np.exp(-0.05 * t), x2], axis=1))
    return out


def quick(**options):
    network = dict(encoder="network", n_components=3, hidden_layer_sizes=(6,), window=8)
    return InformationKoopman(**{**network, "max_iter": 2, "random_state": 0, **options})


def power_forecast(x, n_steps, matrix=A):
    return np.stack([x @ np.linalg.matrix_power(matrix, k + 1).T for k in range(n_steps)], axis=1)


# Known systems.


def test_a_linear_system_is_found_exactly():
    fit = InformationKoopman(dt=0.5, random_state=0).fit(linear())
    assert fit.encoder_ == "linear"
    wanted = np.linalg.eigvals(A)
    for value in wanted:
        assert np.abs(fit.koopman_eigenvalues_ - value).min() < 1e-8
        assert np.abs(fit.continuous_eigenvalues_ - np.log(value) / 0.5).min() < 1e-7
    x = np.array([[1.0, 0.5], [-2.0, 0.1]])
    np.testing.assert_allclose(fit.forecast(x, 50), power_forecast(x, 50), atol=1e-7)


@pytest.mark.parametrize("degree", [2, 3])
def test_eigenvalues_of_the_slow_manifold(degree):
    fit = InformationKoopman("polynomial", degree=degree, dt=0.1, random_state=0)
    fit.fit(slow_manifold())
    for value in np.exp([-0.1, -0.01, -0.005]):
        assert np.abs(fit.koopman_eigenvalues_ - value).min() < 0.005


def test_a_dictionary_of_the_user_is_closed():
    """With x1, x2, x1^2 the operator is exact, and so are states far away."""

    def functions(x):
        return np.column_stack([x, x[:, 0] ** 2])

    data = slow_manifold()
    fit = InformationKoopman(functions, ridge=0.0, relift=False, instruments=False, dt=0.1).fit(
        data
    )
    assert fit.encoder_ == "callable" and fit.n_components_ == 3 and fit.candidates_ == []
    found = np.sort(fit.continuous_eigenvalues_.real)
    np.testing.assert_allclose(found, [-1, -0.1, -0.05], atol=1e-6)
    np.testing.assert_allclose(fit.forecast(data[0][:1], 59)[0], data[0][1:], atol=1e-6)


def test_a_linear_network_is_the_linear_system():
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    half = linear(6, length=20)
    torch.manual_seed(0)
    fit = quick(
        encoder=torch.nn.Linear(2, 2, bias=False), decoder=torch.nn.Linear(2, 2, bias=False),
        alpha=0.0, gamma=0.0, max_iter=60, relift=False, learning_rate=0.03, early_stopping=True,
        window=4,
    ).fit([*half, *(-x for x in half)])  # fmt: skip
    np.testing.assert_allclose(
        np.sort_complex(fit.koopman_eigenvalues_), np.sort_complex(np.linalg.eigvals(A)), atol=1e-2
    )
    x = half[0][:1]
    found, wanted = fit.forecast(x, 50), power_forecast(x, 50)
    assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()
    assert len(fit.validation_scores_) == fit.n_iter_
    assert isinstance(fit.module_, torch.nn.Module)


def test_least_squares_is_numpys():
    rng = np.random.default_rng(0)
    S = rng.normal(size=(50, 3))
    dictionary = Monomials(2).fit(S, rng)
    rows = np.arange(49)
    K = LeastSquares(dictionary.lift, S, rows).solve(0.0)
    Z = dictionary.lift(S)
    wanted = np.linalg.lstsq(Z[rows], Z[rows + 1], rcond=None)[0].T
    np.testing.assert_allclose(K, wanted, atol=1e-9)


def test_no_pair_crosses_trajectories():
    """A jump between two trajectories must not be seen; and their order does not matter."""
    data = linear(2, length=30)
    far = [data[0], -data[1]]
    for encoder in ("linear", "polynomial"):
        options = dict(ridge=1e-9, relift=False, standardize=False)
        model = InformationKoopman(encoder, degree=2, random_state=0, **options)
        fit, turned = clone(model).fit(far), clone(model).fit(far[::-1])
        assert np.abs(fit.koopman_eigenvalues_ - np.linalg.eigvals(A)[0]).min() < 1e-6
        np.testing.assert_allclose(
            fit.predict(far[0]), turned.predict(far[0]), rtol=1e-6, atol=1e-8
        )


# What holds whatever the encoder.

DATA = slow_manifold(7, length=30)
ENCODERS = {
    "auto": InformationKoopman(n_centers=20, random_state=0),
    "linear": InformationKoopman("linear", random_state=0),
    "polynomial": InformationKoopman("polynomial", relift=True, random_state=0),
    "rbf": InformationKoopman("rbf", n_centers=20, relift=True, random_state=0),
    "callable": InformationKoopman(np.array, random_state=0),  # the state itself
    "network": quick(),
}

FITS = {}


@pytest.fixture(params=ENCODERS)
def fit(request):
    if request.param == "network":
        pytest.importorskip("torch", reason="needs the extra torch")
    if request.param not in FITS:
        FITS[request.param] = clone(ENCODERS[request.param]).fit(DATA)
    return FITS[request.param]


def test_forecasts_agree_with_each_other(fit):
    x = DATA[0][:4]
    whole = fit.forecast(x, 6)
    for n_steps in (1, 3):
        np.testing.assert_allclose(fit.forecast(x, n_steps), whole[:, :n_steps], rtol=1e-9)
        np.testing.assert_allclose(fit.predict(x, n_steps), whole[:, n_steps - 1], rtol=1e-9)
    stepped = fit.inverse_transform(fit.transform(x) @ fit.koopman_operator_.T)
    np.testing.assert_allclose(stepped, whole[:, 0], rtol=1e-6, atol=1e-9)
    through = fit.forecast(x, 2, relift=True)[:, 1]
    np.testing.assert_allclose(through, fit.predict(fit.predict(x)), rtol=1e-6, atol=1e-9)


def test_layouts_come_back_as_they_were_given(fit):
    Z = fit.transform(DATA)
    assert isinstance(Z, list) and [len(z) for z in Z] == [len(x) for x in DATA]
    back = fit.inverse_transform(Z)
    assert [b.shape for b in back] == [x.shape for x in DATA]
    if fit.encoder_ != "network":
        np.testing.assert_allclose(back[3], DATA[3], atol=1e-9)
    stack = fit.predict(np.stack(DATA), 2)
    assert stack.shape == (7, 30, 2)
    np.testing.assert_allclose(stack[2], fit.predict(DATA[2], 2), rtol=1e-9)
    assert fit.eigenfunctions(DATA)[1].shape == (30, fit.n_components_)
    assert fit.get_feature_names_out().shape == (fit.n_components_,)


def test_spectrum_is_that_of_the_operator(fit):
    K, values = fit.koopman_operator_, fit.koopman_eigenvalues_
    np.testing.assert_allclose(np.prod(values), np.linalg.det(K), rtol=1e-4, atol=1e-8)
    assert (np.diff(np.abs(values)) <= 1e-12).all()
    assert 1 <= fit.effective_dimension_ <= fit.n_components_ + 1e-9
    assert fit.modes_.shape == (fit.n_components_, 2)
    if fit.n_components_ < 15 and fit.encoder_ != "network":
        x = DATA[1][:3]
        summed = (fit.eigenfunctions(x) @ fit.modes_).real + fit.mean_
        np.testing.assert_allclose(summed, x, atol=1e-5)
        # An eigenfunction of where the linear system goes is multiplied by its eigenvalue.
        later = fit.transform(x) @ K.T @ np.linalg.pinv(fit._vectors).T
        np.testing.assert_allclose(later, fit.eigenfunctions(x) * values, atol=1e-5)


def test_pickles_and_the_same_seed(fit):
    again, copied = clone(fit).fit(DATA), pickle.loads(pickle.dumps(fit))
    for other in (again, copied):
        np.testing.assert_array_equal(other.forecast(DATA[0][:2], 5), fit.forecast(DATA[0][:2], 5))
        np.testing.assert_array_equal(other.modes_, fit.modes_)
    assert again.score(DATA) == fit.score(DATA) <= 0


def test_information_never_rises_with_time(fit):
    pytest.importorskip("torch", reason="needs the extra torch")
    values = [fit.mutual_information(n) for n in (1, 2, 5)]
    assert values[0] >= values[1] >= values[2] >= 0


@pytest.mark.parametrize("encoder", ["auto", "linear", "polynomial", "rbf"])
def test_units_and_origin_do_not_matter(encoder):
    units, origin = np.array([1e-6, 1e6]), np.array([3.0, -1e7])
    base = clone(ENCODERS[encoder]).fit(DATA)
    moved = clone(base).fit([x * units + origin for x in DATA])
    assert moved.encoder_ == base.encoder_ and moved.relift_ == base.relift_
    found = (moved.predict(DATA[0] * units + origin) - origin) / units
    np.testing.assert_allclose(found, base.predict(DATA[0]), atol=2e-3)


# Noise of the measurements.


def test_noise_lowers_no_rate_of_growth_with_instruments():
    matrix = 0.998 * np.array([[0.98, 0.2], [-0.2, 0.98]])
    rng = np.random.default_rng(3)
    data = linear(n=12, length=120, matrix=matrix)
    noisy = [x + 0.3 * rng.normal(size=x.shape) for x in data]
    clean = linear(n=4, length=60, seed=9, matrix=matrix)
    rates, errors = {}, {}
    for instruments in (False, True):
        fit = InformationKoopman("linear", instruments=instruments, random_state=0).fit(noisy)
        values = fit.continuous_eigenvalues_
        rates[instruments] = values[np.abs(values.imag - 0.2).argmin()].real
        made = fit.predict(clean, n_steps=20)[0][:40]
        errors[instruments] = np.square(made - clean[0][20:60]).mean()
    wanted = np.log(0.998 * np.hypot(0.98, 0.2))
    assert rates[False] < wanted - 0.05 and abs(rates[True] - wanted) < 0.005
    assert errors[True] < errors[False] / 2
    chosen = InformationKoopman("linear", random_state=0).fit(noisy)
    assert chosen.instruments_
    assert {c["instruments"] for c in chosen.candidates_} == {False, True}


@pytest.mark.parametrize("encoder", ["linear", "rbf"])
def test_latents_with_instruments_stay_near_the_states(encoder):
    rng = np.random.default_rng(0)
    data = linear(n=10, length=80, matrix=0.998 * np.array([[0.98, 0.2], [-0.2, 0.98]]))
    noisy = [x + 0.1 * rng.normal(size=x.shape) for x in data]
    model = InformationKoopman(encoder, instruments=True, relift=False, random_state=0)
    fit = model.set_params(n_centers=40).fit(noisy)
    back = fit.inverse_transform(fit.transform(noisy))
    off = np.sqrt(np.square(np.concatenate(back) - np.concatenate(data)).mean())
    assert off < 0.12
    # A forecast through the states takes no noise out at each step.
    through = fit.forecast([[1.0, 0.0]], 60, relift=True)[0, 20:]
    assert np.abs(through).max() > 0.3


def test_instruments_are_two_stage_least_squares():
    rng = np.random.default_rng(0)
    S = rng.normal(size=(300, 2)).cumsum(axis=0) / 10
    dictionary = Monomials(2).fit(S, rng)
    rows = np.arange(1, 299)
    K = LeastSquares(dictionary.lift, S, rows, instruments=True).solve(0.0)
    Z = dictionary.lift(S)
    first = Z[rows - 1] @ np.linalg.lstsq(Z[rows - 1], Z[rows], rcond=None)[0]
    wanted = np.linalg.lstsq(first, Z[rows + 1], rcond=None)[0].T
    np.testing.assert_allclose(K, wanted, atol=1e-3 * np.abs(wanted).max())


def test_instruments_need_three_states():
    with pytest.raises(ValueError, match="at least 3 states"):
        InformationKoopman(instruments=True).fit([[0.0, 1.0], [0.5, 0.5]])
    with pytest.raises(ValueError, match="closed form"):
        InformationKoopman("network", instruments=True).fit(linear())


# Choosing.


def test_what_auto_takes_is_among_the_best_it_tried():
    fit = InformationKoopman(n_centers=30, random_state=0).fit(DATA)
    assert fit.steps_[0] == 1 and fit.steps_[-1] == 29
    logs = [np.log(np.maximum(c["errors"], 1e-7)).mean() for c in fit.candidates_]
    taken = [
        log
        for log, c in zip(logs, fit.candidates_, strict=True)
        if (c["encoder"], c["relift"], c["ridge"]) == (fit.encoder_, fit.relift_, fit.ridge_)
    ]
    assert min(taken) <= min(logs) + 0.021
    assert {c["encoder"] for c in fit.candidates_} == {"linear", "polynomial", "rbf"}


def test_grid_search_over_trajectories():
    data = linear(6)
    search = GridSearchCV(
        InformationKoopman(horizon=10, random_state=0),
        {"encoder": ["linear", "rbf"], "ridge": [1e-9, 1.0]},
        cv=GroupKFold(3),
    )
    search.fit(data, groups=[0, 0, 1, 1, 2, 2])
    assert search.best_params_ == {"encoder": "linear", "ridge": 1e-9}
    assert search.best_score_ > -1e-6 and len(search.predict(data)) == 6


def test_weights_of_information_do_what_they_say():
    pytest.importorskip("torch", reason="needs the extra torch")
    data = slow_manifold(6, length=20)
    plain = quick(alpha=0.0, gamma=0.0, max_iter=10, learning_rate=0.02).fit(data)
    spread = quick(alpha=0.0, gamma=0.3, max_iter=10, learning_rate=0.02).fit(data)
    assert spread.effective_dimension_ > 1.2 * plain.effective_dimension_
    assert set(plain.loss_terms_) == {"forecast", "reconstruction", "linearity"}
    assert set(quick().fit(data).loss_terms_) >= {"coherence", "entropy"}


def test_a_module_of_the_user_is_copied_and_trained():
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    encoder, decoder = torch.nn.Linear(2, 4), torch.nn.Linear(4, 2)
    before = encoder.weight.detach().clone()
    fit = quick(encoder=encoder, decoder=decoder).fit(DATA)
    assert fit.encoder_ == "module" and fit.n_components_ == 4
    assert torch.equal(encoder.weight, before)
    assert not torch.equal(fit.module_["encoder"].weight, before)
    with pytest.raises(ValueError, match="decoder returns shape"):
        quick(encoder=encoder, decoder=torch.nn.Linear(4, 3)).fit(DATA)


def test_weights_go_to_a_file_and_back(tmp_path):
    pytest.importorskip("torch", reason="needs the extra torch")
    fit = quick().fit(DATA)
    fit.save_weights(tmp_path / "w.pt")
    other = quick(random_state=1).fit(DATA).load_weights(tmp_path / "w.pt")
    np.testing.assert_allclose(other.koopman_operator_, fit.koopman_operator_, atol=1e-6)
    np.testing.assert_allclose(other.transform(DATA[0]), fit.transform(DATA[0]))
    with pytest.raises(ValueError, match="encoder is 'linear': use pickle"):
        InformationKoopman("linear").fit(DATA).save_weights(tmp_path / "w.pt")


def test_the_spectral_radius_is_kept():
    K = with_spectral_radius(1.2 * A, 1.0)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(K)), 1)
    growing = linear(matrix=1.05 * A, length=20)
    fit = InformationKoopman("linear", spectral_radius=1.0, random_state=0).fit(growing)
    assert np.abs(fit.koopman_eigenvalues_).max() <= 1 + 1e-9
    assert np.isfinite(fit.forecast(growing[0][:1], 2000)).all()


def test_many_features_are_reduced():
    """A field of 300 points that two numbers make."""
    patterns = np.random.default_rng(0).normal(size=(2, 300))
    fields = [x @ patterns for x in linear()]
    fit = InformationKoopman(random_state=0).fit(fields)
    assert fit.n_features_in_ == 300 and fit.n_components_ <= 4
    found = fit.forecast(fields[0][:1], 20)[0]
    np.testing.assert_allclose(found, fields[0][1:21], atol=1e-6)


# What is refused, or warned about.


def test_bad_trajectories_are_named():
    def fails(X, match):
        with pytest.raises(ValueError, match=match):
            InformationKoopman().fit(X)

    data = linear(4)
    broken = [*data[:2], np.where(np.arange(40)[:, None] == 7, np.nan, data[0]), data[3]]
    fails(broken, "trajectory 2 of 4: .*NaN")
    fails([data[0], data[1][:, :1]], "trajectory 1 of 2: X has 1 features.*2 features")
    fails([data[0], data[1][:1]], "trajectory 1 of 2: .*minimum of 2")
    fails([data[0], data[1][0]], "trajectory 1 has 1 dimension")
    fails(data[0][:1], "minimum of 2")
    fails([], "")
    fails(np.zeros((3, 1, 2)), "at least 2 state")
    fit = InformationKoopman().fit(data)
    with pytest.raises(ValueError, match="trajectory 1 of 2"):
        fit.transform([data[0], data[1][:, :1]])
    with pytest.raises(ValueError, match="Z has 7 columns"):
        fit.inverse_transform(np.zeros((3, 7)))
    for steps in (0, 1.5, True):
        with pytest.raises(ValueError, match="n_steps must be an integer of at least 1"):
            fit.forecast(data[0][:1], steps)
    with pytest.raises(ValueError, match="initial states"):
        fit.forecast(data, 3)


def test_a_list_of_rows_is_a_table():
    table = linear(1, length=30)[0]
    model = InformationKoopman("linear", random_state=0)
    np.testing.assert_array_equal(
        clone(model).fit(table.tolist()).koopman_operator_,
        clone(model).fit([table]).koopman_operator_,
    )


@pytest.mark.parametrize("encoder", ["linear", "polynomial"])
def test_a_table_a_list_and_a_stack_of_one_trajectory_agree(encoder):
    table = slow_manifold(1, length=40)[0]
    model = InformationKoopman(encoder, random_state=0)
    wanted = clone(model).fit(table)
    for other in ([table], table[None]):
        fit = clone(model).fit(other)
        np.testing.assert_array_equal(fit.koopman_operator_, wanted.koopman_operator_)
        np.testing.assert_array_equal(
            np.asarray(fit.predict(other, 3))[0], wanted.predict(table, 3)
        )


def test_names_of_features_are_compared_in_every_trajectory():
    pd = pytest.importorskip("pandas", reason="needs the extra test")
    frames = [pd.DataFrame(x, columns=["a", "b"]) for x in linear(6)]
    fit = InformationKoopman("linear", random_state=0).fit(frames)
    assert list(fit.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="trajectory 1 of 2: .*feature names"):
        fit.transform([frames[0], frames[1].rename(columns={"a": "c"})])
    with pytest.raises(ValueError, match="trajectory 1 of 6: .*feature names"):
        clone(fit).fit([frames[0], frames[1].rename(columns={"a": "c"}), *frames[2:]])


def test_containers_are_of_tables():
    pytest.importorskip("pandas", reason="needs the extra test")
    fit = InformationKoopman("linear", random_state=0).fit(DATA).set_output(transform="pandas")
    assert list(fit.transform(DATA[0]).columns) == list(fit.get_feature_names_out())
    with pytest.raises(ValueError, match="is for one table, and X is a list of trajectories"):
        fit.transform(DATA)


def test_short_trajectories_and_constant_states_are_warned_about():
    pytest.importorskip("torch", reason="needs the extra torch")
    with pytest.warns(UserWarning, match="window=8 is shortened to 7"):
        quick().fit([x[:8] for x in DATA])
    with pytest.warns(UserWarning, match="coherence in time is left out"):
        quick(window=5).fit(DATA)
    with pytest.warns(UserWarning, match="all states of X are equal"):
        fit = InformationKoopman().fit(np.full((30, 2), 3.5))
    np.testing.assert_allclose(fit.forecast([[3.5, 3.5]], 4), 3.5)
    with pytest.raises(ValueError, match="early_stopping needs windows of 25 states"):
        quick(window=24, early_stopping=True).fit(linear(1, length=40))
    with pytest.raises(ValueError, match="encoder must return an array of shape"):
        InformationKoopman(np.sum).fit(DATA)


def test_a_forecast_that_runs_away_is_warned_about():
    growing = linear(matrix=2.0 * A, length=20)
    fit = InformationKoopman("linear", random_state=0).fit(growing)
    with pytest.warns(RuntimeWarning, match="1 of 1 forecasts left the floating point numbers"):
        out = fit.forecast(growing[0][:1], 3000)
    assert np.isfinite(out[0, :50]).all() and np.isnan(out[0, -1]).all()
    assert fit.score(growing) > -1


def test_two_states_are_enough_for_the_least_there_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = InformationKoopman().fit([[0.0, 1.0], [0.5, 0.5]])
    assert fit.encoder_ == "linear" and fit.candidates_ == []
    np.testing.assert_allclose(fit.predict([[0.0, 1.0]]), [[0.5, 0.5]], atol=1e-5)


@parametrize_with_checks([InformationKoopman(n_centers=20, random_state=0)])
def test_closed_forms_pass_scikit_learns_checks(estimator, check):
    check(estimator)


def test_an_outlier_is_named_and_a_state_that_stays_is_not():
    bad = linear()
    bad[2][10] = [1e3, -1e3]
    with pytest.warns(UserWarning, match="leave out such outliers"):
        InformationKoopman(random_state=0).fit(bad)
    rng = np.random.default_rng(0)
    bad = [x + 0.01 * rng.normal(size=x.shape) for x in linear()]
    bad[0][0] = [1e3, -1e3]
    with pytest.warns(UserWarning, match="leave out such outliers"):
        InformationKoopman(random_state=0).fit(bad)
    t = np.arange(100.0)
    turn = np.column_stack([np.cos(2.5 * t), np.sin(2.5 * t)])
    fine = [size * 0.95 ** t[:, None] * turn for size in (1, 2, 3, 4, 5, 6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InformationKoopman("linear", random_state=0).fit(fine)
        noisy = [x + 1e-3 * np.random.default_rng(0).normal(size=x.shape) for x in fine]
        InformationKoopman("linear", random_state=0).fit(noisy)
    still = [np.ones((20, 2)) * [1, i] for i in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InformationKoopman(random_state=0).fit(still)


def test_says_when_no_candidate_beats_the_last_state():
    """Positions without velocities; with a delayed copy the same system is linear."""
    t = np.arange(120.0)
    turns = [np.cos(0.3 * t + phase)[:, None] for phase in range(6)]
    with pytest.warns(UserWarning, match="part of the state"):
        InformationKoopman(encoder="linear", ridge="auto", random_state=0).fit(turns)
    both = [np.hstack([x[1:], x[:-1]]) for x in turns]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InformationKoopman(encoder="linear", ridge="auto", random_state=0).fit(both)
