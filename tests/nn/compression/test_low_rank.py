"""The weighted decomposition, and the layers that stand for two matrices."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.compression import (  # noqa: E402
    LowRankConv,
    LowRankEmbedding,
    LowRankLinear,
    weighted_low_rank,
)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((8, 12))
    mixed = rng.standard_normal((12, 12)) @ np.diag(np.geomspace(1, 1e-2, 12))
    X = rng.standard_normal((200, 12)) @ mixed + rng.standard_normal(12)
    return W, X, X.T @ X / len(X)


def loss(W, M, X):
    return (((W - M) @ X.T) ** 2).sum() / len(X)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_error_is_the_dropped_spectrum_and_nothing_is_better(problem, rank):
    W, X, gram = problem
    A, B, s = weighted_low_rank(W, rank, right_gram=gram)
    M = (B @ A).numpy()
    assert A.shape == (rank, 12) and B.shape == (8, rank) and s.shape == (8,)
    assert_allclose(loss(W, M, X), float((s[rank:] ** 2).sum()), rtol=1e-10)
    U, t, Vh = np.linalg.svd(W)
    assert loss(W, M, X) <= loss(W, (U[:, :rank] * t[:rank]) @ Vh[:rank], X)
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = (B.numpy() + 1e-3 * rng.standard_normal(B.shape)) @ A.numpy()
        assert loss(W, M, X) <= loss(W, other, X)


def test_gram_diagonals_of_the_factors_are_the_singular_values(problem):
    W, _, gram = problem
    A, B, s = weighted_low_rank(W, 4, right_gram=gram)
    assert_allclose(B.T @ B, np.diag(s[:4]), atol=1e-10 * float(s[0]))
    assert_allclose(A @ torch.from_numpy(gram) @ A.T, np.diag(s[:4]), atol=1e-9 * float(s[0]))


def test_both_sides_by_vectors_and_by_grams_agree(problem):
    W, _, _ = problem
    left, right = np.linspace(0.5, 2, 8), np.linspace(0.1, 3, 12)
    vectors = weighted_low_rank(W, 3, left=left, right=right)
    grams = weighted_low_rank(W, 3, left_gram=np.diag(left**2), right_gram=np.diag(right**2))
    assert_allclose(vectors[1] @ vectors[0], grams[1] @ grams[0], atol=1e-12)
    assert_allclose(vectors[2], grams[2], rtol=1e-12)
    M = (vectors[1] @ vectors[0]).numpy()
    error = ((left[:, None] * (W - M) * right) ** 2).sum()
    assert_allclose(error, float((vectors[2][3:] ** 2).sum()), rtol=1e-12)


def test_without_weights_it_is_the_truncated_svd(problem):
    W, _, _ = problem
    A, B, s = weighted_low_rank(torch.from_numpy(W), 5)
    U, t, Vh = np.linalg.svd(W)
    assert_allclose(B @ A, (U[:, :5] * t[:5]) @ Vh[:5], atol=1e-12)
    A, B, _ = weighted_low_rank(W, 8)
    assert_allclose(B @ A, W, atol=1e-12)


def test_few_rows_leave_nothing_in_the_null_space():
    rng = np.random.default_rng(0)
    W, X = rng.standard_normal((6, 10)), rng.standard_normal((4, 10)) + 100
    A, B, s = weighted_low_rank(W, 6, right_gram=X.T @ X / 4)
    assert len(A) == 4 and torch.isfinite(A).all()
    null = np.linalg.svd(X)[2][4:]
    assert_allclose(A.numpy() @ null.T, 0, atol=1e-9)
    assert_allclose((B @ A).numpy() @ X.T, W @ X.T, rtol=1e-8)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"W": np.ones(3)}, "2 axes"),
        ({"W": np.array([[np.nan]])}, "W has NaN"),
        ({"rank": 0}, "rank"),
        ({"right": np.ones(3)}, r"\(12,\)"),
        ({"right": -np.ones(12)}, "negative"),
        ({"left": np.ones(8), "left_gram": np.eye(8)}, "give one"),
        ({"right_gram": np.triu(np.ones((12, 12)))}, "symmetric"),
        ({"right_gram": -np.eye(12)}, "semidefinite"),
    ],
)
def test_bad_input_is_named(problem, change, message):
    arguments = {"W": problem[0], "rank": 2, **change}
    with pytest.raises(ValueError, match=message):
        weighted_low_rank(arguments.pop("W"), arguments.pop("rank"), **arguments)


def test_low_rank_linear_is_one_linear_layer():
    torch.manual_seed(0)
    layer, x = LowRankLinear(5, 7, 2), torch.randn(3, 4, 5)
    one = layer.merge()
    assert type(one) is nn.Linear
    assert_allclose(layer(x).detach(), one(x).detach(), atol=1e-6)
    assert (layer.in_features, layer.out_features, layer.rank) == (5, 7, 2)
    assert list(layer.state_dict()) == ["down.weight", "up.weight", "up.bias"]
    assert LowRankLinear(5, 7, 2, bias=False).merge().bias is None


@pytest.mark.parametrize("make", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_layers_copy_and_pickle(make):
    layer = LowRankEmbedding(9, 6, 2, padding_idx=0)
    ids = torch.arange(9)
    assert torch.equal(make(layer)(ids), layer(ids))
    assert torch.equal(layer.weight, layer(ids))
    assert (layer.num_embeddings, layer.embedding_dim, layer.rank) == (9, 6, 2)


def test_padding_row_of_an_embedding_is_not_trained():
    layer = LowRankEmbedding(9, 6, 2, padding_idx=3)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.arange(9)).square().sum().backward()
    optimiser.step()
    assert torch.equal(layer(torch.tensor([3])), torch.zeros(1, 6))
    assert layer(torch.tensor([2])).abs().sum() > 0


def test_low_rank_conv_is_one_convolution():
    layer = LowRankConv(nn.Conv2d(3, 2, (3, 2), bias=False, stride=2), nn.Conv2d(2, 5, 1))
    x = torch.randn(2, 3, 8, 7)
    one = torch.nn.functional.conv2d(x, layer.weight, layer.bias, stride=2)
    assert_allclose(layer(x).detach(), one.detach(), atol=1e-5)
    assert layer.rank == 2


@pytest.mark.parametrize(
    "make", [lambda: LowRankLinear(6, 9, 2), lambda: LowRankEmbedding(9, 6, 2)]
)
def test_layers_compile_and_export(make):
    layer = make().eval()
    x = torch.randn(4, 6) if isinstance(layer, LowRankLinear) else torch.arange(4)
    with torch.no_grad():
        wanted = layer(x)
        exported = torch.export.export(layer, (x,)).module()(x)
        compiled = torch.compile(layer, backend="aot_eager")(x)
    assert_allclose(exported, wanted, atol=1e-6)
    assert_allclose(compiled, wanted, atol=1e-6)
