"""
Training with a fraction of AdamW's memory
==========================================

AdamW keeps two averages as large as the network. :class:`~sklr.nn.optim.DCTAdamW` keeps them for a
few cosines of each layer, and :class:`~sklr.nn.optim.Trion` keeps one momentum and orthogonalises
what is in those cosines.
"""

# %%
# Loss against memory
# -------------------
#
# A perceptron on the digits, fifteen epochs in batches. ``rank`` says in how many of the 64 or 128
# dimensions of a layer the averages live.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklr.nn.optim import DCTAdamW, Trion, dct_select

X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16).float(), torch.tensor(y)


def train(optimizer_of):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    optimizer, curve = optimizer_of(network.parameters()), []
    for _ in range(12):
        losses = []
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(X[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(sum(losses) / len(losses))
    kept = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return curve, sum(value.nbytes for value in kept) / 1024


kinds = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=3e-3),
    "DCT-AdamW, rank 8": lambda p: DCTAdamW(p, lr=3e-3, rank=8),
    "rank 8, no error feedback": lambda p: DCTAdamW(p, lr=3e-3, rank=8, error_feedback=False),
    "rank 8, averages not moved": lambda p: DCTAdamW(
        p, lr=3e-3, rank=8, error_feedback=False, rotate=False
    ),
    "Trion, rank 8": lambda p: Trion(p, rank=8, aux_lr=3e-3),
}
fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
for name, optimizer_of in kinds.items():
    curve, size = train(optimizer_of)
    ax.semilogy(range(1, 13), curve, label=f"{name} ({size:.0f} KiB)")
ax.set(xlabel="epoch", ylabel="training loss", xlim=(1, 12))
fig.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside right upper")
plt.show()

# %%
# What cosines catch
# ------------------
#
# Two matrices of rank 4, one with smooth rows and one with random ones: what is left of each with
# its best cosines, and with its best singular vectors. Smooth rows take a few times as many
# cosines; random ones nearly all of them.

torch.manual_seed(0)
t = (torch.arange(96) + 0.5) / 96
waves = torch.stack([torch.sin(2 * torch.pi * f * t + f) for f in (0.7, 1.6, 2.8, 4.1)])
noise = 1e-3 * torch.randn(64, 96)
matrices = {
    "smooth rows": torch.randn(64, 4) @ waves + noise,
    "random rows": torch.randn(64, 4) @ torch.randn(4, 96) + noise,
}
ranks = [1, 2, 4, 8, 16, 24, 32, 48]
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
for ax, (name, G) in zip(axes, matrices.items()):
    s = torch.linalg.svdvals(G)
    total = G.square().sum()
    left = [1 - dct_select(G, rank)[0].square().sum() / total for rank in ranks]
    best = [s[rank:].square().sum() / total for rank in ranks]
    ax.semilogy(ranks, [float(v) ** 0.5 for v in left], "o-", label="cosines")
    ax.semilogy(ranks, [float(v) ** 0.5 for v in best], "s-", color="0.6", label="singular vectors")
    ax.set(title=name, xlabel="rank")
axes[0].set_ylabel("relative error")
axes[0].legend(frameon=False)
plt.show()
