import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.model_selection import GridSearchCV

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.datasets import make_burgers, make_darcy, make_navier_stokes  # noqa: E402
from sklr.neural_network import LatentSpectralRegressor, _fields_closed  # noqa: E402
from sklr.neural_network._fields import network_sizes, on_circles, relative_errors, resampled  # noqa: E402
from sklr.neural_network._fields_circles import fit_on_circles  # noqa: E402
from sklr.neural_network._fields_closed import fit_closed_form  # noqa: E402
from sklr.neural_network._fields_symmetries import Symmetry, nothing  # noqa: E402

SMALL = {"width": 4, "n_levels": 1, "n_basis": 3, "max_iter": 2, "random_state": 0}
# The network alone, but where a test says otherwise.
SMALL |= {"baseline": None, "symmetries": None}


def regressor(**options):
    return LatentSpectralRegressor(**SMALL | options)


def smooth(n, *grid, channels=None, seed=0):
    """Random waves, of which no cell is constant."""
    rng = np.random.default_rng(seed)
    shape = (n, *grid) if channels is None else (n, *grid, channels)
    out = rng.normal(size=shape)
    for axis in range(1, 1 + len(grid)):
        out = out + np.roll(out, 1, axis=axis) + np.roll(out, -1, axis=axis)
    return out


@pytest.fixture(scope="module")
def darcy():
    return make_darcy(40, size=12, random_state=0)


@pytest.fixture(scope="module", params=[None, "kernel_ridge"])
def fitted(darcy, request):
    return regressor(max_iter=30, learning_rate=0.01, baseline=request.param).fit(*darcy)


@pytest.mark.parametrize(
    "x_shape, y_shape, options",
    [
        ((9,), (9,), {}),
        ((9,), (9, 2), {}),
        ((9, 3), (9,), {"n_dims": 1}),
        ((9,), (), {}),
        ((7, 10), (7, 10), {}),
        ((7, 10), (7, 10, 1), {}),
        ((7, 10), (3,), {}),
        ((7, 10, 2), (7, 10, 3), {}),
        ((4, 5, 6), (4, 5, 6), {"n_dims": 3}),
        ((4, 5, 6, 2), (4, 5, 6), {}),
        ((70,), (70,), {"spatial_shape": (7, 10)}),
        ((140,), (70,), {"spatial_shape": (7, 10)}),
        ((70,), (7, 10), {"spatial_shape": (7, 10)}),
        ((70,), (140,), {"spatial_shape": (7, 10)}),
    ],
)
@pytest.mark.parametrize("normalize", ["channel", "pointwise", None])
def test_layouts(x_shape, y_shape, options, normalize):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5, *x_shape)), rng.normal(size=(5, *y_shape))
    model = regressor(normalize=normalize, max_iter=1, **options).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert np.isfinite(model.predict(X)).all() and np.isfinite(model.score(X, y))


def test_flat_rows_are_the_fields(darcy):
    X, y = darcy
    wanted = regressor().fit(X, y)
    flat = regressor(spatial_shape=(12, 12)).fit(X.reshape(40, -1), y.reshape(40, -1))
    np.testing.assert_array_equal(
        flat.predict(X.reshape(40, -1)).reshape(y.shape), wanted.predict(X)
    )
    assert flat.score(X.reshape(40, -1), y.reshape(40, -1)) == wanted.score(X, y)


def test_few_samples_are_learnt_by_heart(darcy):
    X, y = darcy[0][:4], darcy[1][:4]
    model = LatentSpectralRegressor(8, n_levels=1, max_iter=200, random_state=0).fit(X, y)
    assert relative_errors(model.predict(X), y).max() < 0.05


def test_the_loss_falls_and_is_the_relative_error(darcy, fitted):
    curve = fitted.loss_curve_
    factor = 0.5 if fitted.baseline is None else 0.9  # the baseline begins low
    assert np.mean(curve[-3:]) < factor * np.mean(curve[:3])
    X, y = darcy
    mean_field = relative_errors(np.full_like(y, y.mean()), y).mean()
    assert_allclose(fitted._usual_error, mean_field, rtol=1e-10)
    assert fitted.score(X, y) > 0.9


@pytest.mark.parametrize("units", [1e-6, 1e6])
def test_units_do_not_matter(darcy, fitted, units):
    X, y = darcy
    options = {"max_iter": 30, "learning_rate": 0.01, "baseline": fitted.baseline}
    other = regressor(**options).fit(X * units, y / units)
    assert_allclose(other.predict(X * units) * units, fitted.predict(X), rtol=2e-2, atol=2e-4)


def test_targets_far_from_zero(darcy):
    X, y = darcy
    options = {"max_iter": 10, "learning_rate": 0.01, "loss": "squared_error"}
    near = regressor(**options).fit(X, y).predict(X)
    far = regressor(**options).fit(X, y + 1e9).predict(X)
    assert_allclose(far - 1e9, near, atol=3e-4)  # of .03: y has 7 digits left
    relative = regressor(max_iter=30, learning_rate=0.01).fit(X, y + 1e9)
    assert relative.score(X, y + 1e9) > 0.9


def test_predictions_do_not_depend_on_what_else_is_asked(darcy, fitted):
    X, _ = darcy
    whole = fitted.predict(X)
    assert_allclose(fitted.predict(X[[5, 3]]), whole[[5, 3]], atol=1e-5 * np.abs(whole).max())


def test_pointwise_units_are_those_of_the_training_data(darcy):
    X, y = darcy
    model = regressor(normalize="pointwise").fit(X[:30], y[:30])
    assert_allclose(model.y_mean_[..., 0], y[:30].mean(axis=0), atol=1e-15)
    assert_allclose(model.y_scale_[..., 0], y[:30].std(axis=0), atol=1e-12)
    boundary = np.zeros((12, 12), bool)
    boundary[[0, -1]] = boundary[:, [0, -1]] = True
    assert (model.predict(X)[:, boundary] == 0).all()  # constant there


@pytest.mark.parametrize("normalize", ["channel", "pointwise"])
def test_another_grid(darcy, normalize):
    model = regressor(max_iter=20, learning_rate=0.01, normalize=normalize).fit(*darcy)
    X, y = make_darcy(20, size=23, random_state=3)
    coarse, y_coarse = make_darcy(20, size=12, random_state=3)
    np.testing.assert_array_equal(X[:, ::2, ::2], coarse)
    found = model.predict(X)
    assert found.shape == y.shape
    # Every second point is one of the training grid.
    assert_allclose(found[:, ::2, ::2], model.predict(coarse), atol=1e-7)
    assert model.score(X, y) > model.score(coarse, y_coarse) - 0.15
    with pytest.raises(ValueError, match=r"X is on a grid of \(23, 23\), and training on \(12, 12"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"X_val is on a grid of \(23, 23\)"):
        regressor().fit(*darcy, X_val=X, y_val=y)


def test_resampling_is_exact_for_lines():
    line = np.linspace(-1, 3, 7)[None, :, None, None] + 2 * np.linspace(0, 1, 4)[:, None]
    finer = np.linspace(-1, 3, 12)[None, :, None, None] + 2 * np.linspace(0, 1, 5)[:, None]
    assert_allclose(resampled(line, (12, 5)), finer, atol=1e-12)
    assert resampled(line[:, :1], (3, 4)).shape == (1, 3, 4, 1)


def test_resampling_of_circles_goes_around():
    angle, finer = (2 * np.pi * np.arange(n) / n for n in (40, 64))
    wave = np.sin(angle)[None, :, None]
    found = resampled(wave, (64,), periodic=True)
    assert_allclose(found[0, :, 0], np.sin(finer), atol=0.004)
    assert_allclose(resampled(wave, (80,), periodic=True)[:, ::2], wave, atol=1e-12)
    assert resampled(wave[:, :1], (3,), periodic=True).shape == (1, 3, 1)


def test_periodic_fields_and_another_grid():
    X, y = make_burgers(24, size=16, random_state=0)
    model = regressor(n_dims=1, periodic=True, max_iter=10).fit(X, y)
    fine, _ = make_burgers(24, size=32, random_state=0)
    assert_allclose(model.predict(fine)[:, ::2], model.predict(fine[:, ::2]), atol=1e-9)
    assert model.module_.periodic
    with pytest.raises(ValueError, match="periodic"):
        model.set_params(periodic=False).partial_fit(X, y)


def test_the_network_that_is_asked_is_the_trained_one(darcy, fitted):
    X, _ = darcy
    fields = fitted._validate(X, reset=False)
    shown = fitted._shown(fields)
    with torch.no_grad():
        made = fitted.module_(torch.tensor(shown).float()).double().numpy()
    if fitted.baseline is not None:
        made = shown[:, 1:] + fitted._left * made
    wanted = fitted._units.unscaled(np.moveaxis(made, 1, -1))[..., 0]
    assert_allclose(fitted.predict(X), wanted, atol=1e-5 * np.abs(wanted).max())
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in fitted.module_.modules())


def test_another_grid_of_one_dimension_needs_n_dims():
    X = smooth(6, 16)
    with pytest.raises(ValueError, match="X has 8 features"):
        regressor().fit(X, X).predict(X[:, ::2])
    assert regressor(n_dims=1).fit(X, X).predict(X[:, ::2]).shape == (6, 8)


def test_constant_targets_are_predicted_exactly():
    X = smooth(8, 10)
    with pytest.warns(UserWarning, match="y is the same in all samples"):
        model = regressor().fit(X, np.full((8, 10), 3.7))
    assert_allclose(model.predict(X), 3.7, rtol=1e-15)
    with pytest.warns(UserWarning, match="y is the same"):
        model = regressor(normalize="pointwise").fit(X, np.tile(X[0], (8, 1)))
    assert_allclose(model.predict(X), np.tile(X[0], (8, 1)), rtol=1e-15)


def test_constant_input_gives_the_mean():
    y = smooth(30, 10)
    with pytest.warns(UserWarning, match="all fields of X are equal"):
        model = regressor(max_iter=20).fit(np.ones((30, 10)), y)
    found = model.predict(np.ones((2, 10)))
    assert np.isfinite(found).all()
    # The places of a batch are added in another order on some processors.
    assert_allclose(found[0], found[1], rtol=0, atol=2e-6 * y.std())


def test_a_film_goes_on_by_itself():
    """Waves that travel: each step makes one frame, from the last two."""
    t, x = np.arange(8), np.arange(16)
    phase = np.random.default_rng(0).uniform(0, 6, 40)[:, None, None]
    film = np.sin(phase + 2 * np.pi * (x[:, None] - t) / 16)
    X, y = film[..., :2], film[..., 2:5]
    model = regressor(n_dims=1, n_rollout_steps=3, max_iter=60, learning_rate=0.01).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.9
    on = model.rollout(X, 6)
    assert on.shape == (40, 16, 6)
    assert_allclose(on[..., :3], model.predict(X), atol=1e-6)
    assert relative_errors(on, film[..., 2:8]).mean() < 0.3
    # By hand: predictions become frames.
    one = model.rollout(X, 1)
    hand = model.rollout(np.concatenate([X[..., 1:], one], axis=-1), 1)
    assert_allclose(hand, on[..., 1:2], atol=1e-5)


def test_units_of_frames_are_shared_between_steps():
    film = smooth(10, 9, channels=5) * [1, 1, 1, 100, 100]
    model = regressor(n_dims=1, n_rollout_steps=2).fit(film[..., :3], film[..., 3:])
    assert model.y_scale_[0] == model.y_scale_[1]


def test_rollout_refuses_what_cannot_go_on(darcy, fitted):
    X, y = darcy
    assert fitted.rollout(X[:2], 3).shape == (2, 12, 12, 3)
    with pytest.raises(ValueError, match="n_steps must be an integer of at least 1, got 0"):
        fitted.rollout(X, 0)
    numbers = regressor().fit(X, y.mean(axis=(1, 2)))
    with pytest.raises(ValueError, match="these are numbers"):
        numbers.rollout(X, 2)
    two = np.stack([y, y], axis=-1)
    with pytest.raises(ValueError, match="a step makes 2 channels, and the next one takes 1"):
        regressor().fit(X, two).rollout(X, 2)
    with pytest.raises(ValueError, match="multiple of 3 channels"):
        regressor(n_rollout_steps=3).fit(X, two)


def test_the_baseline_is_kernel_ridge_of_the_other_samples(darcy):
    """Answers for training samples are those of a fit without them; for others, of all."""
    X, y = (part.reshape(len(part), -1) for part in darcy)
    X, first = np.unique(X, axis=0, return_index=True)  # on so few cells some are there twice
    y = y[first]
    new = X[:5] + np.random.default_rng(0).normal(size=(5, 144))
    closed = fit_closed_form(X, y, seed=0)
    scores = (X - closed.x_mean) @ closed.axes
    assert_allclose(scores, closed.scores, atol=1e-8)
    kernel = rbf_kernel(scores, gamma=closed.gamma)
    ridge = KernelRidge(kernel="precomputed", alpha=closed.penalty)
    for i in (0, 17):
        rest = np.arange(len(X)) != i
        ridge.fit(kernel[np.ix_(rest, rest)], (y - y.mean(axis=0))[rest])
        wanted = ridge.predict(kernel[[i]][:, rest])[0] + y.mean(axis=0)
        assert_allclose(closed.held_out[i], wanted, atol=1e-4 * np.abs(y).max())
    assert_allclose(closed.predict(X), closed.held_out, atol=1e-12)
    ridge.fit(kernel, y - y.mean(axis=0))
    wanted = ridge.predict(rbf_kernel((new - X.mean(0)) @ closed.axes, scores, gamma=closed.gamma))
    assert_allclose(closed.predict(new), wanted + y.mean(axis=0), atol=1e-4 * np.abs(y).max())


def test_samples_given_twice_are_left_out_together(darcy):
    X, y = (part.reshape(len(part), -1) for part in darcy)
    once = fit_closed_form(X, y, seed=0)
    twice = fit_closed_form(np.tile(X, (2, 1)), np.vstack([1.1 * y, 0.9 * y]), seed=0)
    assert (twice.gamma, twice.penalty) == (once.gamma, once.penalty)
    assert_allclose(twice.predict(X), once.predict(X), atol=1e-6 * np.abs(y).max())


def test_more_samples_than_the_kernel_takes(monkeypatch, darcy):
    monkeypatch.setattr(_fields_closed, "_MOST_SAMPLES", 25)
    X, y = darcy
    model = regressor(baseline="kernel_ridge", max_iter=5).fit(X, y)
    assert len(model._closed_form.scores) == 25 and model.score(X, y) > 0.5


def test_the_baseline_is_taken_where_it_helps(darcy):
    X, y = make_darcy(80, size=12, random_state=0)
    model = regressor(baseline="auto").fit(X, y)
    assert model.baseline_error_ < 0.1 and model._closed_form is not None
    # What the network has learnt in two epochs does not spoil it.
    new = make_darcy(30, size=12, random_state=1)
    alone = regressor().fit(X, y)
    error, without = (relative_errors(one.predict(new[0]), new[1]).mean() for one in (model, alone))
    said = np.moveaxis(model._shown(model._validate(new[0], reset=False))[:, 1:], 1, -1)
    closed = relative_errors(model._units.unscaled(said)[..., 0], new[1]).mean()
    assert error < 1.05 * closed < without
    assert_allclose(closed, model.baseline_error_, rtol=0.3)
    noise = smooth(30, 12, 12)
    model = regressor(baseline="auto").fit(noise, smooth(30, 12, 12, seed=1))
    assert model.baseline_error_ > 0.3 and model._closed_form is None
    for few in (regressor(baseline="auto").fit(X[:9], y[:9]), regressor().fit(X, y)):
        assert np.isnan(few.baseline_error_)


def test_whether_the_baseline_helps_does_not_depend_on_what_is_added():
    """Beside a large mean all errors are small."""
    X, noise = smooth(30, 12, 12), smooth(30, 12, 12, seed=1)
    model = regressor(baseline="auto").fit(X, noise + 1e6)
    assert model.baseline_error_ < 1e-5 and model._closed_form is None
    X, y = make_darcy(40, size=12, random_state=0)
    for far in (0, 1e6):
        assert regressor(baseline="auto").fit(X, y + far)._closed_form is not None


def moved(fields, cells):
    return np.roll(fields, cells, axis=tuple(range(2, fields.ndim)))


@pytest.mark.parametrize(
    "grid, back", [((6,), None), ((5,), None), ((2, 3), None), ((6,), (True,)), ((2, 3), (0, 1))]
)
def test_the_baseline_on_circles_is_kernel_ridge_of_all_shifts(grid, back):
    """And answers for training samples are those of a fit without all of their shifts."""
    X, y = smooth(22, 2, *grid), smooth(22, 2, *grid, seed=1)
    plain = [nothing(len(grid))]
    group = [*plain, Symmetry(plain[0].axes, back, -1, 1)] if back else plain
    closed = fit_on_circles(X, y, 0, group if back else ())
    cells = list(np.ndindex(*grid))
    images = np.concatenate([one.of(X) for one in group])
    targets = np.concatenate([one.of(y, target=True) for one in group])
    all_X = np.concatenate([moved(images, c) for c in cells])
    new = smooth(3, 2, *grid, seed=2)

    def weighted(fields):  # so that distances are those of the weighted waves
        axes = tuple(range(2, fields.ndim))
        return np.fft.irfftn(
            np.fft.rfftn(fields, axes=axes) * closed.wave_weights, grid, axes
        ).reshape(len(fields), -1)

    def kernel(a, b):
        far = np.sqrt(5) * euclidean_distances(weighted(a), weighted(b)) / closed.length
        return (1 + far + far**2 / 3) * np.exp(-far)

    # The penalty, and what is added at each place, are those found; the rest is by hand.
    rest = np.concatenate([moved(targets - closed.fixed, c) for c in cells])
    gram = kernel(all_X, all_X)
    wanted = (closed.predict(new) - closed.fixed).reshape(3, -1)
    errors = []
    for penalty in 10.0 ** np.arange(-8, 0):
        ridge = KernelRidge(kernel="precomputed", alpha=penalty).fit(
            gram, rest.reshape(len(rest), -1)
        )
        errors.append(np.abs(ridge.predict(kernel(new, all_X)) - wanted).max())
    penalty = 10.0 ** (np.argmin(errors) - 8)
    assert min(errors) < 1e-5 * np.abs(y).max()
    apart = np.tile(np.arange(22), len(cells) * len(group)) != 7
    ridge = KernelRidge(kernel="precomputed", alpha=penalty)
    ridge.fit(gram[np.ix_(apart, apart)], rest[apart].reshape(apart.sum(), -1))
    found = ridge.predict(kernel(X[7:8], all_X[apart])).reshape(2, *grid) + closed.fixed
    assert_allclose(closed.predict(X[7:8])[0], found, atol=1e-5 * np.abs(y).max())
    assert_allclose(
        closed.predict(moved(X[7:8], cells[-1])),
        moved(closed.predict(X[7:8]), cells[-1]),
        atol=1e-9,
    )


def test_what_is_added_at_each_place_is_found():
    X, y = (part[:, None] for part in make_burgers(60, size=16, time=0.1, random_state=0))
    plain = fit_on_circles(X, y, seed=0)
    stirred = fit_on_circles(X, y + np.sin(np.arange(16)), seed=0)
    assert plain.n_fixed < 3 < stirred.n_fixed
    assert_allclose(stirred.fixed[0], np.sin(np.arange(16)), atol=0.05)


@pytest.mark.parametrize("of", ["answer", "slope"])
def test_fields_are_not_moved_where_places_weigh_the_equation(of):
    """A factor of each place has no mean error to be seen by."""
    X = smooth(100, 1, 16)
    y = np.tanh(X) if of == "answer" else np.roll(X, 1, 2) - np.roll(X, -1, 2)
    here = 1 + 0.3 * np.sin(2 * np.pi * np.arange(16) / 16)
    alike, differs = fit_on_circles(X, y, seed=0), fit_on_circles(X, here * y, seed=0)
    assert max(alike.n_fixed, alike.n_scaled) < 3
    assert differs.n_fixed < 3 < differs.n_scaled


def test_samples_that_are_shifts_of_each_other_are_one():
    X, y = (part[:, None] for part in make_burgers(30, size=16, random_state=0))
    twice = fit_on_circles(np.concatenate([X, moved(X, 3)]), np.concatenate([y, moved(y, 3)]), 0)
    assert len(twice.waves) == 30
    assert fit_on_circles(X[:9], y[:9], 0) is None
    assert fit_on_circles(0 * X, y, 0) is None


def test_fields_are_moved_where_places_are_alike():
    X, y = make_burgers(60, size=16, time=0.3, random_state=0)
    model = regressor(baseline="auto").fit(X, y)
    assert model.periodic_ and model.shifted_ and model.baseline_error_ < 0.1
    here = regressor(baseline="auto").fit(X, y + np.sin(2 * np.pi * np.arange(16) / 16))
    assert here.periodic_ and not here.shifted_ and here.baseline_error_ < 0.1
    assert not regressor(baseline="auto", periodic=False).fit(X, y).shifted_


@pytest.mark.parametrize("added, moves", [((1, 1), [(1, -1)]), ((1, 0), [(0, 1)]), ((1, 2), [])])
def test_fields_are_moved_along_a_line(added, moves):
    """Along which what stirs is the same."""
    X = smooth(40, 8, 8)
    turns = 2 * np.pi * np.add.outer(np.arange(8) * added[0], np.arange(8) * added[1]) / 8
    y = np.tanh(X) + (np.sin(turns) if moves else np.sin(turns) + np.sin(2 * turns.T))
    model = regressor(baseline="kernel_ridge", periodic=True).fit(X, y)
    assert model._moves == moves and model.shifted_ is bool(moves)


def test_where_there_is_no_baseline(darcy):
    X, y = darcy
    wanted = {"baseline": "kernel_ridge"}
    with pytest.raises(ValueError, match="baseline='kernel_ridge' needs at least 20 samples"):
        regressor(**wanted).fit(X[:9], y[:9])
    with pytest.raises(ValueError, match="needs targets that are fields"):
        regressor(**wanted).fit(X, y.mean(axis=(1, 2)))
    film = smooth(30, 9, channels=5)
    with pytest.raises(ValueError, match="needs n_rollout_steps=1"):
        regressor(n_dims=1, n_rollout_steps=2, **wanted).fit(film[..., :3], film[..., 3:])
    assert regressor(**wanted).partial_fit(X, y).predict(X).shape == y.shape


def test_partial_fit_after_a_fit_with_a_baseline(darcy):
    X, y = darcy
    model = regressor(baseline="kernel_ridge", max_iter=10).fit(X, y)
    before = model.score(X, y)
    assert model.partial_fit(X, y).score(X, y) > before - 0.2
    assert model._closed_form is not None


@pytest.mark.parametrize(
    "make, wanted",
    [
        (lambda: make_burgers(20, size=48, random_state=0), True),
        (lambda: [make_navier_stokes(10, size=16, n_frames=3, random_state=0)] * 2, True),
        (lambda: make_darcy(20, size=16, random_state=0), False),
        (lambda: [np.random.default_rng(0).normal(size=(30, 40, 1))] * 2, False),
        (lambda: [np.random.default_rng(0).normal(size=(30, 40, 1)).cumsum(axis=1)] * 2, False),
        (lambda: [np.sin(np.linspace(0, np.pi, 40)) * np.ones((20, 1))] * 2, False),
        (lambda: make_burgers(5, size=48, random_state=0), False),
        (lambda: [np.ones((20, 16))] * 2, False),
    ],
    ids=["burgers", "torus", "darcy", "noise", "walk", "walls", "few", "constant"],
)
def test_circles_are_seen(make, wanted):
    X, y = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant ones
        model = regressor(n_dims="auto" if X.ndim != 3 or X.shape[-1] > 1 else 1).fit(X, y)
        told = regressor(periodic=False, n_dims=model.n_dims).fit(X[:9], y[:9])
    assert model.periodic_ is wanted and model.module_.periodic is wanted
    assert told.periodic_ is False


@pytest.mark.parametrize("first, noise", [(0, 0), (0, 0.05), (0, 0.3), (0.5, 0), (0.5, 0.05)])
def test_noise_makes_no_circles(noise, first):
    """White noise makes the step between walls like its neighbours; a ring is seen beside it."""
    rng = np.random.default_rng(0)
    x = (np.arange(32) + first) / (31 + 2 * first)  # on the walls, or half a cell from them
    waves = rng.normal(size=(100, 6)) / np.arange(1, 7)
    walls = waves @ np.sin(np.pi * np.outer(np.arange(1, 7), x))
    ring, _ = make_burgers(100, size=32, random_state=0)
    for fields, wanted in ((walls, False), (ring, True)):
        if noise < 0.3 or not wanted:  # a ring may be lost in noise
            seen = fields + noise * fields.std() * rng.normal(size=fields.shape)
            assert on_circles(seen[..., None]) is wanted


def test_early_stopping_and_validation_data(darcy):
    X, y = darcy
    model = regressor(early_stopping=True, n_iter_no_change=2, tol=10.0, max_iter=9).fit(X, y)
    assert model.n_iter_ == 3 == len(model.validation_scores_)
    given = regressor().fit(X, y, X_val=X[:9], y_val=y[:9])
    assert_allclose(given.validation_scores_[-1], given.score(X[:9], y[:9]), rtol=1e-4)


def test_partial_fit_goes_on(darcy):
    X, y = darcy
    model = regressor(learning_rate=0.01)
    for _ in range(8):
        model.partial_fit(X, y)
    assert model.n_iter_ == 8 and model.loss_curve_[-1] < model.loss_curve_[0]
    with pytest.raises(ValueError, match="n_basis was 3"):
        model.set_params(n_basis=4).partial_fit(X, y)


def test_pickles_grids_and_seeds(darcy, fitted):
    X, y = darcy
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    state = torch.random.get_rng_state()
    search = GridSearchCV(regressor(), {"width": [4, 8], "n_tokens": [2]}, cv=2).fit(X, y)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.isfinite(search.best_score_)
    assert regressor().fit(X, y).loss_curve_ == regressor().fit(X, y).loss_curve_


@pytest.mark.parametrize(
    "grid, options, wanted",
    [
        ((32, 32), {}, ((4, 4), 3, 8)),
        ((421, 421), {}, ((4, 4), 4, 8)),
        ((6,), {}, ((3,), 1, 8)),
        ((1,), {}, ((1,), 1, 8)),
        ((12, 40), {"width": 12}, ((4, 4), 1, 6)),
        ((32,), {"patch_size": 8}, ((8,), 2, 8)),
    ],
)
def test_what_auto_becomes(grid, options, wanted):
    auto = {"patch_size": "auto", "n_levels": "auto", "width": 16, "n_heads": "auto"}
    assert network_sizes(grid, **auto | options) == wanted


X2, Y2 = smooth(6, 8, 10), smooth(6, 8, 10, seed=1)
X1 = smooth(6, 12)


@pytest.mark.parametrize(
    "options, X, y, message",
    [
        ({}, X2, Y2[:, :, :8], r"y has targets of shape \(8, 8\), but .* grid of \(8, 10\)"),
        ({"n_dims": 1}, X1, X1[:, :7], r"shape \(7,\).*grid of \(12,\)"),
        ({}, X1, np.zeros((6, 7, 2)), r"shape \(7, 2\)"),
        ({}, X2, Y2[:5], "inconsistent numbers of samples"),
        ({"patch_size": 9}, X2, Y2, r"patch_size=9 is larger than the grid of X, \(8, 10\)"),
        ({"patch_size": (4, 4, 4)}, X2, Y2, "one for each of 2 axes"),
        ({"patch_size": [4, 0]}, X2, Y2, "at least 1"),
        ({"width": 6, "n_heads": 4}, X2, Y2, "width=6 and n_heads=4"),
        ({}, X2[:1], Y2[:1], "at least 2 samples in X.*n_samples=1"),
        ({"n_dims": 3}, X2, Y2, r"must have 4 axes, or 5 with channels where n_dims=3"),
        ({}, np.zeros((3, 2, 2, 2, 2, 2)), np.zeros(3), "must have 2 to 5 axes"),
        ({"spatial_shape": (3, 5)}, X1, X1, "rows of 15 numbers, or a multiple"),
        ({"spatial_shape": (3, 0)}, X1, X1, "each at least 1"),
        ({"spatial_shape": (3, 4), "n_dims": 1}, X1, X1, "contradict each other"),
        ({"batch_size": 1, "patch_size": 1}, X1[:, :2], X1[:, :2], "one number a channel"),
        ({"patch_sizes": 1}, X1, X1, "unexpected keyword"),
        ({}, np.where(X2 > 3, np.nan, X2), Y2, "NaN"),
        ({}, X2, np.where(Y2 > 3, np.inf, Y2), "y contains infinity"),
        ({"loss": "l1"}, X2, Y2, "'loss' parameter"),
    ],
)
def test_bad_input(options, X, y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        regressor(**options).fit(X, y)


def test_later_fields_are_like_those_of_fit(fitted, darcy):
    X, y = darcy
    with pytest.raises(ValueError, match="2 dimensions and 2 channels"):
        fitted.predict(np.stack([X, X], axis=-1))
    with pytest.raises(ValueError, match="1 dimensions"):
        fitted.predict(X[:, 0])
    with pytest.raises(ValueError, match="y_val has targets"):
        regressor().fit(X, y, X_val=X, y_val=y.mean(axis=(1, 2)))
    with pytest.raises(ValueError, match="at least 2 samples in X_val"):
        regressor().fit(X, y, X_val=X[:1], y_val=y[:1])
    with pytest.raises(ValueError, match="at least 2 samples"):
        regressor().partial_fit(X, y).partial_fit(X[:1], y[:1])
    with pytest.raises(ValueError, match="given together"):
        regressor().fit(X, y, X_val=X)


def test_rows_that_are_no_field_are_numbers_with_a_warning():
    with pytest.warns(UserWarning, match="y has 5 columns and X 12"):
        model = regressor().fit(X1, X1[:, :5])
    assert model.predict(X1).shape == (6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor().fit(X1, X1[:, 0])
