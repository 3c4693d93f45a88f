"""Ranks of all layers together: the least loss within the budget, by what layers cost outputs."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._layers import Layer  # noqa: E402
from sklr.nn.compression import AtomicFeatureMimicking  # noqa: E402
from sklr.nn.compression._allocation import allocate  # noqa: E402


def layers_of(*shapes):
    return [Layer(str(i), (str(i),), "Linear", shape) for i, shape in enumerate(shapes)]


def loss_and_size(layers, spectra, sensitivity, ranks):
    loss = size = 0.0
    for layer in layers:
        (m, n), r = layer.shape, ranks[layer.name]
        size += m * n if r is None else r * (m + n)
        if r is not None:
            loss += sensitivity[layer.name] * (spectra[layer.name][r:] ** 2).sum()
    return loss, size


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_no_other_ranks_lose_less(ratio):
    # Of one shape, so that greedy steps are the best ones.
    layers = layers_of((12, 12), (12, 12), (12, 12))
    rng = np.random.default_rng(0)
    spectra = {layer.name: np.sort(rng.exponential(size=12))[::-1] for layer in layers}
    sensitivity = {"0": 1.0, "1": 10.0, "2": 0.1}
    ranks = allocate(layers, spectra, sensitivity, ratio)
    found, size = loss_and_size(layers, spectra, sensitivity, ranks)
    budget = ratio * 3 * 144
    assert size <= budget
    least = np.inf
    for some in itertools.product([*range(1, 6)], repeat=3):
        loss, used = loss_and_size(layers, spectra, sensitivity, dict(zip("012", some)))
        if used <= budget:
            least = min(least, loss)
    assert found <= least * (1 + 1e-12)


def test_what_does_not_matter_gets_nothing_and_what_is_dear_stays_whole():
    layers = layers_of((20, 30), (30, 20))
    spectra = {"0": np.linspace(2, 1, 20), "1": np.linspace(2, 1, 20)}
    assert allocate(layers, spectra, {"0": 1.0, "1": 0.0}, 0.6)["0"] is None
    ranks = allocate(layers, spectra, {"0": 1.0, "1": 0.0}, 0.3)
    assert ranks == {"0": 6, "1": 1}
    # Nothing is given beyond the rank of what a layer says.
    assert allocate(layers, {"0": np.ones(2), "1": np.ones(3)}, {"0": 1.0, "1": 1.0}, 0.9) == {
        "0": 2,
        "1": 3,
    }


class TwoPaths(nn.Module):
    """One path is multiplied by nearly nothing."""

    def __init__(self):
        super().__init__()
        self.loud = nn.Linear(40, 40)
        self.faint = nn.Linear(40, 40)
        self.head = nn.Linear(40, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.loud(x)) + 1e-3 * torch.tanh(self.faint(x)))


def test_parameters_go_where_the_outputs_need_them():
    torch.manual_seed(0)
    network, X = TwoPaths(), torch.randn(500, 40)
    made = AtomicFeatureMimicking("global", ratio=0.4).fit(network, X)
    even = AtomicFeatureMimicking(0.4).fit(network, X)
    assert made.ranks_["faint"] < 2 < made.ranks_["loud"]
    assert made.n_params_after_ <= even.n_params_after_
    assert made.sensitivity_["faint"] < 1e-3 * made.sensitivity_["loud"]
    with torch.no_grad():
        lost = [float((m.transform(network)(X) - network(X)).square().mean()) for m in (made, even)]
    assert lost[0] < 0.6 * lost[1]
    # Batches of a generator are needed several times, and are kept for as long.
    again = AtomicFeatureMimicking("global", ratio=0.4).fit(network, (part for part in X.split(99)))
    assert again.ranks_ == made.ranks_ and not hasattr(again, "_batches")


def test_outputs_that_are_no_tensor_are_refused():
    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 9))

        def forward(self, x):
            return str(self.layers(x).shape)

    with pytest.raises(ValueError, match="rank='global' looks at the network's outputs"):
        AtomicFeatureMimicking("global", targets="all").fit(Says(), torch.randn(30, 6))
    with pytest.raises(ValueError, match="ratio"):
        AtomicFeatureMimicking("global", ratio=1.5).fit(Says(), torch.randn(30, 6))
