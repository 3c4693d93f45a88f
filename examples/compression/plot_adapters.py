"""
A network moves to a new domain, by few numbers
===============================================

A perceptron that reads digits is shown mirrored ones, of which 200 have labels. How many numbers
have to be trained beside the given weights? Every kind of adapter takes the same network, and one
estimator runs over all of them.
"""

# %%
# A network, and a domain that it has not seen
# --------------------------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from sklr.neural_network import AdapterClassifier

X, y = load_digits(return_X_y=True)
X = X / 16
mirrored = np.roll(X.reshape(-1, 8, 8)[:, :, ::-1], 1, axis=1).reshape(-1, 64)
known, few, test = slice(0, 1000), slice(1000, 1200), slice(1200, None)


# Pixels have one unit, and borders that are dark upright are not when mirrored: the network sees
# them as they are. Without a module it would standardise them first.
def perceptron(n_features):
    hidden = (nn.Linear(n_features, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(128, 10))


base = AdapterClassifier(perceptron, adapter="full", random_state=0).fit(X[known], y[known])
network = base.module_
for name, images in (("upright", X), ("mirrored", mirrored)):
    print(f"{name}: {base.score(images[test], y[test]):.3f}")

# %%
# All adapters, at several ranks
# ------------------------------
# The rates of the others follow from that of LoRA. What is counted are the numbers of the adapter,
# without the head, which is trained as a whole each time.
head = 128 * 10 + 10
found = {}
for adapter, ranks in {
    "lora": (1, 2, 4, 8, 16),
    "block_lora": (2, 4, 8, 16),
    "flora": (2, 4, 8, 16),
    "svfit": (4, 16, None),
    "loldu": (4, 16, None),
}.items():
    found[adapter] = []
    for rank in ranks:
        model = AdapterClassifier(
            network, adapter=adapter, rank=rank, learning_rate=0.02, max_iter=30, random_state=0
        )
        model.fit(mirrored[few], y[few])
        score = model.score(mirrored[test], y[test])
        found[adapter].append((model.n_trainable_ - head, score))

limits = {}
for adapter in ("head", "full"):
    model = AdapterClassifier(
        network, adapter=adapter, learning_rate=0.02, max_iter=30, random_state=0
    )
    limits[adapter] = model.fit(mirrored[few], y[few]).score(mirrored[test], y[test])
print(limits)

# %%
# The picture
# -----------
# One draw of 200 labels, and one learning rate: differences of two or three points are chance. With
# all of its 192 singular values SVFit does here what takes LoRA and FLoRA thousands of numbers, and
# what training all 26,122 does; a part of the values, and the pivots of LoLDU, add little to the
# head alone. The guide has means of five draws, with a learning rate chosen for each.
fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for adapter, points in found.items():
    ax.plot(*zip(*points), marker="o", label=adapter)
for adapter, style in (("head", ":"), ("full", "--")):
    ax.axhline(
        limits[adapter],
        color="black",
        linestyle=style,
        label=f"{adapter} alone" if adapter == "head" else "the whole network",
    )
ax.set(
    xscale="log",
    xlabel="numbers of the adapter",
    ylabel="accuracy on mirrored digits",
)
ax.legend()
plt.show()
