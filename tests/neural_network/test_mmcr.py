"""MMCR as an estimator: what it learns, its views, its groups, its seeds, its refusals."""

import copy
import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.neural_network import MMCR  # noqa: E402
from sklr.nn import GaussianNoise  # noqa: E402

SMALL = {"n_components": 16, "projector": (32, 16), "batch_size": 16, "random_state": 0}


def digits(n=300):
    X, y = load_digits(return_X_y=True)
    return X[:n].reshape(-1, 1, 8, 8) / 16, y[:n]


def probe(features, y, n_labels):
    """Accuracy with few labels a class, on the samples after the first 200."""
    labelled = np.concatenate([np.flatnonzero(y[:200] == c)[:n_labels] for c in range(10)])
    model = LogisticRegression(C=0.1, max_iter=1000)
    scale = features[:200].std(axis=0) + 1e-9
    features = (features - features[:200].mean(axis=0)) / scale
    return model.fit(features[labelled], y[labelled]).score(features[200:], y[200:])


def test_ten_label_probe_beats_pixels_and_a_random_network():
    """The claim of the paper at the smallest scale: features are more linear than pixels."""
    X, y = digits(600)
    model = MMCR(n_components=64, max_iter=15, batch_size=64, random_state=0)
    fitted = clone(model).fit(X)
    # One label a class: the gain is some twenty points there, far above what rounding moves.
    learned = probe(fitted.transform(X), y, n_labels=1)
    untrained = clone(model).set_params(learning_rate=1e-12, max_iter=1).fit(X)
    assert learned > probe(X.reshape(len(X), -1), y, n_labels=1) + 0.05
    assert learned > probe(untrained.transform(X), y, n_labels=1) + 0.05
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    assert fitted.score(X) > untrained.score(X) + 0.1


def test_loss_curve_and_bound():
    X, _ = digits(64)
    model = MMCR(**SMALL, max_iter=3).fit(X)
    assert model.nuclear_norm_upper_bound_ == pytest.approx(16.0)
    assert MMCR(**SMALL | {"projector": (4,)}, max_iter=1).fit(
        X
    ).nuclear_norm_upper_bound_ == pytest.approx(math.sqrt(16 * 4))
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert all(-16 <= loss < 0 for loss in model.loss_curve_)
    assert 0 < model.score(X) <= 1


def test_transform_does_not_depend_on_the_batch_and_project_has_unit_rows():
    X, _ = digits(80)
    model = MMCR(**SMALL, max_iter=2).fit(X)
    whole = model.transform(X)
    assert whole.shape == (80, 16)
    assert_allclose(model.transform(X[7:9]), whole[7:9], rtol=1e-9, atol=1e-12)
    Z = model.project(X)
    assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-12)
    assert Z.shape == (80, 16)
    assert list(model.get_feature_names_out()[:2]) == ["mmcr0", "mmcr1"]
    assert model.score(X) == model.score(X)


def test_tables_take_a_perceptron_and_work_in_a_pipeline_and_a_search():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 6))
    y = (X[:, 0] > 0).astype(int)
    model = MMCR(8, projector=(8, 4), batch_size=16, max_iter=2, random_state=0)
    search = GridSearchCV(
        make_pipeline(model, LogisticRegression()), {"mmcr__n_views": [2, 3]}, cv=2
    )
    assert search.fit(X, y).score(X, y) > 0.5
    assert clone(model).fit_transform(X).shape == (60, 8)


def test_the_same_seed_gives_the_same_bits_and_leaves_global_generators_alone():
    X, _ = digits(48)
    state = torch.random.get_rng_state()
    one, two = (MMCR(**SMALL, max_iter=2).fit(X) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(one.transform(X), two.transform(X))
    assert one.loss_curve_ == two.loss_curve_
    other = MMCR(**SMALL | {"random_state": 1}, max_iter=2).fit(X)
    assert not np.array_equal(one.transform(X), other.transform(X))
    again = pickle.loads(pickle.dumps(one))
    assert np.array_equal(again.transform(X), one.transform(X))
    assert again.score(X) == one.score(X)


def repeated_trials(n_stimuli, seed):
    """Four trials of each stimulus: its signal is in 4 of 20 directions, noise in all."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n_stimuli, 4)) @ np.eye(4, 20)
    noise = rng.standard_normal((n_stimuli, 4, 20))
    noise[:, :, :4] *= 0.3
    X = (signal[:, None] + noise).reshape(-1, 20)
    groups = np.repeat(np.arange(n_stimuli), 4)
    order = rng.permutation(len(X))
    return X[order], groups[order]


def same_neighbor(Z, groups):
    """How often a trial's nearest neighbour (by angle) is of the same stimulus."""
    Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    similarity = Z @ Z.T
    np.fill_diagonal(similarity, -np.inf)
    return (groups[similarity.argmax(axis=1)] == groups).mean()


def test_groups_are_views():
    """The neuroscience case: trials of stimuli that were never seen come together, too."""
    X, groups = repeated_trials(200, seed=0)
    model = MMCR(
        module=torch.nn.Linear(20, 8), projector=(32, 16), batch_size=50, max_iter=40,
        learning_rate=5e-3, random_state=0,
    )  # fmt: skip
    fitted = clone(model).fit(X, groups=groups)
    new, new_groups = repeated_trials(50, seed=1)
    before = same_neighbor(new, new_groups)  # measured: .15, and .48 after
    assert same_neighbor(fitted.transform(new), new_groups) > before + 0.2
    assert 0.3 < fitted.score(X, groups=groups) <= 1
    # Names of groups do not matter.
    named = clone(model).fit(X, groups=[f"s{g:03d}" for g in groups])
    assert np.array_equal(named.transform(X), fitted.transform(X))


def test_members_are_drawn_from_their_group_without_repeats_while_there_are_enough():
    from sklr.neural_network._mmcr_networks import draw_members

    codes = torch.tensor([1, 0, 1, 2, 1, 0, 2, 1])
    counts = torch.bincount(codes)
    memory = {
        "samples": torch.arange(8)[:, None],
        "members": codes.argsort(stable=True),
        "counts": counts,
        "starts": counts.cumsum(0) - counts,
    }
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(30):
        drawn = draw_members(torch.tensor([1, 0, 2]), 4, generator, memory).reshape(3, 4)
        assert torch.equal(codes[drawn], torch.tensor([[1] * 4, [0] * 4, [2] * 4]))
        assert sorted(drawn[0].tolist()) == [0, 2, 4, 7]
        assert sorted(drawn[1].tolist()) == [1, 1, 5, 5]
        seen.add(tuple(drawn[0].tolist()))
    assert len(seen) > 5


def test_own_encoder_is_copied_and_trained():
    X, _ = digits(48)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 9))
    before = copy.deepcopy(encoder.state_dict())
    model = MMCR(**SMALL, module=encoder, max_iter=2).fit(X)
    assert model.transform(X).shape == (48, 9)
    for name, value in before.items():
        assert torch.equal(encoder.state_dict()[name], value)
    assert not torch.equal(model.encoder_[1].weight, before["1.weight"])

    def make(shape):
        assert shape == (1, 8, 8)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))

    assert MMCR(**SMALL, module=make, max_iter=1).fit_transform(X).shape == (48, 5)


def test_augment_gets_a_generator_and_decides_the_result():
    X, _ = digits(48)
    seen = []

    def augment(batch, generator):
        seen.append(batch.shape)
        return batch + torch.randn(batch.shape, generator=generator)

    model = MMCR(**SMALL, augment=augment, n_views=3, max_iter=1).fit(X)
    assert set(seen) == {(48, 1, 8, 8)}  # three views of 16
    module = MMCR(**SMALL, augment=GaussianNoise(1.0), n_views=3, max_iter=1).fit(X)
    assert np.array_equal(model.transform(X), module.transform(X))


def test_momentum_network_follows_and_one_view_is_enough():
    X, _ = digits(48)
    model = MMCR(**SMALL, ema_decay=0.9, n_views=1, max_iter=3).fit(X)
    slow, fast = model.module_["slow"][0], model.encoder_
    difference = [
        float((a - b).detach().abs().max())
        for a, b in zip(slow.parameters(), fast.parameters(), strict=True)
    ]
    assert 0 < max(difference) < 0.05
    assert not any(p.requires_grad for p in slow.parameters())
    still = MMCR(**SMALL, ema_decay=0.0, n_views=2, max_iter=2).fit(X)
    for a, b in zip(still.module_["slow"][0].parameters(), still.encoder_.parameters()):
        assert torch.equal(a, b)


def test_partial_fit_goes_on():
    X, _ = digits(64)
    model = MMCR(**SMALL)
    for epoch in range(4):
        model.partial_fit(X)
        assert model.n_iter_ == len(model.loss_curve_) == epoch + 1
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    again = MMCR(**SMALL)
    for _ in range(4):
        again.partial_fit(X)
    assert np.array_equal(model.transform(X), again.transform(X))
    with pytest.raises(ValueError, match="samples of shape"):
        model.partial_fit(X[:, :, :7])
    assert np.array_equal(model.transform(X), again.transform(X))  # as before the failure


def test_interrupt_leaves_an_unfitted_estimator():
    class Stop:
        def on_epoch_end(self, estimator, info):
            raise KeyboardInterrupt

    X, _ = digits(48)
    model = MMCR(**SMALL, max_iter=2, callbacks=[Stop()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert not [name for name in vars(model) if name.endswith("_")]
    assert model.set_params(callbacks=None).fit(X).n_iter_ == 2


def test_a_small_data_set_lowers_the_batch_and_says_so():
    X, _ = digits(10)
    with pytest.warns(UserWarning, match="batch_size=16 is lowered to the 10 samples"):
        model = MMCR(**SMALL, max_iter=1).fit(X)
    assert model.nuclear_norm_upper_bound_ == pytest.approx(10.0)


@pytest.mark.parametrize(
    "parameters, arguments, message",
    [
        ({"n_views": 1}, {}, "n_views=1 needs ema_decay"),
        ({"augment": None}, {}, "augment=None needs groups"),
        ({"projector": ()}, {}, "projector must be widths of at least 1"),
        ({"projector": (8, 0)}, {}, "projector must be widths"),
        ({"batch_size": 1}, {}, "'batch_size' parameter of MMCR must be"),
        ({"device": "cuda:77"}, {}, "device='cuda:77' does not exist"),
        ({}, {"groups": [0] * 20}, "at least 2 different values"),
        ({}, {"groups": [0] * 19 + [1]}, "1 groups have a single sample"),
        ({}, {"groups": [0, 1]}, "inconsistent numbers of samples"),
        ({"module": torch.nn.Linear(3, 2)}, {}, "module cannot take samples"),
        ({"module": torch.nn.Unflatten(1, (2, 2))}, {}, "module returns shape"),
        ({"augment": lambda x, g: x[:1]}, {}, "keep the number of samples"),
        (
            {"augment": lambda x, g: x * float("nan")},
            {},
            "embeddings are not finite: scale the features",
        ),
    ],
)
def test_bad_input(parameters, arguments, message):
    X = np.random.default_rng(0).standard_normal((20, 4))
    model = MMCR(**SMALL | {"batch_size": 8} | parameters, max_iter=1)
    with pytest.raises(ValueError, match=message):
        model.fit(X, **arguments)
    assert not [name for name in vars(model) if name.endswith("_")]


def test_wrong_dimensions_are_refused():
    model = MMCR(**SMALL)
    with pytest.raises(ValueError, match="tables .* and images"):
        model.fit(np.zeros((20, 3, 4)))
    with pytest.raises(ValueError, match="n_samples=1"):
        model.fit(np.zeros((1, 3)))
