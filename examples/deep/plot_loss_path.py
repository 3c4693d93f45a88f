"""
Is there a hill between two solutions?
======================================

Two networks that went apart early, or late, or never stood together: the loss on the line between
them says whether they lie in one basin.
"""

# %%
# Solutions from small and large batches
# --------------------------------------
import copy

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklr.landscape import LossPathDisplay, loss_path

X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16).float(), torch.tensor(y)
train, test = slice(0, 900), slice(900, None)


def trained(network, *, batch, epochs, seed):
    network = copy.deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(900, generator=generator).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[train][rows]), y[train][rows]).backward()
            optimizer.step()
    return network


def fresh(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


start = trained(fresh(0), batch=64, epochs=3, seed=0)
small = trained(start, batch=32, epochs=15, seed=1)
large = trained(start, batch=300, epochs=60, seed=2)
other = trained(fresh(1), batch=32, epochs=15, seed=1)

# %%
# The lines between them
# ----------------------
# From a common beginning, small and large batches end in one basin. Another first draw ends behind
# a hill: its neurons stand in another order.
_, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, end, title in zip(axes, (large, other), ("large batches", "another first draw")):
    path = loss_path(small, end, X[train], y[train], X_test=X[test], y_test=y[test])
    print(f"small batches to {title}: barrier {path.barrier:.3f}")
    LossPathDisplay(path).plot(ax=ax)
    ax.set_title(f"small batches to {title}")
plt.show()
