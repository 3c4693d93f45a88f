"""Atomic feature mimicking: the claim of the paper layer by layer, and its policy for decoders."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn._module_checks._cases import call, case_of  # noqa: E402
from sklr.nn.compression import (  # noqa: E402
    AtomicFeatureMimicking,
    LowRankDecomposition,
    WeightSVD,
    weighted_low_rank,
)


def one_layer(n_in=10, n_out=7, *, mean=3.0, n=400, bias=True):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(n_in, n_out, bias=bias).double()
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
    mixed = torch.randn(n_in, n_in, generator=generator).double()
    X = torch.randn(n, n_in, generator=generator).double() @ mixed + mean
    return layer, X


def outputs(layer, X):
    with torch.no_grad():
        return layer(X)


@pytest.mark.parametrize("shape", [(10, 7), (5, 12)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_error_is_the_variance_that_is_dropped(shape, rank):
    layer, X = one_layer(*shape)
    afm = AtomicFeatureMimicking(rank, targets="all").fit(layer, X)
    made = afm.transform(layer)
    Y, Y_hat = outputs(layer, X), outputs(made, X)
    error = float(((Y - Y_hat) ** 2).sum(dim=1).mean())
    assert_allclose(error, afm.error_[""], rtol=1e-12)
    variances = np.linalg.eigvalsh(np.cov(Y.numpy().T, bias=True))[::-1]
    assert_allclose(error, variances[rank:].sum(), rtol=1e-10)
    assert_allclose(Y_hat.mean(dim=0), Y.mean(dim=0), rtol=1e-12)
    assert_allclose(afm.explained_variance_ratio_[""].sum(), 1)


def test_outputs_are_those_of_scikit_learns_pca():
    layer, X = one_layer()
    made = AtomicFeatureMimicking(3).fit(layer, X).transform(layer)
    Y = outputs(layer, X).numpy()
    pca = PCA(3).fit(Y)
    assert_allclose(outputs(made, X), pca.inverse_transform(pca.transform(Y)), atol=1e-8)


def test_no_other_map_of_the_rank_is_better():
    layer, X = one_layer()
    Y = outputs(layer, X)
    made = AtomicFeatureMimicking(3).fit(layer, X).transform(layer)

    def error(module):
        return float((outputs(module, X) - Y).square().sum(dim=1).mean())

    best = error(made)
    for scaling in (None, "activation", "whitening"):
        other = WeightSVD(3, scaling=scaling).fit(layer, X).transform(layer)
        assert best < error(other)
        # Also with the mean put right.
        with torch.no_grad():
            other.up.bias += (Y - other(X)).mean(dim=0)
        assert best < error(other)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        with torch.no_grad():
            noise = 1e-3 * torch.randn(made.up.weight.shape, generator=generator).double()
            made.up.weight += noise
            assert error(made) >= best
            made.up.weight -= noise


def test_a_linear_change_of_the_inputs_changes_nothing():
    """Plain SVD of the weight does not have this."""
    layer, X = one_layer(mean=0.0)
    T = torch.randn(10, 10, generator=torch.Generator().manual_seed(2)).double()
    changed = nn.Linear(10, 7).double()
    with torch.no_grad():
        changed.weight.copy_(layer.weight @ torch.linalg.inv(T))
        changed.bias.copy_(layer.bias)
    for method, same in ((AtomicFeatureMimicking(3), True), (WeightSVD(3), False)):
        one = outputs(method.fit(layer, X).transform(layer), X)
        other = outputs(method.fit(changed, X @ T.T).transform(changed), X @ T.T)
        assert bool(torch.allclose(one, other, rtol=1e-8)) is same


def test_error_falls_with_the_rank_and_affine_outputs_are_exact():
    layer, X = one_layer(30, 24)
    errors = [AtomicFeatureMimicking(r).fit(layer, X).error_[""] for r in (1, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True)
    flat = torch.randn(400, 4).double() @ torch.randn(4, 30).double() + 5
    made = AtomicFeatureMimicking(4).fit(layer, flat).transform(layer)
    assert_allclose(outputs(made, flat), outputs(layer, flat), atol=1e-9)


def test_rank_goes_no_further_than_the_outputs():
    layer, _ = one_layer(40, 40)
    X = torch.randn(400, 3).double() @ torch.randn(3, 40).double()
    assert AtomicFeatureMimicking(12).fit(layer, X).ranks_ == {"": 3}
    # Outputs that never vary, of inputs that do, become a constant.
    constant = nn.Linear(40, 60).double()
    nn.init.zeros_(constant.weight)
    made = AtomicFeatureMimicking(12).fit(constant, X).transform(constant)
    assert_allclose(outputs(made, X), outputs(constant, X), atol=1e-12)


def test_balanced_matrices_give_the_same_outputs():
    layer, X = one_layer()
    plain = AtomicFeatureMimicking(3).fit(layer, X).transform(layer)
    balanced = AtomicFeatureMimicking(3, balanced=True).fit(layer, X).transform(layer)
    assert_allclose(outputs(balanced, X), outputs(plain, X), atol=1e-10)
    norms = balanced.down.weight.norm(dim=1), balanced.up.weight.norm(dim=0)
    assert_allclose(norms[0].detach(), norms[1].detach(), rtol=1e-10)
    U = plain.up.weight.detach()
    assert_allclose(U.T @ U, np.eye(3), atol=1e-12)


def test_embedding_counts_what_is_looked_up_and_unseen_rows_are_finite():
    table = nn.Embedding(30, 6).double()
    ids = torch.randint(0, 20, (500,), generator=torch.Generator().manual_seed(0)) ** 2 // 20
    afm = AtomicFeatureMimicking(2, targets="all").fit(table, ids)
    made = afm.transform(table)
    error = (outputs(table, ids) - outputs(made, ids)).square().sum(dim=1).mean()
    assert_allclose(float(error), afm.error_[""], rtol=1e-10)
    pca = PCA(2).fit(outputs(table, ids).numpy())
    unseen = outputs(table, torch.arange(25, 30)).numpy()
    wanted = pca.inverse_transform(pca.transform(unseen))
    assert_allclose(outputs(made, torch.arange(25, 30)), wanted, atol=1e-8)


def test_fewer_accuracy_is_lost_than_by_plain_svd_on_digits():
    """The paper's claim, small: outputs are of low rank, weights are not; nothing is trained."""
    X, y = load_digits(return_X_y=True)
    X, y = torch.tensor(X / 16).float(), torch.tensor(y)
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU())
    network.append(nn.Linear(96, 10))
    with torch.no_grad():
        for part in network:
            if isinstance(part, nn.Linear):
                std = (2 / part.in_features) ** 0.5
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * std)
                part.bias.zero_()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[:1200]), y[:1200]).backward()
        optimizer.step()

    def accuracy(module):
        return float((outputs(module, X[1200:]).argmax(dim=1) == y[1200:]).double().mean())

    svd, afm = (
        method.fit(network, X[:1200]).transform(network)
        for method in (WeightSVD(6), AtomicFeatureMimicking(6))
    )
    assert accuracy(network) > 0.9
    assert accuracy(afm) > accuracy(svd) + 0.1


# The policy for decoders.


def test_without_the_policy_both_are_the_same():
    layer, X = one_layer()
    one = AtomicFeatureMimicking(3).fit(layer, X).transform(layer)
    other = LowRankDecomposition(3, bias=True, targets="all").fit(layer, X).transform(layer)
    assert_allclose(outputs(one, X), outputs(other, X), atol=1e-8)


@pytest.mark.parametrize("shape", [(10, 7), (5, 12)])
def test_without_a_bias_it_is_the_weighted_decomposition(shape):
    layer, X = one_layer(*shape, bias=False)
    made = LowRankDecomposition(3, bias=False).fit(layer, X).transform(layer)
    A, B, _ = weighted_low_rank(layer.weight, 3, right_gram=X.T @ X / len(X))
    assert made.bias is None
    assert_allclose(made.weight.detach(), B @ A, atol=1e-9)


def test_a_bias_comes_where_the_mean_needs_one():
    far, X = one_layer(bias=False, mean=3.0)
    assert LowRankDecomposition(3).fit(far, X).transform(far).bias is not None
    centred = X - X.mean(dim=0)
    assert LowRankDecomposition(3).fit(far, centred).transform(far).bias is None


class Blocks(nn.Module):
    """Two blocks: what `tame` says is of rank 2, what `wild` says is not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"tame": nn.Linear(16, 16), "wild": nn.Linear(16, 16)}) for _ in range(2)
        )
        for block in self.blocks:
            with torch.no_grad():
                block["tame"].weight.copy_(torch.randn(16, 2) @ torch.randn(2, 16) / 8)
                nn.init.orthogonal_(block["wild"].weight)
        self.head = nn.Linear(16, 16)

    def forward(self, x):
        for block in self.blocks:
            x = block["wild"](x) + block["tame"](x)
        return self.head(x)


def test_layers_that_cannot_bear_it_stay_as_they_are():
    network, X = Blocks(), torch.randn(500, 16)
    wanted = outputs(network, X)
    calls = []

    def score(module):
        calls.append(module)
        return 1.0 + float((outputs(module, X) - wanted).square().mean())

    lord = LowRankDecomposition(4, select="sensitivity", score_fn=score).fit(network, X)
    assert lord.selected_ == ["blocks.0.tame", "blocks.1.tame"]
    table = {row["group"]: row for row in lord.sensitivity_table_}
    assert set(table) == {"blocks.*.tame", "blocks.*.wild"}
    assert table["blocks.*.tame"]["selected"] and not table["blocks.*.wild"]["selected"]
    assert table["blocks.*.wild"]["relative_loss"] > 0.01
    assert len(calls) == 3
    made = lord.transform(network)
    assert sum(p.numel() for p in made.parameters()) == lord.n_params_after_
    assert_allclose(outputs(made, X), wanted, atol=1e-4)
    reasons = {row["name"]: row["reason"] for row in lord.report_}
    assert "gets worse by" in reasons["blocks.0.wild"]


@pytest.mark.parametrize(
    "params, message",
    [
        ({"select": "sensitivity"}, "needs score_fn"),
        ({"select": "sensitivity", "score_fn": lambda m: float("nan")}, "score_fn returns nan"),
        ({"select": "other"}, "select"),
        ({"multiple_of": 0}, "multiple_of"),
        ({"tolerance": -1}, "tolerance"),
    ],
)
def test_policies_that_cannot_be_are_refused(params, message):
    case = case_of("perceptron")
    with pytest.raises(ValueError, match=message):
        LowRankDecomposition(2, **params).fit(case.make(torch.float64), case.data())


def test_ranks_are_multiples_and_the_result_trains():
    network, X = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3)), None
    X = torch.randn(300, 64)
    lord = LowRankDecomposition(0.9, multiple_of=8).fit(network, X)
    assert lord.ranks_ == {"0": 24, "1": 24}
    made = lord.transform(network)
    made(X).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
    assert torch.isfinite(call(made, X.numpy())).all()


def test_data_that_hardly_vary_are_said():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 30), nn.Linear(30, 3))
    X = torch.randn(5, 20).repeat(40, 1)
    with pytest.warns(UserWarning, match=r"0 \(200 rows, 5 of them differ, 20 directions\)"):
        AtomicFeatureMimicking(3).fit(network, X)
    # Rounding of a network that runs in batches makes no new rows.
    with pytest.raises(ValueError, match="the 200 rows of outputs of layer '2' on X"):
        AtomicFeatureMimicking(3, targets=["2"], batch_size=7).fit(network, X[:1].repeat(200, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AtomicFeatureMimicking(3).fit(network, torch.randn(40, 20) * 1e-3 + 10)
        AtomicFeatureMimicking(3).fit(network.bfloat16(), torch.randn(200, 20).bfloat16())


def test_a_layer_that_always_sees_the_same_stays():
    """As the token types of sentences that are all of the first type."""

    class TwoTables(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(30, 8)
            self.types = nn.Embedding(6, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, ids):
            return self.head(self.words(ids) + self.types(torch.zeros_like(ids)))

    ids = torch.arange(60).reshape(10, 6) % 30
    afm = AtomicFeatureMimicking(2).fit(TwoTables(), ids)
    rows = {row["name"]: row for row in afm.report_}
    assert rows["types"]["status"] == "kept"
    assert rows["types"]["reason"] == "the 60 rows of its inputs on X are all equal"
    assert rows["words"]["status"] == "compressed"
