"""A classifier that is a seed and a few numbers."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._subspace import TorchSubspace  # noqa: E402
from sklr.geometry import RandomSubspace  # noqa: E402
from sklr.neural_network import SubspaceClassifier  # noqa: E402

X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 16, Y[:300]


@pytest.mark.parametrize("kind", ["dense", "sparse", "fastfood"])
def test_tensors_go_through_the_same_map(kind, monkeypatch):
    subspace = RandomSubspace(100, 7, projection=kind, random_state=0)
    z, g = torch.randn(7, dtype=torch.float64), torch.randn(100, dtype=torch.float64)
    made = TorchSubspace(subspace, torch.device("cpu"))
    assert_allclose(made.forward(z), subspace.forward(z.numpy()), atol=1e-13)
    assert_allclose(made.adjoint(g), subspace.adjoint(g.numpy()), atol=1e-13)
    # What runs on other devices, here on this one.
    other = TorchSubspace(subspace, torch.device("cpu", 0))
    other._own = False
    if kind == "sparse":
        rows = subspace._adjoint
        other._P = torch.from_numpy(rows.toarray())
        other._Pt = other._P.T
    elif kind == "fastfood":
        for name in ("_signs", "_places", "_scale"):
            value = torch.from_numpy(getattr(subspace, name))
            setattr(other, name, value.long() if name == "_places" else value)
    assert_allclose(other.forward(z), made.forward(z), atol=1e-12)
    assert_allclose(other.adjoint(g), made.adjoint(g), atol=1e-12)


def test_gradient_of_z_is_the_adjoint_of_the_networks():
    found = SubspaceClassifier(6, hidden_layer_sizes=(5,), max_iter=1, dtype="float64")
    found.set_params(random_state=0, batch_size=300).fit(X, Y)
    module = found.module_
    origin = found._first_weights(module, 10)
    P = torch.from_numpy(found._subspace(found.n_parameters_, torch.float64).to_dense())
    data, labels = torch.from_numpy(X), torch.from_numpy(Y)
    z = torch.from_numpy(found.coef_).requires_grad_()
    place, first, named = origin + P @ z, 0, {}
    for name, p in module.network.named_parameters():
        named[name] = place[first : first + p.numel()].reshape(p.shape)
        first += p.numel()
    loss = nn.functional.cross_entropy(
        torch.func.functional_call(module.network, named, (data,)), labels
    )
    (wanted,) = torch.autograd.grad(loss, z)
    module.zero_grad()
    nn.functional.cross_entropy(module(data), labels).backward()
    got = TorchSubspace(found._subspace(found.n_parameters_, torch.float64), z.device)
    assert_allclose(got.adjoint(module.gradient()), wanted, atol=1e-12)
    for name, p in module.network.named_parameters():
        assert_allclose(p.detach(), named[name].detach(), atol=1e-14)


def test_more_dimensions_learn_more_and_none_is_the_network():
    scores = {
        d: SubspaceClassifier(d, hidden_layer_sizes=(20,), max_iter=30, random_state=0)
        .fit(X, Y)
        .score(X, Y)
        for d in (5, 80)
    }
    assert scores[80] > scores[5] + 0.2 and scores[80] > 0.6
    whole = SubspaceClassifier(None, learning_rate=0.01, hidden_layer_sizes=(20,), random_state=0)
    whole.fit(X, Y)
    assert whole.score(X, Y) > 0.95 and whole.compression_ratio_ == 1
    with pytest.raises(AttributeError):
        whole.coef_  # noqa: B018
    with pytest.raises(ValueError, match="nothing shorter"):
        whole.compressed_state()


@pytest.mark.parametrize("kind", ["dense", "fastfood"])
def test_seed_and_z_are_the_model(kind, tmp_path):
    params = {"projection": kind, "hidden_layer_sizes": (12,), "max_iter": 5}
    found = SubspaceClassifier(15, random_state=3, **params).fit(X, Y)
    state = found.compressed_state()
    assert state["z"].shape == (15,)
    assert list(state["buffers"]) == ["network.scale.mean", "network.scale.scale"]
    other = SubspaceClassifier(15, **params).load_compressed_state(state)
    wanted = found.predict_proba(X[:20])
    assert np.array_equal(other.predict_proba(X[:20]), wanted)
    assert np.array_equal(pickle.loads(pickle.dumps(other)).predict_proba(X[:20]), wanted)
    # In a fresh process, from text.
    buffers = {name: value.tolist() for name, value in state["buffers"].items()}
    (tmp_path / "state.json").write_text(json.dumps([state["seed"], state["z"].tolist(), buffers]))
    np.save(tmp_path / "X.npy", X[:20])
    code = f"""
import json, numpy as np
from sklr.neural_network import SubspaceClassifier
seed, z, buffers = json.load(open("state.json"))
state = dict(seed=seed, z=np.array(z, dtype=np.float32), classes=np.arange(10),
             sample_shape=(64,), buffers=buffers)
made = SubspaceClassifier(15, **{params!r}).load_compressed_state(state)
np.save("P.npy", made.predict_proba(np.load("X.npy")))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert_allclose(np.load(tmp_path / "P.npy"), wanted, atol=1e-12)
    with pytest.raises(ValueError, match="the state has 15 components"):
        SubspaceClassifier(14, **params).load_compressed_state(state)
    other = SubspaceClassifier(15, **params)
    with pytest.raises(ValueError, match=r"buffers must be .*'network.scale.mean': \(64,\)"):
        other.load_compressed_state({**state, "buffers": {}})
    assert not hasattr(other, "module_")
    with pytest.raises(ValueError, match="state must have"):
        SubspaceClassifier(15).load_compressed_state({"z": state["z"]})


def test_a_given_module_with_buffers_and_frozen_weights():
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10)))
    network[0].weight.requires_grad_(False)
    found = SubspaceClassifier(30, module=network, max_iter=10, random_state=0).fit(X, Y)
    assert found.n_parameters_ == 12 + 24 + 130
    assert torch.equal(found.module_.network[0].weight, network[0].weight)
    again = SubspaceClassifier(30, module=network).load_compressed_state(found.compressed_state())
    assert_allclose(again.predict_proba(X[:9]), found.predict_proba(X[:9]), atol=1e-12)


def test_partial_fit_goes_on_in_the_same_subspace():
    found = SubspaceClassifier(10, hidden_layer_sizes=(8,), random_state=0, max_iter=2).fit(X, Y)
    before = found.coef_
    found.partial_fit(X, Y)
    assert not np.array_equal(found.coef_, before)
    state = found.compressed_state()
    other = SubspaceClassifier(10, hidden_layer_sizes=(8,)).load_compressed_state(state)
    assert_allclose(other.predict_proba(X[:9]), found.predict_proba(X[:9]), atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match="n_components=1000 is more than the 554 trainable"):
        SubspaceClassifier(1000, hidden_layer_sizes=(8,)).fit(X[:, :57], Y)
    with pytest.raises(ValueError, match="n_components"):
        SubspaceClassifier(0).fit(X, Y)
