"""Generators of data on low-dimensional sets: what must hold, closed forms, wrong input."""

import math
import warnings

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr._torch._modules import mlp  # noqa: E402
from sklr.metrics import wasserstein_distance_nd  # noqa: E402
from sklr.neural_network import PerturbedGenerativeModel  # noqa: E402
from sklr.neural_network._singular_law import (  # noqa: E402
    draw_latents,
    fit_law,
    has_law,
    law_log_density,
)
from sklr.neural_network._singular_likelihood import (  # noqa: E402
    Cells,
    best_sigma,
    importance_bound,
    log_density,
    quadrature_loss,
)
from sklr.neural_network._singular_noise import LEVELS, levels, rate, split  # noqa: E402
from sklr.neural_network._singular_start import path, ribbon, sheet, shortest_path  # noqa: E402

SMALL = {"n_quadrature": 40, "hidden_layer_sizes": (16,), "max_iter": 200, "random_state": 0}


def arc(n=80, seed=0):
    angle = np.random.default_rng(seed).uniform(0, 3, n)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def model(n_components=1, **options):
    return PerturbedGenerativeModel(n_components, **SMALL | options)


@pytest.fixture(scope="module")
def fitted():
    return model(noise_scale=0.05, learning_rate=0.01, max_iter=300).fit(arc())


def networks(n_components, n_features, n_cells=1, sigma=0.5, encoder=False):
    torch.manual_seed(0)
    noise = torch.nn.Parameter(torch.tensor(math.log(sigma)))
    equal = torch.nn.Parameter(torch.full((n_cells,), -math.log(n_cells)), requires_grad=False)
    parts = {
        "generator": mlp(n_components, [8], n_features, activation=torch.nn.Tanh),
        "noise": torch.nn.ParameterDict({"log_sigma": noise, "log_weights": equal}),
    }
    if encoder:
        parts["encoder"] = mlp(n_features, [8], 2 * n_components)
    return torch.nn.ModuleDict(parts).double()


# Likelihoods.


@pytest.mark.parametrize("n_components", [1, 2])
def test_gradient_of_the_sums_is_that_of_the_likelihood(n_components):
    cells = Cells(n_components, 9)
    module = networks(n_components, 3, cells.number)
    x = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = quadrature_loss(module, x, cells)
    loss.backward()
    trained = [p for p in module.parameters() if p.requires_grad]
    found = [p.grad.clone() for p in trained]
    module.zero_grad()
    plain = -log_density(x, module, cells).mean()
    plain.backward()
    assert_allclose(float(loss.detach()), float(plain.detach()), rtol=1e-12)
    for gradient, p in zip(found, trained, strict=True):
        torch.testing.assert_close(gradient, p.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_components", [1, 2])
def test_quadrature_is_the_integral_over_the_latents(n_components):
    """Against draws of the latents, without the cells' slopes."""
    cells = Cells(n_components, 30)
    module = networks(n_components, 2, cells.number)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = torch.tensor(cells.draw(np.random.default_rng(0), 200_000, np.ones(cells.number)))
    with torch.no_grad():
        squares = torch.cdist(x, module["generator"](z)).square()
        variance = float((2 * module["noise"]["log_sigma"]).exp())
        wanted = (-squares / (2 * variance)).exp().mean(1) / (2 * math.pi * variance)
        found = log_density(x, module, cells).exp()
    torch.testing.assert_close(found, wanted, rtol=0.01, atol=0)


def test_importance_bound_rises_to_the_density():
    """Of a linear generator the density is normal; one sample gives less than many."""
    module = networks(2, 3, encoder=True)
    module["generator"] = torch.nn.Linear(2, 3).double()
    for p in module["encoder"].parameters():
        torch.nn.init.zeros_(p)  # it proposes the prior
    x = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(20_000, 1, 2, dtype=torch.float64, generator=torch.Generator())
    W, b = module["generator"].weight.detach(), module["generator"].bias.detach()
    exact = torch.distributions.MultivariateNormal(b, W @ W.T + 0.25 * torch.eye(3))
    with torch.no_grad():
        one, five = (
            importance_bound(module, x, noise[: 400 * k].reshape(k, 400, 1, 2)[:, :, 0][:, :60])
            for k in (1, 5)
        )
        many = importance_bound(module, x, noise)
    assert one.mean() < five.mean() < many.mean() + 0.01
    off = many - exact.log_prob(x)  # of 20,000 draws, few of which are near a far sample
    assert off.abs().max() < 0.25 and abs(off.mean()) < 0.03


def test_density_integrates_to_one(fitted):
    line = np.linspace(-2.5, 2.5, 150)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    mass = np.exp(fitted.score_samples(grid)).sum() * (line[1] - line[0]) ** 2
    assert_allclose(mass, 1, rtol=0.01)


# What the paper's model promises.


def test_likelihood_has_no_bound_on_a_line_without_noise():
    """Sigma falls to what is allowed; each halving adds (D - d) log 2 to a sample's density."""
    line = np.linspace(-1, 1, 40)[:, None] * [1.0, 2.0, 3.0]
    fits = [
        model(
            noise_scale=0, sigma_min=least, hidden_layer_sizes=(), learning_rate=0.02, max_iter=400
        ).fit(line)
        for least in (0.02, 0.01)
    ]
    for fit, least in zip(fits, (0.02, 0.01), strict=True):
        assert_allclose(fit.sigma_ / fit.scale_, least, rtol=1e-6)
    gain = fits[1].score(line) - fits[0].score(line)
    assert_allclose(gain, 2 * math.log(2), rtol=0.1)


def test_sigma_is_what_was_added_and_samples_are_on_the_set(fitted):
    assert_allclose(fitted.sigma_, 0.05, rtol=0.2)
    assert fitted.sigma_ > (1 - 1e-6) * fitted.noise_scale_  # never less than what was added
    off = [np.abs(np.linalg.norm(fitted.sample(500, noise=n), axis=1) - 1) for n in (False, True)]
    assert off[0].mean() < 0.5 * off[1].mean()
    drawn = wasserstein_distance_nd(fitted.sample(300), arc(300, seed=1))
    assert drawn < 0.2


def test_denoising_brings_samples_back_to_the_set(fitted):
    clean = arc(60, seed=1)
    noisy = clean + 0.1 * np.random.default_rng(2).standard_normal(clean.shape)
    found = fitted.denoise(noisy)
    assert np.square(found - clean).mean() < 0.7 * np.square(noisy - clean).mean()
    assert_array_equal(found, fitted.inverse_transform(fitted.transform(noisy)))
    order = fitted.transform(arc())[:, 0]
    angle = np.arctan2(*arc().T[::-1])
    assert abs(np.corrcoef(order.argsort().argsort(), angle.argsort().argsort())[0, 1]) > 0.95


def test_a_linear_generator_is_probabilistic_pca():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5)) * [3.0, 2.0, 0.4, 0.4, 0.4]
    options = {"noise_scale": 0, "likelihood": "iwae", "hidden_layer_sizes": ()}
    fit = model(2, **options, learning_rate=0.1, max_iter=800, batch_size=300).fit(X)
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    assert_allclose(fit.sigma_**2, values[:3].mean(), rtol=0.02)
    W = fit.inverse_transform(np.eye(2)) - fit.inverse_transform(np.zeros((2, 2)))
    cosines = np.linalg.svd(np.linalg.qr(W.T)[0].T @ vectors[:, 3:])[1]
    assert cosines.min() > 0.98


def test_equivariance_to_units_and_offsets():
    X = arc(60)
    fit = model(noise_scale=0.05, max_iter=80).fit(X)
    for factor, offset in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1e3)):
        other = model(noise_scale=0.05 * factor, max_iter=80).fit(factor * X + offset)
        assert_allclose(other.sigma_, factor * fit.sigma_, rtol=1e-4)
        assert_allclose((other.sample(20) - offset) / factor, fit.sample(20), atol=1e-4)
        shift = other.score_samples(factor * X + offset) - fit.score_samples(X)
        assert_allclose(shift, -2 * math.log(factor), atol=1e-3)


def test_rotations_keep_what_is_learnt():
    X, turn = arc(60), np.array([[0.6, -0.8], [0.8, 0.6]])
    scores = [model(noise_scale=0.05).fit(data).score(data) for data in (X, X @ turn.T)]
    assert_allclose(scores[1], scores[0], atol=0.3)


# Sets that are not one simple curve, and what a mixture does better.


def circles(n, seed=0):
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, n), np.where(rng.random(n) < 0.5, 1, 0.5)
    X = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return X + 0.03 * rng.standard_normal(X.shape)


# Seeds with a margin: on others 150 steps are few, and rounding decides.
@pytest.mark.parametrize("n_components, n_cells, seed", [(1, 100, 0), (2, 225, 1)])
def test_two_circles_within_each_other_are_found(n_components, n_cells, seed):
    options = {"n_quadrature": n_cells, "hidden_layer_sizes": (32, 32), "max_iter": 150}
    fit = model(n_components, noise_scale="rate", learning_rate=5e-3, **options)
    fit.fit(circles(200, seed))
    assert fit.sigma_ < 0.15  # not what lies between them
    radius = np.linalg.norm(fit.sample(2000), axis=1)
    near = np.minimum(np.abs(radius - 1), np.abs(radius - 0.5)) < 0.15
    assert near.mean() > 0.8
    assert 0.3 < (radius > 0.75).mean() < 0.7


def test_the_shortest_path_visits_neighbours():
    rng = np.random.default_rng(0)
    line = np.arange(30.0)[:, None] * [1.0, 2.0]
    order = rng.permutation(30)
    steps = np.diff(order[shortest_path(line[order])])
    assert abs(steps.sum()) == 29 and (np.abs(steps) == 1).all()
    two = np.r_[line, line + [1000, 0]]
    assert np.sum(np.abs(np.diff(two[shortest_path(two)][:, 0])) > 500) == 1
    assert_array_equal(shortest_path(np.ones((4, 2))).tolist(), [0, 1, 2, 3])


def test_starts_lie_on_the_samples():
    rng = np.random.RandomState(0)  # noqa: NPY002
    line = np.linspace(-1.9, 1.9, 20)
    found = path(arc(200), line, rng)
    assert found.shape == (20, 2)
    assert_allclose(np.linalg.norm(found, axis=1), 1, atol=0.05)
    flat = np.random.default_rng(0).uniform(-1, 1, (300, 3)) * [1, 2, 0]
    for shape in (ribbon, sheet):
        points = shape(flat, line, rng)
        assert points.shape == (400, 3)
        assert_allclose(points[:, 2], 0, atol=1e-9)
        assert np.abs(points[:, :2]).max() < 2.5
    assert np.ptp(sheet(flat, line, rng)[:, 1]) > 2


def test_sigma_is_that_of_samples_not_seen():
    """Two latents go through few samples of a heap; their own distance to it is no noise."""
    rng = np.random.default_rng(0)
    X, fresh = (rng.standard_normal((n, 5)) * [1, 1, 0.5, 0.5, 0.5] for n in (60, 400))
    fit = model(2, noise_scale=0.05, hidden_layer_sizes=(32, 32), max_iter=300).fit(X)
    found = fit.score(fresh)
    assert fit.sigma_ > 5 * fit.noise_scale_
    assert fit.held_out_ == {}  # too few to compare
    sigma = fit.module_["noise"]["log_sigma"]
    for factor in (0.5, 2.0):
        with torch.no_grad():
            sigma += math.log(factor)
        assert fit.score(fresh) < found - 0.3
        with torch.no_grad():
            sigma -= math.log(factor)


def test_sigma_of_few_samples_is_within_the_scale():
    X = np.random.default_rng(0).standard_normal((19, 8))
    fit = model(1, max_iter=300, noise_scale=0.05).fit(X)
    assert 0.6 < fit.sigma_ / fit.scale_ < 1 + 1e-6  # no curve is there


@pytest.mark.parametrize("wanted", [0.01, 0.123, 0.9])
def test_the_best_sigma_is_found(wanted):
    def density(logarithm):
        return -3 * logarithm - 1.5 * (wanted / math.exp(logarithm)) ** 2

    assert_allclose(best_sigma(density, 1e-3), wanted, rtol=0.02)
    assert best_sigma(density, 2 * wanted) == pytest.approx(2 * wanted)


@pytest.mark.parametrize("n, times, n_held, n_seen", [(30, 3, 8, 22), (12, 2, 3, 9)])
def test_copies_of_what_is_set_aside_are_not_seen(n, times, n_held, n_seen):
    class Looking(PerturbedGenerativeModel):
        def _compare(self, module, step):
            self.parts = [set(self._repeats[step.memory[part]]) for part in ("rows", "held")]
            super()._compare(module, step)

    options = SMALL | {"max_iter": 300, "n_quadrature": 10, "noise_scale": 0.05}
    fit = Looking(1, **options).fit(np.repeat(arc(n), times, axis=0))
    rows, held = fit.parts
    assert len(held) == n_held and len(rows) == n_seen and not rows & held
    # What many samples are is on both sides, and copies of others are not.
    many = np.r_[np.repeat(arc(n), times, axis=0), np.zeros((n * times, 2))]
    rows, held = Looking(1, **options).fit(many).parts
    assert len(rows & held) == 1


def test_a_mixture_that_is_ahead_is_named():
    rng = np.random.default_rng(0)
    line = np.column_stack([rng.uniform(-1, 1, 100), np.zeros(100)])
    X = rng.permutation(np.r_[line, 0.6 * rng.standard_normal((100, 2)) + [3, 0]])
    with pytest.warns(UserWarning, match="samples not seen is .* GaussianMixture.* more"):
        fit = model(noise_scale=0.03, max_iter=300).fit(X)
    assert fit.held_out_["mixture"] > fit.held_out_["model"] + 0.1
    larger = fit.held_out_["model"] - math.log(100**2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaled = model(noise_scale=3.0, max_iter=300).fit(100 * X)
    assert_allclose(scaled.held_out_["model"], larger, atol=0.05)


def test_a_good_fit_is_compared_in_silence(fitted):
    assert set(fitted.held_out_) == {"model", "mixture"}
    assert fitted.held_out_["model"] > fitted.held_out_["mixture"] - 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = model(noise_scale=0.05, max_iter=300).fit(arc(79))
        short = model(noise_scale=0.05, max_iter=299).fit(arc())
    assert few.held_out_ == short.held_out_ == {}
    assert len(fitted.loss_curve_) == fitted.n_iter_ == 300


def test_variance_that_latents_leave_out_is_named():
    X = np.random.default_rng(0).standard_normal((100, 6)) * [3, 1, 1, 1, 1, 1]
    with (
        pytest.warns(UserWarning, match=r"% of the variance is off the set of 1 dimensions"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "the mean log-density")
        model(noise_scale=0, max_iter=300).fit(X)


# Options.


def test_mass_along_the_curve_follows_the_data():
    """Uniform latents learn it by the generator's slope only, which a few steps do not."""
    angle = np.r_[np.random.default_rng(0).uniform(0, 3, 90), np.full(210, 2.9)]
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    left = {}
    for law in ("uniform", "fitted"):
        fit = model(noise_scale=0.05, latent_law=law, learning_rate=0.01, max_iter=100).fit(X)
        left[law] = (fit.sample(2000)[:, 0] < -0.85).mean()
        weights = fit.module_["noise"]["log_weights"].exp().numpy()
        assert_allclose(weights.sum(), 1, rtol=1e-6)
        assert (np.ptp(weights) < 1e-9) == (law == "uniform")
    wanted = (X[:, 0] < -0.85).mean()
    assert abs(left["fitted"] - wanted) < 0.08
    assert abs(left["fitted"] - wanted) <= abs(left["uniform"] - wanted)


def test_weights_of_latents_are_smooth_and_keep_equal_ones_equal():
    for d, side in ((1, 200), (2, 25)):
        cells = Cells(d, side)
        kernel = cells.smoothing(300, torch.zeros(1, dtype=torch.float64)).numpy()
        assert_allclose(kernel.sum(0), 1)  # nothing is lost
        assert_allclose(kernel.sum(1), 1, atol=1e-6)
    fit = model(noise_scale=0.01, n_quadrature=200, max_iter=100).fit(arc(40))
    weights = fit.module_["noise"]["log_weights"].exp().numpy()
    assert np.abs(np.diff(weights)).max() < 0.15 * weights.max()  # no peak at each sample


def test_the_law_of_the_encoder_is_fitted_where_latents_leave_gaps():
    """A ring in three latents fills little of their normal law; what is drawn stays on it."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 150)
    X = np.column_stack([np.cos(angle), np.sin(angle), np.zeros((150, 2))])
    options = {"noise_scale": 0.05, "max_iter": 300, "learning_rate": 0.01, "batch_size": 75}
    options |= {"hidden_layer_sizes": (32, 32), "n_importance": 2}
    off = {}
    for law in ("fitted", "uniform"):
        fit = model(3, latent_law=law, **options).fit(X)
        drawn = fit.sample(1000)
        off[law] = np.abs(np.linalg.norm(drawn[:, :2], axis=1) - 1).mean()
        assert has_law(fit.module_) == (law == "fitted")
    assert off["fitted"] < 0.5 * off["uniform"]
    assert_allclose(fit.score_samples(X[3:5]), fit.score_samples(X)[3:5], rtol=1e-12)


def test_the_density_of_the_law_is_that_of_its_draws():
    module = networks(2, 3, encoder=True)
    rng = np.random.default_rng(0)
    assert not has_law(module)
    Z = rng.standard_normal((400, 2)) * [1, 0.2] + np.where(rng.random((400, 1)) < 0.3, 4, 0)
    fit_law(module, Z, 0)
    z = torch.tensor(draw_latents(module, rng, 20_000, 2))
    line = torch.linspace(-6, 9, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    density = law_log_density(module, grid).exp() * 0.05**2
    assert_allclose(float(density.sum()), 1, rtol=1e-3)
    assert_allclose(z.mean(0), (density[:, None] * grid).sum(0), atol=0.06)
    assert_allclose(z.std(0), Z.std(0), rtol=0.05)


def test_outliers_that_make_the_scale_are_warned_of():
    with (
        pytest.warns(UserWarning, match="the small ones count for nothing"),
        pytest.warns(UserWarning, match="a few outliers .row 80 is"),
    ):
        model(noise_scale="rate", max_iter=3).fit(np.r_[arc(), [[1e3, 0.0]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(noise_scale=0, max_iter=3).fit(np.r_[arc(), [[2.0, 2.0]]])
        model(noise_scale=0, max_iter=3).fit(np.r_[np.zeros((40, 2)), arc(30)])
        model(noise_scale=0, max_iter=3).fit(np.r_[0.1 * arc(50), arc(30) + [2, 0]])
    X = np.r_[arc(), [[0.5, 1e3]]] * [1.0, 1e-3]
    X = np.column_stack([np.full(81, 0.1), X])
    with pytest.warns(UserWarning, match=r"of feature 2, .* a few outliers .row 80 is"):
        model(noise_scale=0, max_iter=3, standardize=True).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(noise_scale=0, max_iter=3, standardize=True).fit(X[:-1])


def test_auto_compares_generated_samples_with_samples_set_aside():
    X = arc(40)
    fit = model(noise_scale="auto", max_iter=30).fit(X)
    wanted = [level * fit.scale_ for level in levels(40, 1)]
    assert_allclose(list(fit.noise_path_), wanted)
    assert fit.noise_scale_ == min(fit.noise_path_, key=fit.noise_path_.get)
    direct = model(noise_scale=fit.noise_scale_, max_iter=30).fit(X)
    assert_array_equal(direct.sample(5), fit.sample(5))
    with joblib.parallel_config("threading"):
        again = model(noise_scale="auto", max_iter=30, n_jobs=2).fit(X)
    assert again.noise_path_ == fit.noise_path_


def test_rate_falls_with_samples_and_few_samples_take_it():
    assert rate(10_000, 1) < rate(100, 1) < rate(100, 3)
    assert_allclose(rate(200, 1), 0.25 * 200 ** (-2 / (2 * 3)))
    assert levels(200, 1)[0] == 0 and rate(200, 1) in levels(200, 1)
    assert len(levels(5, 8)) == len(LEVELS)
    fit = model(noise_scale="auto", max_iter=3).fit(arc(15))
    assert fit.noise_path_ == {}
    assert_allclose(fit.noise_scale_, fit.scale_ * rate(15, 1))


def test_split_leaves_two_on_either_side():
    rng = np.random.RandomState(0)  # noqa: NPY002
    for n, fraction, held in ((20, 0.1, 2), (20, 1e-3, 2), (20, 0.999, 18), (200, 0.1, 20)):
        kept, aside = split(n, fraction, rng)
        assert len(aside) == held
        assert_array_equal(np.sort(np.r_[kept, aside]), np.arange(n))


def test_features_of_unlike_units():
    X = np.column_stack([arc()[:, 0], 1e6 * arc()[:, 1]])
    with pytest.warns(UserWarning, match="set standardize=True"):
        model(noise_scale=0, max_iter=3).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = model(noise_scale=0.05, standardize=True).fit(X)
    plain = model(noise_scale=0.05, standardize=True).fit(X / [1, 1e6])
    assert_allclose(scaled.sample(9) / [1, 1e6], plain.sample(9), atol=1e-4)
    assert_allclose(scaled.score(X), plain.score(X / [1, 1e6]) - math.log(1e6), atol=1e-3)
    assert scaled.sample(50, noise=True)[:, 1].std() > 1e5


def test_more_latents_take_the_bound():
    X = np.random.default_rng(0).standard_normal((60, 4))
    fit = model(3, noise_scale=0.1, max_iter=20, batch_size=25).fit(X)
    assert fit.likelihood_ == "iwae" and fit.encoder_ is not None
    assert_allclose(fit.score_samples(X[3:5]), fit.score_samples(X)[3:5], rtol=1e-12)
    assert fit.transform(X).shape == (60, 3) and fit.sample(4).shape == (4, 4)
    assert model(max_iter=2, noise_scale=0).fit(X).encoder_ is None
    assert len(fit.loss_curve_) == fit.n_iter_ == 20


def test_noise_anew_in_each_step_and_batches():
    fits = [
        model(noise_scale=0.3, max_iter=150, resample_noise=anew, batch_size=30).fit(arc())
        for anew in (False, True)
    ]
    assert fits[0].sigma_ != fits[1].sigma_
    assert fits[1].sigma_ > 0.15


def test_samples_follow_the_seed(fitted):
    assert_array_equal(fitted.sample(5), fitted.sample(5))
    assert (fitted.sample(5, random_state=1) != fitted.sample(5, random_state=2)).any()
    assert_array_equal(fitted.generator_(torch.zeros(1, 1).double()).shape, (1, 2))


def test_an_encoder_takes_more_steps():
    for likelihood, steps in (("quadrature", 600), ("iwae", 1200)):
        fit = model(max_iter="auto", likelihood=likelihood)
        fit._check_sizes(30, 2)
        assert sum(stage.n_epochs for stage in fit._stages()) == steps
    with pytest.raises(ValueError, match="'max_iter' parameter"):
        model(max_iter="all").fit(arc())


# Wrong input.


@pytest.mark.parametrize(
    "options, X, message",
    [
        ({"n_components": 3}, arc(), "n_components=3 exceeds n_features=2"),
        ({"n_components": 3, "likelihood": "quadrature"}, np.eye(12), "use 'iwae'"),
        ({}, np.ones((30, 2)), "all 30 samples are equal"),
        ({}, 1e9 + 1e-8 * arc(), "all 80 samples are equal"),
        ({}, arc(1), "n_samples=1"),
        ({}, np.r_[arc(), [[np.nan, 0]]], "X contains NaN"),
        ({}, np.r_[arc(), [[np.inf, 0]]], "infinity"),
        ({}, 1e300 * np.array([[1e8, 0], [-1e8, 0]] * 9), "too far apart"),
        ({"noise_scale": -0.1}, arc(), "'noise_scale' parameter"),
        ({"noise_scale": "best"}, arc(), "'noise_scale' parameter"),
        ({"sigma_min": 0.0}, arc(), "'sigma_min' parameter"),
        ({"likelihood": "exact"}, arc(), "'likelihood' parameter"),
        ({"hidden_layer_sizes": (0,)}, arc(), "hidden_layer_sizes must be integers"),
    ],
)
def test_wrong_input_is_named(options, X, message):
    with pytest.raises(ValueError, match=message):
        model(**{"noise_scale": 0.1, "max_iter": 2} | options).fit(X)


def test_few_samples_are_warned_of():
    with pytest.warns(UserWarning, match="n_samples=5 is very little"):
        model(noise_scale=0.1, max_iter=2).fit(arc(5))


def test_wrong_requests_are_named(fitted):
    for n in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="n_samples must be an integer of at least 1"):
            fitted.sample(n)
    with pytest.raises(ValueError, match="Z has 2 columns, and n_components is 1"):
        fitted.inverse_transform(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="3 features"):
        fitted.score_samples(np.zeros((3, 3)))


def test_odd_but_lawful_data():
    for X in (
        np.repeat(arc(12), 4, axis=0),
        arc().astype(np.float32),
        np.column_stack([arc(), np.full(80, 7.0)]),
        np.r_[arc(), [[1e3, 0.0]]],
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = model(noise_scale="rate", max_iter=20).fit(X)
        assert np.isfinite(fit.score_samples(X)).all() and np.isfinite(fit.sample(9)).all()
