"""The latent filter: its codes, its slope, its losses, what it cleans, what it refuses."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.neural_network import LatentQuantizationFilter  # noqa: E402
from sklr.neural_network._quantization_networks import (  # noqa: E402
    gradient_norms,
    hard_code,
    lipschitz_bound,
    soft_code,
)

X, Y = load_digits(return_X_y=True)
X, Y = X[:400], Y[:400]
SMALL = {"n_bits": 24, "hidden_layer_sizes": (48,), "max_iter": 25, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    return LatentQuantizationFilter(**SMALL).fit(X)


@pytest.fixture(scope="module")
def one_range():
    return LatentQuantizationFilter(**SMALL, feature_range="auto").fit(X)


def means_of(model, x):
    """Latent means by the networks themselves."""
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    with torch.no_grad():
        x = torch.tensor(2 * (x - low) / (high - low) - 1, dtype=torch.float32)
        return model.encoder_(x).double().numpy()


def test_a_bit_is_one_where_the_mean_is_in_the_band(fitted):
    codes = fitted.encode(X)
    assert codes.dtype == np.uint8 and codes.shape == (400, 24)
    means = means_of(fitted, X)
    sure = np.abs(np.abs(means) - fitted.threshold) > 1e-5
    assert_array_equal(codes[sure] == 1, (np.abs(means) < fitted.threshold)[sure])
    assert sure.mean() > 0.99
    assert_allclose(fitted.bit_usage_, codes.mean(axis=0))


@pytest.mark.parametrize("feature_range", ["auto", "sample"])
def test_transform_is_decode_of_encode_alone_and_in_any_company(feature_range, request):
    fitted = request.getfixturevalue("one_range" if feature_range == "auto" else "fitted")
    filtered, drawn = fitted.transform(X), fitted.decode(fitted.encode(X))
    if feature_range == "sample":
        drawn *= X.max(axis=1, keepdims=True) / 16  # each has a 0
    assert_allclose(filtered, drawn, rtol=1e-12)
    assert_array_equal(filtered, fitted.transform(X))
    assert_allclose(fitted.transform(X[7:9])[0], filtered[7], atol=1e-10)
    assert filtered.min() >= 0 and filtered.max() <= 16
    same = np.flatnonzero(fitted.bit_flips(X, X + 1e-9) == 0)
    assert len(same) > 300
    shift = 1e-9 if feature_range == "sample" else 0.0  # the range moves along
    assert_allclose(fitted.transform(X[same] + 1e-9), filtered[same] + shift, atol=1e-10)


def test_soft_code_becomes_hard_at_the_stated_rate():
    z = torch.linspace(-0.3, 0.3, 201, dtype=torch.float64)
    u = 0.1**2 - z**2
    for softness in (50.0, 500.0, 1e6):
        difference = (soft_code(z, 0.1, softness) - hard_code(z, 0.1)).abs()
        assert bool((difference <= 1 / (1 + softness * u.abs()) + 1e-9).all())
    assert set(hard_code(torch.tensor([0.0, 0.1, -0.1, 0.2]), 0.1).tolist()) == {1.0, -1.0}
    assert hard_code(torch.tensor([0.1]), 0.1).item() == 1.0  # no third symbol


def test_gradient_norms_are_those_of_the_jacobian_and_have_gradients():
    torch.manual_seed(0)
    W = torch.nn.Parameter(torch.randn(5, 4, dtype=torch.float64))
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    norms = gradient_norms(x @ W.T, x, "sum", None)
    torch.testing.assert_close(norms, W.sum(dim=0).norm().expand(3))
    norms.sum().backward()
    assert W.grad is not None and float(W.grad.abs().max()) > 0
    # Random weights: the mean square is the squared Frobenius norm over the number of means.
    x = torch.randn(4000, 4, dtype=torch.float64, requires_grad=True)
    found = gradient_norms(x @ W.T, x, "random", torch.Generator().manual_seed(0)) ** 2
    assert float(found.detach().mean()) == pytest.approx(
        float(W.detach().square().sum()) / 5, rel=0.05
    )
    # Signs that cancel are seen by "random" only.
    with torch.no_grad():
        W[1:] = 0
        W[1] = -W[0]
    assert float(gradient_norms(x @ W.T, x, "sum", None).max().detach()) < 1e-5
    assert float(gradient_norms(x @ W.T, x, "random", None).mean().detach()) > 0.1


def test_hard_errors_do_not_reach_the_encoder():
    """The encoder after a step is the same whatever the hard decoder is."""

    class Other(LatentQuantizationFilter):
        def _begin(self, module, step):
            super()._begin(module, step)
            with torch.no_grad():
                for p in module["decoder"].parameters():
                    p.mul_(3.0)

    model = LatentQuantizationFilter(**SMALL | {"max_iter": 1}).fit(X)
    other = Other(**SMALL | {"max_iter": 1}).fit(X)
    for name in ("trunk", "mean", "log_variance", "soft_decoder"):
        for a, b in zip(model.module_[name].parameters(), other.module_[name].parameters()):
            assert torch.equal(a, b)
    assert model.loss_terms_["hard"] != other.loss_terms_["hard"]


def test_terms_of_the_loss(fitted):
    terms = fitted.loss_terms_
    assert sorted(terms) == ["hard", "kl", "lipschitz", "soft"]
    assert all(len(values) == fitted.n_iter_ == 25 for values in terms.values())
    assert min(terms["kl"]) >= 0
    total = np.array(terms["kl"]) + 10 * np.array(terms["lipschitz"])
    total += 2.5 * (np.array(terms["soft"]) + np.array(terms["hard"]))
    assert_allclose(total, fitted.loss_curve_, rtol=1e-4)
    free = LatentQuantizationFilter(**SMALL, lipschitz_weight=0.0).fit(X)
    assert "lipschitz" not in free.loss_terms_
    assert fitted.gradient_norm_ < free.gradient_norm_


def test_filtered_digits_are_nearer_than_the_mean_digit(fitted):
    mean_digit = ((X - X.mean(axis=0)) ** 2).mean()
    assert -fitted.score(X) < 0.8 * mean_digit
    assert_allclose(
        fitted.reconstruction_error(X[:5]),
        ((fitted.transform(X[:5]) - X[:5]) ** 2).mean(axis=1),
    )


@pytest.mark.parametrize("feature_range", ["auto", "sample"])
@pytest.mark.parametrize("lipschitz", ["spectral", "sum"])
def test_certificate_holds(lipschitz, feature_range):
    """No change of smaller norm flips a bit, along random directions and along the gradient."""
    model = LatentQuantizationFilter(
        **SMALL, lipschitz=lipschitz, lipschitz_target=1.0, feature_range=feature_range
    ).fit(X)
    if lipschitz == "spectral" and feature_range == "sample":
        assert model.lipschitz_bound_ <= 1 + 1e-6
    elif lipschitz == "spectral":
        assert lipschitz_bound(model.module_) <= 1.0 + 1e-6
        assert model.lipschitz_bound_ <= 1 / 8 + 1e-6  # digits go from 0 to 16
        assert model.lipschitz_bound_ > 0.5 / 8
    radii = model.certified_radius(X[:50])
    assert (radii >= 0).all() and radii.max() > 0
    x = torch.tensor(X[:50] / 8 - 1, dtype=torch.float32, requires_grad=True)
    means = model.encoder_(x)
    nearest = (means.abs() - model.threshold).abs().argmin(dim=1)
    picked = means.gather(1, nearest[:, None]).sum()
    (gradient,) = torch.autograd.grad(picked, x)
    rng = np.random.default_rng(0)
    directions = [rng.standard_normal((50, 64)), gradient.numpy(), -gradient.numpy()]
    # The ends of the range, by which a sample is scaled.
    directions += [sign * (X[:50] == X[:50].max(axis=1)[:, None]) for sign in (1, -1)]
    for direction in directions:
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        moved = X[:50] + 0.999 * radii[:, None] * direction / np.maximum(length, 1e-12)
        assert not model.bit_flips(X[:50], moved).any()


def test_unit_and_offset_change_nothing_else(fitted):
    for factor, offset in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1e9), (1 / 255, -3.0)):
        other = clone(fitted).fit(factor * X + offset)
        assert_array_equal(other.encode(factor * X + offset), fitted.encode(X))
        found = (other.transform(factor * X + offset) - offset) / factor
        assert_allclose(found, fitted.transform(X), atol=1e-6)


def test_neither_brightness_nor_contrast_is_seen(fitted):
    codes, filtered = fitted.encode(X), fitted.transform(X)
    rng = np.random.default_rng(0)
    for unit in (1e-6, 1.0, 1e6):
        contrast, brightness = unit * rng.uniform([0.5, -9], [2, 9], (400, 2)).T[..., None]
        assert_array_equal(fitted.encode(contrast * X + brightness), codes)
        found = (fitted.transform(contrast * X + brightness) - brightness) / contrast
        assert_allclose(found, filtered, atol=1e-6)
        other = clone(fitted).fit(contrast * X + brightness)
        assert_array_equal(other.encode(X), codes)
        assert_allclose(other.transform(X), filtered, atol=1e-6)
    assert (filtered >= X.min(axis=1)[:, None]).all()
    assert (filtered <= X.max(axis=1)[:, None]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, -1e30, 0.0])
def test_constant_images_stay(dtype, value):
    images = np.vstack([X[:30] / 16, np.full((2, 64), value)]).astype(dtype)
    model = LatentQuantizationFilter(**SMALL | {"max_iter": 2})
    filtered = model.fit(images).transform(images)
    assert filtered.dtype == dtype
    assert_array_equal(filtered[30:], images[30:])
    images = images.reshape(-1, 1, 8, 8)
    assert_array_equal(clone(model).fit_transform(images)[30:], images[30:])


def test_own_range_is_of_all_channels_and_decode_draws_on_that_of_the_training():
    images = X.reshape(-1, 1, 8, 8) * [[[[1.0]], [[0.5]], [[0.0]]]] + 3.0
    model = LatentQuantizationFilter(**SMALL).fit(images)
    assert (model.data_min_, model.data_max_) == (3, 19)
    filtered = model.transform(images)
    # Channels keep their order of brightness.
    means = filtered.mean(axis=(0, 2, 3))
    assert means[0] > means[1] > means[2] and filtered.min() >= 3
    wide = images.max(axis=(1, 2, 3)) == 19
    assert_allclose(model.decode(model.encode(images))[wide], filtered[wide])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # another unit is no reason for a warning
        model.transform(255 * images)


def test_float32_frames_and_images():
    images = X[:60].reshape(-1, 1, 8, 8).astype(np.float32)
    model = LatentQuantizationFilter(**SMALL | {"max_iter": 2})
    filtered = model.fit_transform(images)
    assert filtered.shape == images.shape and filtered.dtype == np.float32
    table = clone(model).fit(images.reshape(60, 64))
    assert_array_equal(table.encode(images.reshape(60, 64)), model.encode(images))
    assert model.reconstruction_error(images).shape == (60,)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:60]).add_prefix("pixel ")
    out = clone(model).set_output(transform="pandas").fit_transform(frame)
    assert [*out.columns] == [*frame.columns]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (1, 5, 4)])
def test_convolutions_take_images_of_any_sides(shape):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(40, *shape))
    model = LatentQuantizationFilter(4, module="conv", max_iter=1, random_state=0).fit(images)
    assert model.transform(images).shape == images.shape
    assert model.lipschitz_bound_ is None
    with pytest.raises(ValueError, match="certified_radius needs the default encoder"):
        model.certified_radius(images)


def test_convolutions_guess_square_sides_only():
    model = LatentQuantizationFilter(4, module="conv", max_iter=1, random_state=0)
    assert model.fit(X[:20]).transform(X[:20]).shape == (20, 64)
    with pytest.raises(ValueError, match=r"60 features are none \(the next squares are 49 and 64"):
        model.fit(X[:20, :60])


def test_own_networks_are_copied():
    trunk = torch.nn.Linear(64, 10)
    before = trunk.weight.clone()
    model = LatentQuantizationFilter(
        6,
        module=trunk,
        decoder=lambda n_bits: torch.nn.Sequential(torch.nn.Linear(n_bits, 64), torch.nn.Tanh()),
        max_iter=2,
        random_state=0,
    ).fit(X[:60])
    assert torch.equal(trunk.weight, before)
    assert model.transform(X[:60]).shape == (60, 64)
    with pytest.raises(ValueError, match="decoder returns shape .* 2 samples of 64 values"):
        clone(model).set_params(decoder=lambda n_bits: torch.nn.Linear(n_bits, 9)).fit(X[:60])


def test_stochastic_filter_draws_anew(fitted):
    noisy = clone(fitted).set_params(stochastic=True).fit(X)
    assert noisy.encode(X).tolist() != noisy.encode(X).tolist()
    assert noisy.bit_flips(X, X).mean() < 0.5
    # Training is the same.
    for a, b in zip(noisy.module_.parameters(), fitted.module_.parameters(), strict=True):
        assert torch.equal(a, b)


def test_in_a_pipeline_and_a_grid():
    pipeline = make_pipeline(LatentQuantizationFilter(**SMALL), LogisticRegression(max_iter=300))
    grid = {"latentquantizationfilter__n_bits": [4, 32]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X / 16, Y)
    few, many = search.cv_results_["mean_test_score"]
    assert many > few
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert_array_equal(again.predict(X / 16), search.predict(X / 16))


def test_partial_fit_keeps_the_first_range():
    model = LatentQuantizationFilter(**SMALL)
    model.partial_fit(X[:200])
    assert (model.data_min_, model.data_max_) == (0, 16)
    model.partial_fit(X[200:] / 2)
    assert (model.data_min_, model.data_max_) == (0, 16) and model.n_iter_ == 2


def test_range_of_new_samples(one_range):
    wide = X.copy()
    wide[0, 0], wide[0, 20] = 17.0, -1.0  # noise is clipped in silence
    clipped = np.clip(wide, 0, 16)
    assert_array_equal(one_range.encode(wide), one_range.encode(clipped))
    with pytest.warns(UserWarning, match="far outside the range of the training samples, 0 to 16"):
        one_range.transform(255 * X)
    with pytest.warns(UserWarning, match="within a hundredth of the range"):
        one_range.transform(X / 255)


def test_a_filter_with_one_code_is_warned_of():
    blind = torch.nn.Threshold(1e9, 0.0)
    with pytest.warns(UserWarning, match="all 50 samples looked at have one code"):
        LatentQuantizationFilter(4, module=blind, max_iter=1, random_state=0).fit(X[:50])


@pytest.mark.parametrize(
    "parameters, data, message",
    [
        ({"n_bits": 0}, X, "'n_bits' parameter"),
        ({"threshold": 0.0}, X, "'threshold' parameter"),
        ({"lipschitz": "l2"}, X, "'lipschitz' parameter"),
        ({"hidden_layer_sizes": (8, 0)}, X, "hidden_layer_sizes must be integers"),
        (
            {"feature_range": (0, 1)},
            X,
            r"X has values from 0 to 16, outside feature_range=\(0, 1\)",
        ),
        ({"feature_range": "own"}, X, "'feature_range' parameter"),
        ({"feature_range": "sample"}, np.ones((5, 3)) * [[1], [2], [3], [4], [5]], "each sample"),
        ({"feature_range": (1, 0)}, X, "two finite numbers"),
        ({"feature_range": (0, np.nan)}, X, "two finite numbers"),
        ({"feature_range": (0, 1, 2)}, X, "two finite numbers"),
        ({}, np.full((5, 3), 2.0), "all values of X are 2: there is nothing to encode"),
        ({}, np.where(X > 5, np.nan, X), "NaN"),
        ({}, np.zeros((5, 3, 3)), "takes tables .* and images"),
        ({"module": "conv", "lipschitz": "spectral"}, X, "'spectral' needs the default encoder"),
        ({"module": torch.nn.Linear(3, 2)}, X, "module cannot take samples"),
    ],
)
def test_bad_input(parameters, data, message):
    model = LatentQuantizationFilter(**SMALL | parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(data)
    assert not [name for name in vars(model) if name.endswith("_")]


def test_bad_codes_and_shapes(fitted):
    with pytest.raises(ValueError, match="24 columns of 0 and 1, got shape"):
        fitted.decode(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="values from 0 to 2"):
        fitted.decode(np.full((2, 24), 2.0) * np.eye(24)[:2])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.bit_flips(X[:3], X[:2])
    images = clone(fitted).set_params(max_iter=1).fit(X[:20].reshape(-1, 1, 8, 8))
    with pytest.raises(ValueError, match="samples of shape"):
        images.transform(X[:20].reshape(-1, 1, 4, 16))
