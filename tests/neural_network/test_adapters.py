"""The classifier that adapts a trained network with few numbers."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._modules import mlp  # noqa: E402
from sklr.neural_network import AdapterClassifier  # noqa: E402
from sklr.neural_network._adapters import RATES  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn.adapters import disabled_adapter, save_adapter  # noqa: E402

X, Y = load_digits(return_X_y=True)
X = X / 16
MIRRORED = np.ascontiguousarray(X.reshape(-1, 8, 8)[:, :, ::-1]).reshape(-1, 64)
KINDS = [kind for kind in RATES if kind not in ("head", "full")]


@pytest.fixture(scope="module")
def trained():
    base = PerceptronClassifier(lambda n: mlp(n, (32, 32), 10), max_iter=12, learning_rate=0.01)
    return base.set_params(random_state=0).fit(X[:900], Y[:900]).module_


def fit(module, **params):
    given = {"learning_rate": 0.01, "max_iter": 12, "random_state": 0} | params
    return AdapterClassifier(module, **given).fit(MIRRORED[900:1100], Y[900:1100])


def state_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.mark.parametrize("adapter", RATES)
def test_a_trained_network_learns_a_new_domain(trained, adapter):
    before, flags = state_of(trained), [p.requires_grad for p in trained.parameters()]
    given = fit(trained, adapter=adapter, learning_rate=0.03 if adapter == "full" else 0.01)
    first = AdapterClassifier(trained, adapter="head", learning_rate=1e-9, max_iter=1)
    first = first.fit(MIRRORED[900:1100], Y[900:1100])
    test = MIRRORED[1100:], Y[1100:]
    assert given.score(*test) > first.score(*test) + (0.03 if adapter == "head" else 0.15)
    # The given network is as before, and what comes out is as plain.
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    assert [p.requires_grad for p in trained.parameters()] == flags
    assert given.module_.state_dict().keys() == before.keys()
    assert [type(p) for p in given.module_.modules()] == [type(p) for p in trained.modules()]
    assert all(p.requires_grad for p in given.module_.parameters())
    head = 32 * 10 + 10
    everything = sum(p.numel() for p in trained.parameters())
    assert given.n_total_ == everything
    trained_numbers = {
        "head": head,
        "full": everything,
        "lora": head + 8 * (96 + 64),
        "block_lora": head + 4 * (96 + 64),
        "svfit": head + 64,
        "loldu": head + 66,
        "flora": head + 8 * (96 + 64) + 2 * 64,
    }
    assert given.n_trainable_ == trained_numbers[adapter]
    assert len(given.adapter_report_) == (2 if adapter in KINDS else 0)


def test_merged_or_not_it_says_the_same(trained, tmp_path):
    merged, kept = (fit(trained, rank=4, merge=merge) for merge in (True, False))
    np.testing.assert_allclose(
        merged.predict_proba(MIRRORED), kept.predict_proba(MIRRORED), rtol=1e-3, atol=1e-5
    )
    again = pickle.loads(pickle.dumps(kept))
    np.testing.assert_array_equal(again.predict_proba(X), kept.predict_proba(X))
    with disabled_adapter(kept.module_):
        x = torch.from_numpy(X[:5]).float()
        torch.testing.assert_close(kept.module_(x), trained(x))
    save_adapter(kept.module_, tmp_path)


def test_a_new_head_begins_as_logistic_regression(trained):
    """So that a fit is no worse than the simplest baseline, a linear probe."""
    features = nn.Sequential(*list(trained)[:-1])
    for labels in (Y, Y % 2, np.where(Y > 4, "large", "small")):
        model = AdapterClassifier(features, adapter="head", learning_rate=1e-12, max_iter=1)
        model.fit(X[:300], labels[:300])
        with torch.no_grad():
            F = features(torch.from_numpy(X).float()).double().numpy()
        mean, std = F[:300].mean(axis=0), F[:300].std(axis=0)
        std[std == 0] = 1
        probe = LogisticRegression(max_iter=500, tol=1e-8).fit((F[:300] - mean) / std, labels[:300])
        found, wanted = model.predict_proba(X), probe.predict_proba((F - mean) / std)
        np.testing.assert_allclose(found, wanted, atol=2e-3)
        assert model.module_.head.out_features == len(np.unique(labels))


def test_one_grid_over_adapters_and_ranks(trained):
    model = AdapterClassifier(trained, max_iter=2, random_state=0)
    grid = {"adapter": list(RATES), "rank": [2]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise")
    search.fit(MIRRORED[900:1000], Y[900:1000])
    assert search.best_params_["adapter"] in RATES


def test_targets_and_heads(trained):
    assert [row["name"] for row in fit(trained, max_iter=1).adapter_report_] == ["0", "2"]
    one = fit(trained, max_iter=1, targets="2")
    assert [row["name"] for row in one.adapter_report_] == ["2"]
    # The head is adapted where it is named, instead of trained as a whole.
    all_ = fit(trained, max_iter=1, targets="all", rank=2)
    assert all_.n_trainable_ == 2 * (96 + 64 + 42)
    new = fit(trained, max_iter=1, head="new")
    assert [row["name"] for row in new.adapter_report_] == [
        *("features.0", "features.2", "features.4"),
    ]
    assert new.module_.head.in_features == 10
    few = AdapterClassifier(trained, max_iter=1).fit(X[:200], Y[:200] % 3)
    assert few.module_.head.out_features == 3
    with pytest.raises(ValueError, match="10 outputs of module for logits, and there are 3"):
        AdapterClassifier(trained, head="keep").fit(X[:200], Y[:200] % 3)


def test_the_default_is_a_perceptron():
    model, plain = (
        kind(max_iter=20, random_state=0).fit(X[:300], Y[:300])
        for kind in (AdapterClassifier, PerceptronClassifier)
    )
    assert model.score(X[300:], Y[300:]) > plain.score(X[300:], Y[300:]) - 0.02
    assert model.n_iter_ == model.max_iter == len(model.loss_curve_)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 12, padding_idx=0)
        self.inner = nn.Linear(12, 16)

    def forward(self, ids):
        mask = (ids != 0)[..., None]
        hidden = torch.tanh(self.inner(self.table(ids))) * mask
        return hidden.sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def test_token_ids_stay_integers():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 30, (300, 9))
    ids[:, 6:] *= rng.integers(0, 2, (300, 1))  # padding
    labels = (ids == 7).any(axis=1)
    model = AdapterClassifier(Tokens(), learning_rate=0.03, max_iter=30, random_state=0)
    model.fit(ids[:200], labels[:200])
    assert model.score(ids[200:], labels[200:]) > 0.9
    assert [row["name"] for row in model.adapter_report_] == ["features.table", "features.inner"]


@pytest.mark.parametrize("merge", [True, False])
def test_partial_fit_goes_on(trained, merge):
    model = AdapterClassifier(trained, merge=merge, learning_rate=0.01, random_state=0)
    for _ in range(8):
        model.partial_fit(MIRRORED[900:1100], Y[900:1100], classes=np.arange(10))
    assert model.n_iter_ == 8 and model.loss_curve_[-1] < model.loss_curve_[0] - 0.3
    model.set_params(max_iter=4).fit(MIRRORED[900:1100], Y[900:1100])
    loss = model.loss_curve_[-1]
    for _ in range(5):
        model.partial_fit(MIRRORED[900:1100], Y[900:1100])
    assert model.loss_curve_[-1] < loss
    before, scores = model.module_, model.predict_proba(X[:9])
    with pytest.raises(ValueError, match="rank was None .* is 2 now"):
        model.set_params(rank=2).partial_fit(MIRRORED[:50], Y[:50])
    assert model.module_ is before
    np.testing.assert_array_equal(model.predict_proba(X[:9]), scores)


def test_early_stopping_and_seeds(trained):
    one, other = (fit(trained, early_stopping=True, n_iter_no_change=2) for _ in range(2))
    np.testing.assert_array_equal(one.decision_function(X), other.decision_function(X))
    assert len(one.validation_scores_) == one.n_iter_


def test_refused(trained):
    def refused(message, error=ValueError, module=trained, **params):
        model = AdapterClassifier(module, **params)
        with pytest.raises(error, match=message):
            model.fit(X[:60], Y[:60])
        assert not hasattr(model, "module_")

    refused("between 1 and 32", rank=33)
    refused("between 1 and 64", module=None, rank=65)  # before the perceptron is trained
    refused("has no parameter 'r'", TypeError, adapter_params={"r": 4})
    refused("rank is a parameter of its own", adapter_params={"rank": 4})
    refused("has no adapter_params", adapter="head", adapter_params={"alpha": 4})
    refused("'query' matches no layer", targets="query")
    refused("adapter", adapter="dora")
    refused("must be a torch.nn.Module or a callable|callable", TypeError, module="bert")
    refused("rank must be None", rank="energy")
    params = clone(AdapterClassifier(trained, adapter_params={"alpha": 4})).get_params()
    assert params["adapter_params"] == {"alpha": 4}
    assert copy.deepcopy(fit(trained, max_iter=1)).score(X, Y) >= 0
