from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics.pairwise import rbf_kernel

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.datasets import make_burgers, make_darcy  # noqa: E402
from sklr.neural_network import (  # noqa: E402
    LatentSpectralRegressor,
    _fields_circles,
    _fields_symmetric,
)
from sklr.neural_network._fields import Units, relative_errors  # noqa: E402
from sklr.neural_network._fields_circles import fit_on_circles  # noqa: E402
from sklr.neural_network._fields_detected import find_symmetries  # noqa: E402
from sklr.neural_network._fields_symmetric import fit_symmetric, irreducible  # noqa: E402
from sklr.neural_network._fields_symmetries import (  # noqa: E402
    Symmetry,
    candidates,
    group_of,
    symmetric,
)

FLIP = Symmetry((0, 1), (True, False))
SWAP = Symmetry((1, 0), (False, False))
TURN = Symmetry((1, 0), (True, False))
ODD = Symmetry((0, 1), (True, False), -1, -1)
SMALL = {"width": 4, "n_levels": 1, "n_basis": 3, "max_iter": 2, "random_state": 0}


def regressor(**options):
    return LatentSpectralRegressor(**SMALL | options)


def smooth(n, *grid, seed=0):
    out = np.random.default_rng(seed).normal(size=(n, *grid))
    for axis in range(1, 1 + len(grid)):
        out = out + np.roll(out, 1, axis=axis) + np.roll(out, -1, axis=axis)
    return out


@pytest.fixture(scope="module")
def darcy():
    X, y = make_darcy(100, size=12, random_state=0)
    return X[:, None], y[:, None]


def names(group):
    return {str(one) for one in group[1:]}


def test_symmetries_one_after_the_other():
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(2, 3, 4, 4, 4))
    some = candidates((4, 4, 4))
    for i, j in rng.integers(len(some), size=(40, 2)):
        made = some[i].after(some[j])
        for target in (False, True):
            wanted = some[i].of(some[j].of(fields, target=target), target=target)
            np.testing.assert_array_equal(made.of(fields, target=target), wanted)
            tensor = torch.tensor(fields)
            np.testing.assert_array_equal(made.of(tensor, target=target).numpy(), wanted)


@pytest.mark.parametrize(
    "generators, size", [([FLIP], 2), ([TURN], 4), ([FLIP, SWAP], 8), ([ODD, SWAP], 8), ([], 1)]
)
def test_groups_and_their_parts(generators, size):
    group = group_of(generators, 2)
    assert len(group) == size == len({str(one) for one in group})
    parts = irreducible(group)
    joined = np.concatenate(parts, axis=1)
    assert_allclose(joined @ joined.T, np.eye(size), atol=1e-12)
    if size == 8:
        assert sorted(part.shape[1] for part in parts) == [1, 1, 1, 1, 2, 2]
    for part, one in product(parts, group):
        moved = part[[group.index(other.after(one)) for other in group]]
        assert_allclose(part @ (part.T @ moved), moved, atol=1e-12)


def test_all_symmetries_of_a_cube():
    plain = [one for one in candidates((5, 5, 5)) if one.x_sign == one.y_sign == 1]
    assert len(group_of(plain, 3)) == 48
    assert len(group_of([one for one in candidates((5, 4)) if one.x_sign == one.y_sign], 2)) == 8


@pytest.mark.parametrize("group", [[FLIP], [TURN], [FLIP, SWAP], [ODD], []], ids=len)
def test_the_baseline_is_kernel_ridge_of_all_images(group):
    """And answers for training samples are those of a fit without all of their images."""
    group = group_of(group, 2)
    X, y = smooth(25, 2, 6, 6), smooth(25, 1, 6, 6, seed=1)
    closed = fit_symmetric(X, y, group, 0)
    X, y, new = X[closed.rows], y[closed.rows], smooth(3, 2, 6, 6, seed=2)
    images = np.concatenate([one.of(X) for one in group])
    targets = np.concatenate([one.of(y, target=True) for one in group])

    def ridge(rows, asked):
        scores, of_asked = (
            (part - closed.x_mean).reshape(len(part), -1) @ closed.axes
            for part in (images[rows], asked)
        )
        kernel = rbf_kernel(scores, gamma=closed.gamma) + closed.penalty * np.eye(len(rows))
        weights = np.linalg.solve(kernel, (targets[rows] - closed.y_mean).reshape(len(rows), -1))
        made = rbf_kernel(of_asked, scores, gamma=closed.gamma) @ weights
        return made.reshape(len(asked), *y.shape[1:]) + closed.y_mean

    everything = np.arange(len(images))
    assert_allclose(closed.predict(new), ridge(everything, new), atol=1e-6 * np.abs(y).max())
    rest = everything[everything % 25 != 7]
    assert_allclose(closed.predict(X[7:8]), ridge(rest, X[7:8]), atol=1e-6 * np.abs(y).max())
    for fields, one in product((new, X[:5]), group):
        wanted = one.of(closed.predict(fields), target=True)
        assert_allclose(closed.predict(one.of(fields)), wanted, atol=1e-9 * np.abs(y).max())


def test_samples_that_are_images_of_each_other_are_one(monkeypatch):
    X, y = smooth(25, 1, 6, 6), smooth(25, 1, 6, 6, seed=1)
    both = np.concatenate([X, FLIP.of(X)]), np.concatenate([y, FLIP.of(y)])
    group = group_of([FLIP], 2)
    assert len(fit_symmetric(*both, group, 0).rows) == 25
    assert fit_symmetric(X[:9], y[:9], group, 0) is None
    assert fit_symmetric(0 * X, y, group, 0) is None
    monkeypatch.setattr(_fields_symmetric, "_MOST_SAMPLES", 22)
    assert len(fit_symmetric(X, y, group, 0).rows) == 22


def test_many_samples_have_many_components(monkeypatch):
    """Also where settings are chosen with few of them."""
    monkeypatch.setattr(_fields_symmetric, "_TO_CHOOSE", 1)
    X = np.random.default_rng(0).normal(size=(100, 1, 5, 5))
    assert fit_symmetric(X, X + 0.1 * X**2, group_of([FLIP, SWAP], 2), 0).settings[0] == 30


def test_targets_of_copies_are_averaged():
    X, y = smooth(25, 1, 6, 6), smooth(25, 1, 6, 6, seed=1)
    noise = 0.5 * smooth(25, 1, 6, 6, seed=2)
    thrice = np.concatenate([X, X, X]), np.concatenate([y, y - noise, y + noise])
    for fit in (fit_symmetric, fit_on_circles):
        one = fit(X, y, seed=0, group=group_of([FLIP], 2))
        other = fit(*thrice, seed=0, group=group_of([FLIP], 2))
        assert sorted(other.rows) == sorted(one.rows)
        assert_allclose(other.predict(X), one.predict(X), atol=1e-7 * np.abs(y).max())


def test_images_of_waves_on_a_ring():
    """Half of the samples with their images are as many as all."""
    X, y = (part[:, None] for part in make_burgers(130, size=16, time=0.3, random_state=0))
    group = group_of([Symmetry((0,), (True,), -1, -1)], 1)
    plain, closed = (fit_on_circles(X[:30], y[:30], 0, g) for g in ((), group))
    said = closed.predict(X[30:])
    assert_allclose(closed.predict(group[1].of(X[30:])), group[1].of(said, target=True), atol=1e-9)
    errors = [relative_errors(one, y[30:]).mean() for one in (plain.predict(X[30:]), said)]
    assert errors[1] < 0.8 * errors[0]
    wanted = np.roll(closed.held_out[np.argsort(closed.rows)[:5]], 3, axis=2)
    assert_allclose(closed.predict(np.roll(X[:5], 3, axis=2)), wanted, atol=1e-9)


def test_the_square_is_found(darcy):
    assert len(find_symmetries(*darcy, periodic=False)) == 8
    X, y = darcy
    assert len(find_symmetries(1e-6 * X, y + 1e6, periodic=False)) == 8
    group = find_symmetries(X[:, :, :, 1:], y[:, :, :, 1:], periodic=False)
    assert names(group) == {"axis 0 reversed"}


def test_copies_and_images_among_the_samples(darcy):
    X, y = darcy
    assert (
        len(find_symmetries(*(np.repeat(part, 3, axis=0) for part in darcy), periodic=False)) == 8
    )
    both = np.concatenate([X, FLIP.of(X)]), np.concatenate([y, FLIP.of(y)])
    assert "axis 0 reversed" in names(find_symmetries(*both, periodic=False))


def test_an_axis_of_one_cell_has_no_symmetries():
    assert {str(one) for one in candidates((1, 5))} == {str(one) for one in candidates((2, 5))} - {
        str(one) for one in candidates((2, 5)) if one.reversed_[0]
    }
    assert len(candidates((1, 1))) == 2


@pytest.mark.parametrize(
    "change, wanted",
    [
        (lambda X, y: (X, (1 + 0.1 * np.linspace(-1, 1, 12)[:, None]) * y), {"axis 1 reversed"}),
        (lambda X, y: (X, y + 0.2 * y.std() * np.arange(12) / 12), {"axis 0 reversed"}),
        (lambda X, y: (X + X.std() * np.arange(12) / 12, y), {"axis 0 reversed"}),
        (lambda X, y: (X, np.stack(np.gradient(y[:, 0], axis=(1, 2)), axis=1)), set()),
        (lambda X, y: (X, np.gradient(y, axis=2)), {"axis 0 reversed, y negated"}),
        (lambda X, y: (X, np.roll(X, 2, axis=2) * y), set()),
        (lambda X, y: (X, y[::-1]), set()),
    ],
    ids=["weighed", "source", "input", "vectors", "slope", "elsewhere", "no law"],
)
def test_what_breaks_symmetries_is_seen(darcy, change, wanted):
    """Of two reversals one is left, or none."""
    group = find_symmetries(*change(*darcy), periodic=False)
    assert wanted <= names(group)
    others = {"axis 0 reversed", "axis 1 reversed", "axes 0 and 1 swapped"} - wanted
    if wanted != {"axis 0 reversed, y negated"}:
        assert not others & names(group)


def test_waves_change_sign_with_the_direction():
    X, y = (part[:, None] for part in make_burgers(60, size=16, time=0.5, random_state=0))
    found = find_symmetries(X, y, periodic=True)
    assert names(found) == {"axis 0 reversed, X and y negated"}
    here = np.sin(2 * np.pi * np.arange(16) / 16 + 1)
    assert find_symmetries(X, y + 0.3 * here, periodic=True) == []
    assert find_symmetries(X + 1, y, periodic=True) == []


def test_units_of_images_are_alike():
    rng = np.random.default_rng(0)
    units = Units(rng.normal(size=(4, 4, 1)), rng.uniform(1, 2, size=(4, 4, 1)))
    group = group_of([ODD, SWAP], 2)
    same = symmetric(units, group)
    for one in group:
        assert_allclose(one.of(same.mean, first=0), same.mean, atol=1e-12)
        assert_allclose(np.abs(one.of(same.scale, first=0)), same.scale, atol=1e-12)
    assert symmetric(Units(np.ones(2), np.ones(2)), group).mean.tolist() == [0, 0]
    assert symmetric(Units(np.ones(2), np.ones(2)), group_of([SWAP], 2)).mean.tolist() == [1, 1]
    assert symmetric(units, []) is units


@pytest.mark.parametrize("normalize", ["channel", "pointwise", None])
def test_training_from_images(darcy, normalize):
    X, y = (part[:, 0] for part in darcy)
    new = make_darcy(40, size=12, random_state=1)
    model = regressor(normalize=normalize).fit(X, y)
    assert len(model.symmetries_) == 7 and "axes 0 and 1 swapped" in model.symmetries_
    without = regressor(normalize=normalize, symmetries=None).fit(X, y)
    assert without.symmetries_ == []
    assert model.baseline_error_ < 0.8 * without.baseline_error_
    error, other = (relative_errors(one.predict(new[0]), new[1]).mean() for one in (model, without))
    assert error < 0.85 * other


def test_samples_of_a_batch_become_images(darcy):
    X, y = (part[:, 0] for part in darcy)
    model = regressor().fit(X, y)
    shown = torch.tensor(model._shown(X[..., None]))
    targets = torch.tensor(model._scaled(y[..., None]))
    rng = np.random.RandomState(0)  # noqa: NPY002
    made = model._turned(shown, targets, rng)
    assert not torch.equal(made[0], shown)
    for i in range(20):
        fits = [
            torch.equal(one.of(shown[[i]]), made[0][[i]])
            and torch.equal(one.of(targets[[i]], target=True), made[1][[i]])
            for one in model._group
        ]
        assert any(fits)
    # What the baseline says of an image is the image of what it says.
    said = model._closed_form.predict(shown[:, :1].numpy())
    for one in model._group:
        found = model._closed_form.predict(one.of(shown[:, :1].numpy()))
        assert_allclose(found, one.of(said, target=True), atol=1e-9)


def test_symmetries_that_make_the_baseline_worse_are_dropped(monkeypatch):
    """A group whose images are too many for all shifts of the samples leaves a worse start."""
    monkeypatch.setattr(_fields_circles, "_TO_FIT", 60**2 * 64)
    X = smooth(60, 8, 8)
    y = X + 0.1 * sum(np.roll(X, by, axis) for by in (1, -1) for axis in (1, 2))
    assert len(find_symmetries(X[:, None], y[:, None], periodic=True)) == 16
    options = {"periodic": True, "normalize": "pointwise"}
    auto, plain = (regressor(symmetries=s, **options).fit(X, y) for s in ("auto", None))
    assert auto.symmetries_ == []
    assert auto.baseline_error_ == plain.baseline_error_
    np.testing.assert_array_equal(auto.predict(X), plain.predict(X))


def test_where_no_symmetries_are_looked_for(darcy):
    X, y = (part[:, 0] for part in darcy)
    assert regressor().fit(X, y.mean(axis=(1, 2))).symmetries_ == []
    assert regressor().fit(X[:15], y[:15]).symmetries_ == []
    assert regressor().partial_fit(X, y).symmetries_ == []
    film = smooth(30, 9, 5)
    assert (
        regressor(n_dims=1, n_rollout_steps=2).fit(film[..., :3], film[..., 3:]).symmetries_ == []
    )
    alone = regressor(baseline=None).fit(X, y)
    assert len(alone.symmetries_) == 7 and alone._closed_form is None
    with pytest.raises(ValueError, match="'symmetries' parameter"):
        regressor(symmetries="all").fit(X, y)
    with pytest.raises(ValueError, match="symmetries was 'auto'"):
        regressor().fit(X, y).set_params(symmetries=None).partial_fit(X, y)
