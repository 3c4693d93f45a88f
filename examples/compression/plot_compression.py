"""
How small may a trained network become?
=======================================

A perceptron that reads digits is compressed after training, without any training again. Weights
alone (plain SVD) say little of what can be left out; the outputs of layers on some hundred images
say much more, and labels add little here. Weights of two bits with thin matrices beside them
are smaller still. Two networks that were trained for every size stand beside them: they train as
often as the first, and go further down.
"""

# %%
# A network
# ---------
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklr.neural_network import MaestroClassifier, MorphableClassifier
from sklr.nn.compression import (
    AtomicFeatureMimicking,
    EigenspaceCompensation,
    FisherWeightedSVD,
    WeightSVD,
)

X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16).float(), torch.tensor(y)
train, test = slice(0, 1200), slice(1200, None)

torch.manual_seed(0)
network = nn.Sequential(
    nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(20):
    for rows in torch.randperm(1200).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[train][rows]), y[train][rows]).backward()
        optimizer.step()


def accuracy(module):
    with torch.no_grad():
        return float((module(X[test]).argmax(dim=1) == y[test]).float().mean())


# %%
# Smaller, by several methods
# ---------------------------
methods = {
    "SVD of the weights": lambda rank: WeightSVD(rank),
    "labels (Fisher-weighted SVD)": lambda rank: FisherWeightedSVD(rank),
    "inputs (whitening)": lambda rank: WeightSVD(rank, scaling="whitening"),
    "outputs (feature mimicking)": lambda rank: AtomicFeatureMimicking(rank),
}
curves = {}
for name, make in methods.items():
    curves[name] = []
    for rank in (2, 3, 4, 6, 8, 12, 16, 24):
        compressor = make(rank).fit(network, X[train], y[train])
        curves[name].append((compressor.ratio_, accuracy(compressor.transform(network))))

# %%
# Ranks of all layers together, by what each costs the outputs:
name = "outputs, ranks divided among layers"
curves[name] = []
for ratio in (0.06, 0.09, 0.12, 0.18, 0.25, 0.35):
    compressor = AtomicFeatureMimicking("global", ratio=ratio).fit(network, X[train])
    curves[name].append((compressor.ratio_, accuracy(compressor.transform(network))))

# %%
# Weights of two bits, and paths of low rank beside them. Counted in memory, where all other numbers
# have 16 bits: such a weight is an eighth of one.
n_all = sum(p.numel() for p in network.parameters())
n_rounded = network[0].weight.numel() + network[2].weight.numel()
kinds = {"2 bits and paths, by weights": None, "2 bits and paths, by inputs": "whitening"}
for name, scaling in kinds.items():
    curves[name] = []
    for rank in (1, 2, 4, 8, 16):
        eora = EigenspaceCompensation(rank, bits=2, scaling=scaling).fit(network, X[train])
        size = eora.ratio_ - n_rounded * (1 - 2 / 16) / n_all
        curves[name].append((size, accuracy(eora.transform(network))))

# %%
# Trained for every size
# ----------------------
# These are no compressions of the network above: each is one training of its own, with as many
# epochs, and serves all of its sizes.
options = {"learning_rate": 3e-3, "max_iter": 20, "random_state": 0}
trained = {
    "trained for every rank (Maestro)": (MaestroClassifier, [0.12, 0.18, 0.25, 0.35]),
    "trained for every width": (MorphableClassifier, [0.25, 0.35, 0.5]),
}
for name, (kind, sizes) in trained.items():
    fit = kind(**options).fit(X[train].numpy(), y[train].numpy())
    curve = fit.size_curve(X[test].numpy(), y[test].numpy(), sizes)
    curves[name] = list(zip(curve["n_params"] / n_all, curve["score"]))

# %%
# The picture
# -----------
fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name, points in curves.items():
    style = "--" if name in trained else "-"
    ax.plot(*zip(*points), style, marker="o", markersize=4, label=name)
ax.axhline(accuracy(network), color="black", linestyle=":", label="the network itself")
ax.set(
    xscale="log",
    xlabel="memory, relative to the network's",
    ylabel="accuracy on other digits",
    xticks=[0.1, 0.2, 0.4],
    xticklabels=["10 %", "20 %", "40 %"],
)
ax.minorticks_off()
ax.legend(fontsize="small", loc="lower right")
plt.show()

# %%
# The left-most points of the first four are ranks 2 and 3. What each layer lost is in the report:
for row in compressor.report_:
    print(row["name"], row["status"], row["rank"], f"{row['relative_error']:.2f}", row["reason"])
