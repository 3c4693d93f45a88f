"""
Which weights can go?
=====================

Weights of a trained perceptron are set to zero, without any training after: the smallest ones, or
those that the loss is expected to miss least, while the others make up for them.
"""

# %%
# A network
# ---------
import copy

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklr.nn.compression import MFACPruner

X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16).float(), torch.tensor(y)
train, test = slice(0, 1200), slice(1200, None)

torch.manual_seed(0)
network = nn.Sequential(
    nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
for _ in range(400):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(X[train]), y[train]).backward()
    optimizer.step()


def accuracy(module):
    with torch.no_grad():
        return float((module(X[test]).argmax(dim=1) == y[test]).float().mean())


def by_size(sparsity):
    small = copy.deepcopy(network)
    layers = [part for part in small if isinstance(part, nn.Linear)]
    sizes = torch.cat([part.weight.detach().abs().reshape(-1) for part in layers])
    limit = sizes.quantile(sparsity)
    with torch.no_grad():
        for part in layers:
            part.weight[part.weight.abs() <= limit] = 0
    return small


# %%
# The curves
# ----------
shares = [0.7, 0.8, 0.9, 0.95]
curves = {"smallest weights": [accuracy(by_size(share)) for share in shares]}
for name, params in (
    ("M-FAC, one step", {"n_recomputations": 1}),
    ("M-FAC, eight steps", {}),
):
    pruner = MFACPruner(targets="all", n_gradients=256, random_state=0, **params)
    curves[name] = [
        accuracy(
            pruner.set_params(sparsity=share).fit(network, X[train], y[train]).transform(network)
        )
        for share in shares
    ]

_, ax = plt.subplots(figsize=(6.5, 4))
for name, values in curves.items():
    print(f"{name:20s}", [f"{value:.3f}" for value in values])
    ax.plot(shares, values, "o-", label=name)
ax.axhline(accuracy(network), color="k", linewidth=1)
ax.set_xlabel("Share of weights that are zero")
ax.set_ylabel("Accuracy on other digits")
ax.legend()
plt.tight_layout()
plt.show()
