"""
How the Hessian's spectrum changes while a network trains
=========================================================

Before training the loss bends both ways; at the end hardly any negative curvature is left, most
eigenvalues are near zero, and a few stand out.
"""

# %%
# A network, and copies of it on its way
# --------------------------------------
import copy

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklr.landscape import HessianSpectrum, HessianSpectrumDisplay

X, y = load_digits(return_X_y=True)
X, y = StandardScaler().fit_transform(X[:500]), y[:500]
data, labels = torch.tensor(X).float(), torch.tensor(y)

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
on_the_way = {0: copy.deepcopy(network)}
for step in range(1, 401):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(data), labels).backward()
    optimizer.step()
    if step in (20, 400):
        on_the_way[step] = copy.deepcopy(network)

# %%
# Their spectra
# -------------
# All 610 eigenvalues are computed; the ticks at the bottom are the ten at each end.
_, ax = plt.subplots(figsize=(7, 4))
for step, module in on_the_way.items():
    spectrum = HessianSpectrum().fit(module, X, y)
    print(
        f"step {step:3d}: loss {spectrum.loss_:.4f}, largest {spectrum.eigenvalues_[0]:.3f}, "
        f"smallest {spectrum.eigenvalues_[-1]:.4f}, negative {spectrum.negative_share_:.1%}"
    )
    HessianSpectrumDisplay.from_estimator(spectrum, ax=ax, label=f"after {step} steps")
ax.set_title("Eigenvalues of the Hessian")
plt.tight_layout()
plt.show()
