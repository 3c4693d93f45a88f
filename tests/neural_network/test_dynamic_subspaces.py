"""Dynamic subspaces: learners, growth, clusters, attention, what is refused."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.metrics import recall_at_k  # noqa: E402
from sklr.neural_network import DynamicSubspaceEmbedding  # noqa: E402
from sklr.neural_network._learner_training import begin_anew  # noqa: E402
from sklr.neural_network._learners import (  # noqa: E402
    BalancedRows,
    held_out,
    kept_coordinates,
    matched,
)
from sklr.nn import MarginLoss  # noqa: E402

X, Y = load_digits(return_X_y=True)
X, Y = X[:500], Y[:500]
IMAGES = X.reshape(-1, 1, 8, 8)
SMALL = {
    "n_components": 32,
    "hidden_layer_sizes": (32,),
    "max_iter": 18,
    "growth_patience": 1,
    "random_state": 0,
}


class Watched(DynamicSubspaceEmbedding):
    """Notes what each epoch and each batch see."""

    def _begin(self, module, step):
        super()._begin(module, step)
        self.seen, self.epochs = [], []

    def _epoch_begin(self, module, step):
        before = module.linear.weight.detach().clone(), module.linear.bias.detach().clone()
        super()._epoch_begin(module, step)
        after = module.linear.weight.detach().clone(), module.linear.bias.detach().clone()
        note = {"learners": self.learner_indices_, "before": before, "after": after}
        note |= {"labels": step.memory["labels"].copy(), "epoch": step.epoch}
        self.epochs.append(note)

    def _batches(self, step):
        for rows in super()._batches(step):
            self.seen.append((step.epoch, step.memory["learner"], rows.numpy()))
            yield rows


@pytest.fixture(scope="module")
def watched():
    return Watched(**SMALL).fit(X, Y)


def assert_partition(model):
    parts = model.learner_indices_
    assert sorted(np.concatenate(parts).tolist()) == list(range(model.n_components))
    assert model.n_learners_ == len(parts) == model.n_learners + len(model.growth_epochs_)
    assert model.n_learners_ <= model.max_learners
    assert min(map(len, parts)) >= 1


def test_learners_are_found_and_are_a_partition(watched):
    assert_partition(watched)
    assert 1 < watched.n_learners_ <= 8
    assert max(watched.growth_epochs_) < 15 <= watched.n_iter_ == 18
    assert len(watched.validation_scores_) == 18
    assert all(0 <= score <= 1 for score in watched.validation_scores_)
    fixed = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 2}, n_learners=3, max_learners=3)
    assert_partition(fixed.fit(X, Y))
    assert [len(part) for part in fixed.learner_indices_] == [11, 11, 10]
    capped = DynamicSubspaceEmbedding(**SMALL, max_learners=2).fit(X, Y)
    assert_partition(capped)


def test_blocks_have_equal_norms_and_rows_unit_length(watched):
    Z = watched.transform(X)
    assert Z.shape == (500, 32)
    for part in watched.learner_indices_:
        assert_allclose(np.linalg.norm(Z[:, part], axis=1), watched.n_learners_**-0.5, rtol=1e-10)
    assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-10)
    assert_allclose(watched.transform(X[3:5]), Z[3:5], atol=1e-12)
    assert watched.score(X, Y) == recall_at_k(Z, Y)


def test_a_split_keeps_the_function_of_the_kept_coordinates(watched):
    notes = watched.epochs
    splits = [(a, b) for a, b in zip(notes, notes[1:]) if len(b["learners"]) > len(a["learners"])]
    assert [b["epoch"] for _, b in splits] == watched.growth_epochs_
    for a, b in splits:
        *others, kept, new = b["learners"]
        for part, former in zip(others, a["learners"]):
            assert_array_equal(part, former)
        assert_array_equal(np.sort(np.r_[kept, new]), np.sort(a["learners"][-1]))
        assert len(kept) >= 5
        for before, after in zip(b["before"], b["after"]):
            rest = np.setdiff1d(np.arange(32), new)
            assert torch.equal(before[rest], after[rest])
            assert not bool((before[new] == after[new]).any())


def test_drawn_anew_the_optimiser_forgets_those_rows_only():
    linear = torch.nn.Linear(4, 6)
    optimizer = torch.optim.Adam(linear.parameters())
    linear(torch.ones(3, 4)).square().sum().backward()
    optimizer.step()
    moment = optimizer.state[linear.weight]["exp_avg"]
    former = linear.weight.detach().clone(), moment.clone()
    begin_anew(linear, np.array([1, 4]), [optimizer])
    for value, before in zip((linear.weight.detach(), moment), former):
        assert torch.equal(value[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
        assert not torch.equal(value[[1, 4]], before[[1, 4]])
    assert not optimizer.state[linear.weight]["exp_avg"][[1, 4]].any()
    assert not optimizer.state[linear.bias]["exp_avg_sq"][[1, 4]].any()
    assert bool((linear.bias.abs() <= 0.5).all())


def test_batches_are_balanced_and_of_the_cluster_of_their_learner(watched):
    n_train = len(watched.epochs[0]["labels"])
    assert 448 <= n_train <= 452  # a tenth is set aside, and never drawn
    grown = {note["epoch"]: note["labels"] for note in watched.epochs}
    for epoch, learner, rows in watched.seen:
        assert len(rows) <= 64 and rows.max() < n_train
        if epoch >= 15:
            assert learner == 0
        else:
            assert (grown[epoch][rows] == learner).all()
    assert len({epoch for epoch, *_ in watched.seen}) == 18
    assert len(watched.seen) == 18 * 8  # an epoch is as many steps with any number of learners


def test_one_learner_is_the_plain_margin_loss_to_the_bit():
    """Neither clusters, nor scores of coordinates, nor validation are in it."""

    class Plain(DynamicSubspaceEmbedding):
        def _loss(self, module, xb, yb, step):
            return MarginLoss()(torch.nn.functional.normalize(module(xb), dim=1), yb)

        def _epoch_begin(self, module, step):
            pass

    options = SMALL | {"max_iter": 3, "max_learners": 1}
    model, plain = (kind(**options).fit(X, Y) for kind in (DynamicSubspaceEmbedding, Plain))
    assert model.n_learners_ == 1 and model.growth_epochs_ == []
    assert_allclose(model.loss_curve_, plain.loss_curve_, rtol=1e-4)  # roots are rounded elsewhere
    Plain._loss = lambda self, module, xb, yb, step: MarginLoss()(self._scaled(module(xb)), yb)
    plain = Plain(**options).fit(X, Y)
    assert model.loss_curve_ == plain.loss_curve_
    assert_array_equal(model.transform(X), plain.transform(X))


def test_names_of_clusters_change_nothing():
    rng = np.random.default_rng(0)
    old, new = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    new[:150] = (old[:150] + 1) % 4
    wanted = matched(new, old, 4)
    assert (wanted == old).mean() > 0.75
    for _ in range(5):
        assert_array_equal(matched(rng.permutation(4)[new], old, 4), wanted)
    # A cluster more is the one that has least in common with those that were there.
    grown = matched(np.r_[np.full(60, 2), np.full(60, 0), np.full(10, 1)], np.repeat([0, 1], 65), 3)
    assert_array_equal(grown, np.r_[np.full(60, 0), np.full(60, 1), np.full(10, 2)])


def test_kept_coordinates():
    scores = np.r_[np.full(5, 1.0), np.full(10, 0.1)]
    assert_array_equal(kept_coordinates(scores), scores > 0.5)
    assert_array_equal(kept_coordinates(7 * scores), scores > 0.5)
    assert kept_coordinates(scores[1:]) is None  # four are too few
    assert kept_coordinates(scores[:10]) is None  # and ten no group to divide
    assert kept_coordinates(np.ones(20)) is None
    assert kept_coordinates(np.full(20, np.nan)) is None


def test_rows_of_a_batch():
    codes = np.repeat([0, 1, 2, 3], [30, 20, 3, 1])
    rng = np.random.RandomState(0)
    rows = BalancedRows(np.arange(54), codes, lone=True).draw(32, 8, rng)
    counts = np.bincount(codes[rows], minlength=4)
    assert_array_equal(counts, [8, 8, 8, 1])  # few are drawn again, one is no partner of itself
    assert len(np.unique(rows[codes[rows] < 2])) == 16
    assert len(BalancedRows(np.arange(54), codes, lone=False)) == 53
    two = BalancedRows(np.arange(50), codes[:50], lone=True).draw(32, 8, rng)
    assert_array_equal(np.bincount(codes[two]), [16, 16])  # more of each where classes are few
    assert len(BalancedRows(np.arange(50), codes[:50], lone=True).draw(16, 8, rng)) == 16


def test_samples_set_aside():
    codes = np.repeat([0, 1, 2, 3], [100, 50, 2, 1])
    held = held_out(codes, 0.1, np.random.RandomState(0))
    assert_array_equal(np.bincount(codes[held], minlength=4)[2:], 0)
    assert 9 <= held[:100].sum() <= 11 and 4 <= held[100:150].sum() <= 6
    assert not held_out(codes, 0.001, np.random.RandomState(0)).any()
    few = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 4}).fit(X[:12], Y[:12] % 2)
    assert few.n_learners_ == 1 and not hasattr(few, "validation_scores_")


def test_validation_samples_are_in_no_gradient():
    """Any samples there give the same weights, as long as their number of learners is the same."""
    options = SMALL | {"max_iter": 3, "max_learners": 1}
    model = DynamicSubspaceEmbedding(**options).fit(X[:300], Y[:300], X[300:], Y[300:])
    other = DynamicSubspaceEmbedding(**options).fit(X[:300], Y[:300], X[:60] ** 2, Y[40:100])
    assert_array_equal(model.transform(X), other.transform(X))
    assert model.validation_scores_ != other.validation_scores_
    with pytest.raises(ValueError, match="y_val has labels that are not among the classes"):
        model.fit(X, Y, X[:20], Y[:20] + 1)


def test_attention_maps():
    model = DynamicSubspaceEmbedding(16, max_iter=2, random_state=0).fit(IMAGES, Y)
    maps = model.attention_map(IMAGES[:20])
    assert maps.shape == (20, 8, 8) and maps.min() >= 0 and maps.max() <= 1
    assert_allclose(model.attention_map(IMAGES[3:4])[0], maps[3], atol=1e-12)
    large = np.random.default_rng(0).uniform(size=(40, 2, 64, 60))
    wide = DynamicSubspaceEmbedding(16, max_iter=1, random_state=0).fit(large, np.arange(40) % 2)
    flat = wide.attention_map(np.full((1, 2, 64, 60), 0.3))[0, 29:34, 28:32]
    assert np.ptp(flat) < 1e-9  # a constant image has a constant map away from its border
    without = DynamicSubspaceEmbedding(16, max_iter=1, attention=False).fit(IMAGES, Y)
    with pytest.raises(ValueError, match="no attention map"):
        without.attention_map(IMAGES)
    with pytest.raises(ValueError, match="no attention map"):
        DynamicSubspaceEmbedding(**SMALL | {"max_iter": 1}).fit(X, Y).attention_map(X)


def test_given_networks():
    table = torch.nn.Sequential(torch.nn.Linear(64, 20), torch.nn.ReLU())
    model = DynamicSubspaceEmbedding(16, module=table, max_iter=2, random_state=0).fit(X, Y)
    assert model.transform(X).shape == (500, 16) and model.module_.attention is None
    maps = torch.nn.Conv2d(1, 8, 3)
    model = DynamicSubspaceEmbedding(16, module=maps, max_iter=1, random_state=0).fit(IMAGES, Y)
    assert model.attention_map(IMAGES[:2]).shape == (2, 8, 8)
    with pytest.raises(ValueError, match="attention=True needs feature maps of images"):
        DynamicSubspaceEmbedding(module=table, attention=True).fit(X, Y)
    with pytest.raises(ValueError, match=r"module makes features of shape \(8, 8\)"):
        DynamicSubspaceEmbedding(module=torch.nn.Flatten(1, 2)).fit(IMAGES, Y)
    with pytest.raises(ValueError, match="give a module for others"):
        DynamicSubspaceEmbedding().fit(X.reshape(-1, 8, 8), Y)


def test_units_of_tables_and_images_are_of_no_account():
    rng = np.random.default_rng(0)
    units = 10.0 ** rng.uniform(-6, 6, 64)
    wanted = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 3}).fit(X, Y).transform(X)
    found = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 3}).fit(X * units, Y)
    # The products of float32 are rounded in other places.
    assert_allclose(found.transform(X * units), wanted, atol=0.05)
    for factor in (1e-6, 1e6):
        model = DynamicSubspaceEmbedding(16, max_iter=2, random_state=0).fit(factor * IMAGES, Y)
        assert model.score(factor * IMAGES, Y) > 0.6


def test_partial_fit_goes_on():
    model = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 9}).fit(X, Y)
    learners, curve = model.learner_indices_, list(model.loss_curve_)
    model.partial_fit(X, Y)
    assert len(model.loss_curve_) == 10 and model.loss_curve_[:9] == curve
    for a, b in zip(model.learner_indices_, learners):
        assert_array_equal(a, b)
    fresh = DynamicSubspaceEmbedding(**SMALL)
    for _ in range(3):
        fresh.partial_fit(X, Y, classes=np.arange(12))
    assert fresh.n_learners_ == 1 and fresh.score(X, Y) > 0.8


def test_pipeline_search_and_pickle(watched):
    pipeline = make_pipeline(
        DynamicSubspaceEmbedding(**SMALL | {"max_iter": 2}), KNeighborsClassifier(3)
    )
    grid = {"dynamicsubspaceembedding__max_learners": [1, 4]}
    iris, species = load_iris(return_X_y=True)
    assert GridSearchCV(pipeline, grid, cv=2).fit(iris, species).best_score_ > 0.7
    names = watched.get_feature_names_out()
    assert len(names) == 32 and names[0] == "watched0"
    plain = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 1}).fit(X, Y.astype(str))
    copy = pickle.loads(pickle.dumps(plain))
    assert_array_equal(copy.transform(X), plain.transform(X))
    assert plain.classes_[0] == "0"


def test_few_or_lone_samples():
    y = np.r_[Y[:60] % 3, 99]
    with pytest.warns(UserWarning, match=r"1 of 4 classes have a single sample \(99\)"):
        model = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 2}).fit(X[:61], y)
    assert np.isfinite(model.transform(X)).all()
    with pytest.raises(ValueError, match="no class has two samples"):
        DynamicSubspaceEmbedding().fit(X[:5], np.arange(5))
    with pytest.raises(ValueError, match="at least two classes, got 1 class"):
        DynamicSubspaceEmbedding().fit(X, np.zeros(500))
    constant = np.ones((40, 1, 8, 8))
    with pytest.warns(UserWarning, match="all samples of X are equal"):
        model = DynamicSubspaceEmbedding(16, max_iter=8, growth_patience=1).fit(
            constant, np.arange(40) % 2
        )
    assert np.isfinite(model.transform(constant)).all()
    assert np.isfinite(model.attention_map(constant)).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 15}, "batch_size must be at least 16"),
        ({"n_learners": 9}, "n_learners=9 must be at most max_learners=8"),
        ({"n_learners": 40, "max_learners": 50}, "and n_components=32"),
        ({"samples_per_class": 1}, "samples_per_class"),
        ({"finetune_fraction": 1.1}, "finetune_fraction"),
        ({"beta": 0.0}, "beta"),
        ({"attention": "yes"}, "attention"),
        ({"attention": True}, "attention=True needs feature maps"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        DynamicSubspaceEmbedding(**SMALL | options).fit(X, Y)


def test_wrong_input(watched):
    bad = X.copy()
    bad[3, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        DynamicSubspaceEmbedding().fit(bad, Y)
    with pytest.raises(ValueError, match="NaN"):
        watched.transform(bad)
    with pytest.raises(ValueError, match="continuous"):
        DynamicSubspaceEmbedding().fit(X, Y + 0.5)
    with pytest.raises(TypeError, match="[Ss]parse"):
        import scipy.sparse

        DynamicSubspaceEmbedding().fit(scipy.sparse.csr_array(X), Y)
    with pytest.raises(ValueError, match="samples of shape"):
        DynamicSubspaceEmbedding(16, max_iter=1).fit(IMAGES, Y).transform(IMAGES[:, :, :6])


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_all_or_none_of_the_epochs_together(fraction):
    model = DynamicSubspaceEmbedding(**SMALL | {"max_iter": 12}, finetune_fraction=fraction).fit(
        X, Y
    )
    assert (model.n_learners_ == 1) == (fraction == 1.0)
    assert model.score(X, Y) > 0.8
