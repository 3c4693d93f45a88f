"""
Retrieval: which images are like this one, and where does the network look?
===========================================================================

A distance that is learnt from labels brings images of a class together, wherever in the picture
the thing is. :class:`~sklr.neural_network.DynamicSubspaceEmbedding` learns one; its attention maps
say which places of an image the distance is taken from.
"""

# %%
# Digits somewhere in a picture
# -----------------------------
#
# Small digits in larger pictures, at random places, on noise.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from sklr.metrics import recall_at_k
from sklr.neural_network import DynamicSubspaceEmbedding

digits, number = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
n, side = 1200, 16
pictures = np.empty((n, 1, side, side))
places = rng.integers(0, side - 7, size=(n, 2))
inside = np.zeros((n, side, side), dtype=bool)
for picture, box, digit, (i, j) in zip(pictures, inside, digits[:n], places, strict=True):
    picture[0] = rng.uniform(0, 0.3, (side, side))
    picture[0, i : i + 8, j : j + 8] += 0.7 * digit.reshape(8, 8) / 16
    box[i : i + 8, j : j + 8] = True
classes = number[:n]
train, test = slice(0, 800), slice(800, None)

# %%
# Learning the distance
# ---------------------
#
# The number of learners, groups of coordinates that are trained on clusters of their own, is found
# during the training.

model = DynamicSubspaceEmbedding(max_iter=30, random_state=0)
model.fit(pictures[train], classes[train])
Z = model.transform(pictures[test])
print("coordinates of each learner:", [len(part) for part in model.learner_indices_])

# %%
# How often is one of the k nearest among 400 new pictures of the same class? Against pixels, and
# principal components of them.

ks = [1, 2, 4, 8]
flat = pictures.reshape(n, -1)
components = PCA(16).fit(flat[train]).transform(flat[test])
for name, found in {"pixels": flat[test], "PCA 16": components, "learnt": Z}.items():
    recalls = recall_at_k(found, classes[test], k=ks)
    print(f"{name:<8}", *[f"R@{k} {recall:.2f}" for k, recall in zip(ks, recalls, strict=True)])

# %%
# Retrieval rows
# --------------
#
# A query, and its five nearest among the others: blue frames are of its class.

queries = [3, 8, 21, 40]
fig, axes = plt.subplots(4, 6, figsize=(6, 4.2), subplot_kw={"xticks": [], "yticks": []})
for row, query in zip(axes, queries, strict=True):
    nearest = np.argsort(np.linalg.norm(Z - Z[query], axis=1))[:6]
    for ax, found in zip(row, nearest, strict=True):
        ax.imshow(pictures[test][found, 0], cmap="gray", vmin=0, vmax=1)
        right = classes[test][found] == classes[test][query]
        color = "k" if found == query else "C0" if right else "C3"
        for edge in ax.spines.values():
            edge.set(color=color, linewidth=2)
axes[0, 0].set_title("query", fontsize=9)
axes[0, 3].set_title("nearest others", fontsize=9)
fig.tight_layout(pad=0.4)

# %%
# Where it looks
# --------------
#
# The map has the resolution of the feature maps, a quarter of the picture's, and is enlarged.
# Nobody has told the network where the digits are.

maps = model.attention_map(pictures[test])
there, elsewhere = maps[inside[test]].mean(), maps[~inside[test]].mean()
print(f"mean attention where the digit is {there:.2f}, elsewhere {elsewhere:.2f}")
fig, axes = plt.subplots(2, 6, figsize=(6, 2.2), subplot_kw={"xticks": [], "yticks": []})
for column, index in zip(axes.T, range(6), strict=True):
    column[0].imshow(pictures[test][index, 0], cmap="gray", vmin=0, vmax=1)
    column[1].imshow(maps[index], cmap="magma")
axes[0, 0].set_ylabel("picture")
axes[1, 0].set_ylabel("attention")
fig.tight_layout(pad=0.4)
plt.show()
