"""Pruning by the inverse Fisher matrix: the quadratic model, masks, patterns, digits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn._module_checks._cases import case_of  # noqa: E402
from sklr.nn.compression import MFACPruner  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 12)) @ RNG.standard_normal((12, 12))
Y = np.arange(80) % 3


def linear():
    torch.manual_seed(0)
    return nn.Linear(12, 3).double()


def weights(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters() if p.ndim > 1]).numpy()


def fisher(module, damping):
    """The damped Fisher matrix of the weights, from a loop over samples."""
    rows = []
    for x, y in zip(torch.from_numpy(X), torch.from_numpy(Y)):
        module.zero_grad()
        nn.functional.cross_entropy(module(x[None]), y[None]).backward()
        rows.append(module.weight.grad.reshape(-1).numpy().copy())
    G = np.array(rows)
    return damping * np.eye(G.shape[1]) + G.T @ G / len(G)


def test_one_step_is_optimal_brain_surgeon():
    network, damping = linear(), 0.01
    inverse, w = np.linalg.inv(fisher(network, damping)), weights(network)
    scores = w**2 / (2 * np.diag(inverse))
    gone = np.argsort(scores)[:18]
    params = {"n_recomputations": 1, "damping": damping, "targets": "all"}
    joint = MFACPruner(0.5, **params).fit(network, X, Y)
    single = MFACPruner(0.5, joint=False, **params).fit(network, X, Y)
    for found in (joint, single):
        assert_allclose(found.scores_[""].reshape(-1), scores, rtol=1e-9)
        assert set(np.flatnonzero(~found.mask_[""])) == set(gone)
    wanted = w - inverse[:, gone] @ np.linalg.solve(inverse[np.ix_(gone, gone)], w[gone])
    wanted[gone] = 0
    assert_allclose(weights(joint.transform(network)), wanted, atol=1e-11)
    moved = w - inverse[:, gone] @ (w[gone] / np.diag(inverse)[gone])
    moved[gone] = 0
    assert_allclose(weights(single.transform(network)), moved, atol=1e-11)


def test_joint_update_is_the_least_rise_of_the_quadratic_model():
    """The rise is w_S' (F^-1[S,S])^-1 w_S / 2, below that of single moves and of none."""
    network, damping = linear(), 0.1
    F, w = fisher(network, damping), weights(network)
    rises = {}
    for joint in (True, False):
        found = MFACPruner(
            0.6, n_recomputations=1, damping=damping, targets="all", joint=joint
        ).fit(network, X, Y)
        step = weights(found.transform(network)) - w
        rises[joint] = 0.5 * step @ F @ step
    gone = ~found.mask_[""].reshape(-1)
    S = np.linalg.inv(F)[np.ix_(gone, gone)]
    assert rises[True] == pytest.approx(0.5 * w[gone] @ np.linalg.solve(S, w[gone]), rel=1e-9)
    plain = np.where(gone, -w, 0)
    assert rises[True] < rises[False] < 0.5 * plain @ F @ plain


def test_zeros_that_are_there_go_first_and_cost_nothing():
    network = linear()
    with torch.no_grad():
        network.weight[:, ::2] = 0
    found = MFACPruner(0.5, targets="all", random_state=0).fit(network, X, Y)
    assert_allclose(weights(found.transform(network)), weights(network))
    assert found.report_[0]["status"] == "kept" and found.sparsity_ == 0.5
    assert found.pruned_loss_ == found.loss_


@pytest.mark.parametrize("case", ["perceptron", "convolution", "Conv1D"])
def test_patterns(case):
    case = case_of(case)
    network = case.make(torch.float64).eval()
    data, labels = case.data(), case.labels()
    found = MFACPruner("1:2", targets="all", n_recomputations=3).fit(network, data, labels)
    assert found.sparsity_ == 0.5
    for name, mask in found.mask_.items():
        mask = mask.T if case.name == "Conv1D" and name in ("0", "2") else mask
        assert (mask.reshape(-1, 2).sum(axis=1) == 1).all(), name


def test_results_say_what_is_there():
    network = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    found = MFACPruner(0.75, random_state=0, n_gradients=40, samples_per_gradient=2)
    made = found.fit(network, X, Y).transform(network)
    assert set(found.mask_) == {"0"}  # the head is left
    assert_allclose(made[0].weight.detach().numpy() != 0, found.mask_["0"])
    assert found.sparsity_ == 0.75 and found.n_nonzero_ == 131 - 72
    assert torch.equal(made[2].weight, network[2].weight)
    again = MFACPruner(0.75, random_state=0, n_gradients=40, samples_per_gradient=2, batch_size=7)
    assert_allclose(weights(again.fit(network, X, Y).transform(network)), weights(made), atol=1e-10)
    named = MFACPruner(0.5, targets=["2"]).fit(network, X, Y)
    assert set(named.mask_) == {"2"}


def test_refusals():
    network = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))
    for params, message in (
        ({"sparsity": "2:4:1"}, "sparsity must be a share"),
        ({"sparsity": "4:2"}, "sparsity must be a share"),
        ({"sparsity": 1.0}, "sparsity"),
        (
            {"sparsity": "1:2", "targets": "all"},
            "layer '2' has 9 inputs, which are no multiple of 2",
        ),
        ({"max_memory": 1e-9}, "80 gradients of 108 weights take"),
        ({"damping": 0.0}, "damping"),
    ):
        with pytest.raises(ValueError, match=message):
            MFACPruner(**params).fit(network, X, Y)


def test_digits_at_ninety_percent_keep_what_magnitude_loses():
    """M-FAC's claim, small: far above magnitude pruning, near the dense network."""
    data, labels = load_digits(return_X_y=True)
    A, B, a, b = train_test_split(data / 16, labels, test_size=0.3, stratify=labels, random_state=0)
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    )
    step = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(300):
        step.zero_grad()
        nn.functional.cross_entropy(
            network(torch.from_numpy(A).float()), torch.from_numpy(a)
        ).backward()
        step.step()

    def accuracy(module):
        with torch.no_grad():
            return (module(torch.from_numpy(B).float()).argmax(1).numpy() == b).mean()

    pruner = MFACPruner(targets="all", n_gradients=256, n_recomputations=4, random_state=0)
    made = pruner.fit(network, A, a).transform(network)
    by_size = MFACPruner(targets="all", damping=1e9, n_recomputations=1).fit(network, A, a)
    assert accuracy(made) > accuracy(by_size.transform(network)) + 0.15
    assert accuracy(made) > accuracy(network) - 0.06
