"""Manifold linearizing and clustering: subspaces, stages, number of clusters, refusals."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.metrics import coding_rate, rate_reduction  # noqa: E402
from sklr.neural_network import ManifoldLinearizingClustering  # noqa: E402
from sklr.neural_network._membership import _leading_vectors, membership  # noqa: E402
from sklr.nn import GaussianNoise, RandomAffine2d, doubly_stochastic  # noqa: E402

QUICK = {
    "n_components": 16,
    "hidden_dim": 64,
    "warmup_iter": 10,
    "max_iter": 3,
    "random_state": 0,
}


def subspaces(n=60, k=3, r=2, d=12, seed=0):
    """Samples of k random r-dimensional subspaces."""
    rng = np.random.default_rng(seed)
    bases = rng.standard_normal((k, r, d))
    labels = np.repeat(np.arange(k), n)
    X = np.concatenate([rng.standard_normal((n, r)) @ basis for basis in bases])
    return X, labels


def accuracy(y, labels):
    """Share of samples that agree under the best matching of clusters to classes."""
    table = np.zeros((labels.max() + 1, y.max() + 1))
    np.add.at(table, (labels, y), 1)
    rows, columns = linear_sum_assignment(-table)
    return table[rows, columns].sum() / len(y)


def test_independent_subspaces_are_found_by_a_linear_network():
    # With some other data a cluster keeps a third direction, and rounding decides which.
    X, y = subspaces(seed=2)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    model = ManifoldLinearizingClustering(
        3, 12, module=torch.nn.Identity(), warmup_iter=100, warmup_learning_rate=0.01,
        max_iter=200, learning_rate=0.05, random_state=0,
    )  # fmt: skip
    model.fit(X)
    assert accuracy(y, model.labels_) == 1.0
    assert np.array_equal(model.predict(X), model.labels_)
    assert [len(basis) for basis in model.subspaces_] == [2, 2, 2]
    rng = np.random.default_rng(9)  # new samples of the same subspaces
    new = np.concatenate([rng.standard_normal((20, 60)) @ X[y == k] for k in range(3)])
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    assert accuracy(np.repeat([0, 1, 2], 20), model.predict(new)) == 1.0
    assert rate_reduction(model.embedding_, model.labels_) > rate_reduction(X, y)


def test_digits_are_clustered_better_than_by_k_means():
    """The claim of the paper at the smallest scale; measured: .91, k-means .79."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    affine = RandomAffine2d(15, (0.75, 1.25), 0.25, 0.1, (1, 1), image_shape=(1, 8, 8))
    noise = GaussianNoise(0.05)

    def augment(batch, generator):
        return noise(affine(batch, generator), generator)

    model = ManifoldLinearizingClustering(
        10, 32, hidden_dim=256, augment=augment, warmup_iter=40, random_state=0
    )
    labels = model.fit_predict(X)
    baseline = KMeans(10, n_init=10, random_state=0).fit_predict(X)
    assert accuracy(y, labels) > accuracy(y, baseline) + 0.06
    assert normalized_mutual_info_score(y, labels) > normalized_mutual_info_score(y, baseline)
    assert (model.predict(X) == labels).mean() > 0.97


def test_attributes_fit_together():
    X, _ = subspaces(20)
    model = ManifoldLinearizingClustering(3, **QUICK).fit(X)
    Z = model.transform(X)
    assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-12)
    assert_allclose(Z, model.embedding_, rtol=1e-12, atol=1e-12)
    assert model.n_iter_ == len(model.loss_curve_) == 13
    G = model.membership_
    assert G.shape == (60, 60) and np.array_equal(G, G.T)
    assert_allclose(G.sum(axis=0), 1, atol=1e-5)
    wanted = doubly_stochastic(torch.tensor(model.codes_), model.eta, 2001).numpy()
    assert_allclose(G, wanted, atol=1e-5)
    for basis in model.subspaces_:
        assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-10)
    assert set(model.labels_) == set(range(model.n_clusters_))
    assert model.labels_[0] == 0  # numbered by first appearance
    assert not hasattr(model, "coding_lengths_")
    names = model.get_feature_names_out()
    assert len(names) == 16 and names[0] == "manifoldlinearizingclustering0"


def test_first_stage_raises_the_coding_rate():
    X, _ = subspaces()
    rates = []

    class Watch:
        def on_epoch_end(self, estimator, info):
            with torch.no_grad():
                Z = info["module"].eval()["features"](torch.tensor(X, dtype=torch.float32))
            info["module"].train()
            Z = torch.nn.functional.normalize(Z, dim=1).double().numpy()
            rates.append(coding_rate(Z, 0.1))

    ManifoldLinearizingClustering(
        3, **QUICK | {"warmup_iter": 15, "max_iter": 1}, callbacks=[Watch()]
    ).fit(X)
    assert rates[14] > rates[0] + 1
    assert np.mean(np.diff(rates[:15]) > 0) > 0.6


def test_codes_begin_as_features():
    X, _ = subspaces(20)
    model = ManifoldLinearizingClustering(3, **QUICK | {"max_iter": 1, "learning_rate": 1e-12})
    model.fit(X)
    assert_allclose(model.codes_, model.embedding_, atol=1e-6)


def test_number_of_clusters_by_coding_length():
    X = np.zeros((120, 12))
    rng = np.random.default_rng(0)
    for k in range(4):
        X[30 * k : 30 * (k + 1), 3 * k : 3 * k + 2] = rng.standard_normal((30, 2))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    model = ManifoldLinearizingClustering(
        n_components=12, module=torch.nn.Identity(), warmup_iter=100, warmup_learning_rate=0.01,
        max_iter=100, learning_rate=0.02, max_clusters=8, random_state=0,
    ).fit(X)  # fmt: skip
    assert model.n_clusters_ == 4
    assert min(model.coding_lengths_, key=model.coding_lengths_.get) == 4
    assert sorted(model.coding_lengths_) == list(range(1, 9))
    assert accuracy(np.repeat(np.arange(4), 30), model.labels_) == 1.0


def test_the_same_seed_gives_the_same_labels_and_bits():
    X, _ = subspaces(20)
    model = ManifoldLinearizingClustering(3, **QUICK, augment="gaussian")
    state = torch.random.get_rng_state()
    one, two = clone(model).fit(X), clone(model).fit(X)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(one.labels_, two.labels_)
    assert np.array_equal(one.embedding_, two.embedding_)
    again = pickle.loads(pickle.dumps(one))
    assert np.array_equal(again.predict(X), one.predict(X))
    assert np.array_equal(again.membership_, one.membership_)


def test_many_samples_are_clustered_by_some_of_them(monkeypatch):
    from sklr.neural_network import _membership

    X, y = subspaces()
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    model = ManifoldLinearizingClustering(
        3, 12, module=torch.nn.Identity(), warmup_iter=100, warmup_learning_rate=0.01,
        max_iter=200, learning_rate=0.05, random_state=0,
    )  # fmt: skip
    monkeypatch.setattr(_membership, "MOST", 60)
    assert accuracy(y, model.fit_predict(X)) == 1.0


def test_images_with_a_backbone_of_ones_own():
    X = load_digits().data[:60].reshape(-1, 1, 8, 8) / 16
    backbone = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    before = backbone[0].weight.clone()
    model = ManifoldLinearizingClustering(
        3, **QUICK, module=backbone, augment=RandomAffine2d()
    ).fit(X)
    assert model.transform(X).shape == (60, 16)
    assert torch.equal(backbone[0].weight, before)
    assert clone(model).module is not backbone


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"batch_size": 50}, "batch_size=50 is more than the n_samples=30"),
        ({"n_clusters": 31}, "n_clusters=31 is more than the n_samples=30"),
        ({"eta": 0.0}, "'eta' parameter of ManifoldLinearizingClustering must be"),
        ({"augment": "flip"}, "'augment' parameter"),
        ({"device": "nowhere"}, "device='nowhere' does not exist"),
        ({"module": torch.nn.Linear(3, 2)}, "module cannot take samples"),
        ({"warmup_learning_rate": 1e30}, "the loss became nan in epoch 2; lower"),
    ],
)
def test_bad_input(parameters, message):
    X, _ = subspaces(10)
    model = ManifoldLinearizingClustering(**{"n_clusters": 3} | QUICK | parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert not [name for name in vars(model) if name.endswith("_")]


def test_a_membership_that_leaves_each_sample_alone_is_cut_nevertheless():
    # Nearly the identity: LAPACK, asked for the last two of its vectors, returned none.
    codes = np.random.default_rng(0).standard_normal((60, 8))
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    for eta in (1e-4, 1e-3, 1e-2):
        share = membership(codes, eta)
        vectors = _leading_vectors(share, 2, np.random.RandomState(0))
        assert vectors.shape == (60, 2)
        assert_allclose(share @ vectors, vectors, atol=1e-3)  # values near 1
