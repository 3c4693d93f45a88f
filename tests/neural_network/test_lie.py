"""The group classifier: invariance to the end, units, layouts, what it refuses."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.geometry import polar_log, sample_group  # noqa: E402
from sklr.neural_network import LieGroupConvClassifier  # noqa: E402
from sklr.nn import RandomAffine2d  # noqa: E402
from sklr.nn._lie._views import GroupViews  # noqa: E402

X, Y = load_digits(n_class=4, return_X_y=True)
X = X.reshape(-1, 8, 8)
TRAIN, TEST = slice(0, 300), slice(300, 500)
SMALL = {
    "n_channels": 4,
    "max_angle": 180.0,
    "augment": None,
    "max_iter": 6,
    "batch_size": 64,
    "random_state": 0,
}
QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])


@pytest.fixture(scope="module")
def fitted():
    return LieGroupConvClassifier("gl2", **SMALL).fit(X[TRAIN], Y[TRAIN])


def test_quarter_turns_change_nothing(fitted):
    turned = np.rot90(X[TEST], axes=(1, 2))
    wanted = fitted.decision_function(X[TEST])
    assert_allclose(fitted.decision_function(turned), wanted, atol=1e-4)  # of float32
    exact = clone(fitted).set_params(dtype="float64", max_iter=1).fit(X[TRAIN], Y[TRAIN])
    wanted = exact.decision_function(X[TEST])
    assert_allclose(exact.decision_function(turned), wanted, atol=1e-10)
    assert exact.equivariance_error(X[TEST], QUARTER).max() < 1e-10
    assert exact.equivariance_error(X[TEST], np.eye(2)).max() == 0
    assert np.median(exact.equivariance_error(X[TEST], [[1.0, 0.5], [0.0, 1.0]])) > 0.05


def test_it_learns_upright_digits_and_reads_turned_ones(fitted):
    assert fitted.score(X[TEST], Y[TEST]) > 0.8
    assert fitted.score(np.rot90(X[TEST], 2, axes=(1, 2)), Y[TEST]) > 0.8


def test_features_are_invariant_and_scaled(fitted):
    features = fitted.invariant_features(X[TRAIN])
    assert features.shape == (300, 4 * 2**2)
    assert np.abs(features.mean(axis=0)).mean() < 1
    assert 0.3 < features.std() < 3


def test_augment_sees_images_on_a_dark_ground():
    seen = []

    def remember(images, generator):
        seen.append((tuple(images.shape), float(images.median()), generator))
        return images

    options = {**SMALL, "max_iter": 1, "batch_size": 64}
    plain = LieGroupConvClassifier(**options).fit(X[:128], Y[:128])
    twin = LieGroupConvClassifier(**{**options, "augment": remember}).fit(X[:128] + 7, Y[:128])
    assert [shape for shape, _, _ in seen] == [(64, 1, 8, 8)] * 2
    assert abs(seen[0][1]) < 1 and isinstance(seen[0][2], torch.Generator)
    found = twin.predict_proba(X[128:160] + 7)  # which is not augmented
    assert len(seen) == 2
    assert_allclose(found, plain.predict_proba(X[128:160]), atol=1e-4)
    views = RandomAffine2d(30)
    fits = [clone(twin).set_params(augment=views).fit(X[:128], Y[:128]) for _ in range(2)]
    first, again = (fit.predict_proba(X[128:160]) for fit in fits)
    assert_array_equal(first, again)
    assert np.abs(first - found).max() > 1e-4
    for augment, error, message in (
        (lambda x, _: x[:1], ValueError, "keep the number of samples"),
        (lambda x, _: x[..., :4], ValueError, r"shape of images, \(64, 1, 8, 8\)"),
        (lambda x, _: x.numpy(), TypeError, "must return a tensor, got ndarray"),
    ):
        with pytest.raises(error, match=message):
            clone(twin).set_params(augment=augment).fit(X[:128], Y[:128])


def test_augment_by_the_group_draws_its_maps():
    """Bright spots of an image show which map it was moved by."""
    n, side, spread = 400, 41, 0.2
    images = torch.zeros(n, 2, side, side)
    images[:, 0, 20, 30] = images[:, 1, 30, 20] = 1
    for group, max_angle in (("so2", 30.0), ("sl2", 0.0), ("gl2", 180.0)):
        views = GroupViews(group, spread, max_angle, 0.0)
        drawn = views(images, torch.Generator().manual_seed(0)).double()
        ticks = torch.arange(side, dtype=torch.float64) - 20
        mass = drawn.sum(dim=(2, 3))
        at = torch.stack([drawn.sum(dim=2) @ ticks, drawn.sum(dim=3) @ ticks], 1) / mass[:, None]
        H = at.numpy() / 10
        A, angle = polar_log(H)
        assert np.abs(angle).max() < np.deg2rad(max_angle) + 0.1
        assert_allclose(np.abs(angle).mean(), np.deg2rad(max_angle) / 2, atol=0.1)
        stretch = np.linalg.norm(A, axis=(1, 2))
        size = {"so2": 0, "sl2": 2, "gl2": 3}[group] ** 0.5
        assert_allclose(np.sqrt((stretch**2).mean()), spread * size, atol=0.05)
        if group != "gl2":
            assert_allclose(np.linalg.det(H).mean(), 1, atol=0.05)


def test_augment_by_the_group_is_the_default():
    options = {**SMALL, "max_iter": 1}
    del options["augment"]
    model = LieGroupConvClassifier(**options).fit(X[:128], Y[:128])
    again = clone(model).fit(X[:128], Y[:128])
    wanted = model.predict_proba(X[128:160])
    assert_array_equal(again.predict_proba(X[128:160]), wanted)
    without = clone(model).set_params(augment=None).fit(X[:128], Y[:128])
    assert np.abs(without.predict_proba(X[128:160]) - wanted).max() > 1e-4


def test_attributes(fitted):
    assert fitted.group_samples_.shape == (4, 2, 2)
    assert fitted.n_features_in_ == 8
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 6
    assert fitted.background_.shape == fitted.scale_.shape == (1,)
    angles = np.rad2deg(polar_log(fitted.group_samples_)[1])
    assert_allclose(np.diff(np.sort(angles)), 90)


def test_other_maps_at_prediction(fitted):
    """The weights do not depend on the number of maps."""
    other = clone(fitted).fit(X[TRAIN], Y[TRAIN])
    other.module_.set_elements(sample_group("gl2", 12, random_state=5))
    found = other.predict_proba(X[TEST])
    assert found.shape == (200, 4) and np.isfinite(found).all()
    assert np.abs(found - fitted.predict_proba(X[TEST])).max() > 1e-6


@pytest.mark.parametrize("scale, shift", [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e6), (-3.0, 7.0)])
def test_units_of_grey_values_do_not_matter(scale, shift):
    few = {**SMALL, "max_iter": 1, "dtype": "float64"}
    plain = LieGroupConvClassifier(**few).fit(X[:60], Y[:60])
    moved = LieGroupConvClassifier(**few).fit(scale * X[:60] + shift, Y[:60])
    if scale > 0:
        found = moved.predict_proba(scale * X[60:90] + shift)
        assert_allclose(found, plain.predict_proba(X[60:90]), atol=1e-5)
    assert_allclose(moved.background_, scale * plain.background_ + shift)
    assert_allclose(moved.scale_, abs(scale) * plain.scale_, rtol=1e-6)


def test_layouts_agree():
    few = {**SMALL, "max_iter": 1}
    stack = LieGroupConvClassifier(**few).fit(X[:60], Y[:60])
    rows = LieGroupConvClassifier(**few).fit(X[:60].reshape(60, 64), Y[:60])
    channels = LieGroupConvClassifier(**few).fit(X[:60, None], Y[:60])
    wanted = stack.decision_function(X[60:70])
    assert_array_equal(rows.decision_function(X[60:70].reshape(10, 64)), wanted)
    assert_array_equal(channels.decision_function(X[60:70, None]), wanted)
    wide = LieGroupConvClassifier(**few).fit(X[:60, :, :6], Y[:60])
    table = LieGroupConvClassifier(image_shape=(8, 6), **few)
    table.fit(X[:60, :, :6].reshape(60, 48), Y[:60])
    assert_array_equal(
        table.predict_proba(X[60:70, :, :6].reshape(10, 48)), wide.predict_proba(X[60:70, :, :6])
    )


def test_channels_have_their_own_scale():
    color = np.stack([X, 1e5 + 1e3 * X[:, ::-1], np.full_like(X, 7.0)], axis=1)
    model = LieGroupConvClassifier(**{**SMALL, "max_iter": 1}).fit(color[:60], Y[:60])
    assert model.n_features_in_ == 3
    assert_allclose(model.scale_[1], 1e3 * model.scale_[0], rtol=1e-9)
    assert model.scale_[2] == 1 and model.background_[2] == 7
    assert np.isfinite(model.decision_function(color[60:70])).all()


def test_constant_images_among_others_and_a_class_of_one():
    some, labels = X[:40].copy(), Y[:40].copy()
    some[:3], labels[5] = 0, 9
    model = LieGroupConvClassifier(**{**SMALL, "max_iter": 1}).fit(some, labels)
    found = model.predict_proba(np.stack([np.zeros((8, 8)), np.full((8, 8), 16.0)]))
    assert found.shape[1] == 5 and np.isfinite(found).all()


def test_partial_fit_keeps_scale_and_maps():
    model = LieGroupConvClassifier(**SMALL).partial_fit(X[:60], Y[:60], classes=[0, 1, 2, 3])
    maps, scale = model.group_samples_, model.scale_
    model.partial_fit(5 * X[60:120], Y[60:120])
    assert model.group_samples_ is maps and model.scale_ is scale and model.n_iter_ == 2
    with pytest.raises(ValueError, match="group was 'gl2' when the network was made"):
        model.set_params(group="so2").partial_fit(X[:60], Y[:60])


@pytest.mark.parametrize("shape", [(2, 2), (1, 5), (3, 17), (16, 16), (5, 5)])
def test_images_of_any_size(shape):
    rng = np.random.default_rng(0)
    some = rng.standard_normal((12, *shape))
    model = LieGroupConvClassifier(**{**SMALL, "max_iter": 1}).fit(some, np.arange(12) % 2)
    assert np.isfinite(model.decision_function(some)).all()


@pytest.mark.parametrize(
    "data, options, message",
    [
        (X[:20].reshape(20, 64)[:, :60], {}, "60 pixels are none"),
        (X[:20].reshape(20, 64), {"image_shape": (8, 7)}, r"image_shape=\(8, 7\) has 56 pixels"),
        (X[:20], {"image_shape": (8, 0)}, "image_shape must be"),
        (X[:20], {"image_shape": (8,)}, "image_shape must be"),
        (X[:20], {"image_shape": (4, 16)}, r"images of shape \(1, 8, 8\)"),
        (np.repeat(X[:20, :, :, None], 3, axis=3), {}, "channels before height and width"),
        (X[:20, :, :, None, None], {}, "5 dimensions"),
        (np.full((20, 8, 8), 3.0), {}, "all pixels of X are 3"),
        (np.where(X[:20] > 15, np.nan, X[:20]), {}, "NaN"),
        (X[:20], {"batch_size": 1}, "batch_size=1"),
        (X[:20], {"group": "o2"}, "group"),
        (X[:20], {"augment": "maps"}, "augment"),
        (X[:20], {"max_angle": 200.0}, "max_angle"),
        (X[:20], {"n_group_samples": 0}, "n_group_samples"),
        (X[:20], {"spread": -0.1}, "spread"),
    ],
)
def test_bad_input_is_named(data, options, message):
    with pytest.raises(ValueError, match=message):
        LieGroupConvClassifier(**{**SMALL, **options}).fit(data, Y[:20])


def test_one_channel_against_three_and_other_sizes(fitted):
    with pytest.raises(ValueError, match=r"samples of shape \(3, 8, 8\)|features"):
        fitted.predict(np.repeat(X[:5, None], 3, axis=1))
    with pytest.raises(ValueError, match=r"samples of shape \(8, 7\)"):
        fitted.predict(X[:5, :, :7])
    with pytest.raises(ValueError, match="positive determinant"):
        fitted.equivariance_error(X[:5], np.diag([1.0, -1.0]))


def test_sparse_tables_are_refused():
    import scipy.sparse as sp

    with pytest.raises(TypeError, match="[Ss]parse"):
        LieGroupConvClassifier(**SMALL).fit(sp.csr_array(X[:20].reshape(20, 64)), Y[:20])
