"""
Features without labels: which digits lie together?
===================================================

A network that has never seen a label can still learn what makes two images the same: it is shown
random views of each image, turned, sheared, moved and dimmed, and learns features in which views
of one image come together and images spread out. Ten labels a class are then worth many more.
"""

# %%
# What a view is
# --------------
#
# Everything depends on the views: what they change is what the features forget. Here are six
# views of four digits, as the network sees them.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.neural_network import MMCR
from sklr.nn import GaussianNoise, RandomAffine2d, RandomViews

X, y = load_digits(return_X_y=True)
images = X.reshape(-1, 1, 8, 8).astype(np.float32) / 16
train, test = slice(0, 1200), slice(1200, None)

augmentations = [RandomAffine2d(), GaussianNoise(0.1)]
views = RandomViews(augmentations, n_views=6)
shown = views(torch.tensor(images[:4]), torch.Generator().manual_seed(0)).reshape(4, 6, 8, 8)

fig, axes = plt.subplots(4, 7, figsize=(7, 4.2), subplot_kw={"xticks": [], "yticks": []})
for row, image, some in zip(axes, images[:4, 0], shown, strict=True):
    row[0].imshow(image, cmap="gray_r")
    for ax, view in zip(row[1:], some, strict=True):
        ax.imshow(view, cmap="gray_r", vmin=0, vmax=1)
axes[0, 0].set_title("digit", fontsize=9)
axes[0, 3].set_title("random views", fontsize=9)
fig.tight_layout(pad=0.4)

# %%
# Learn without labels
# --------------------
#
# 1200 images, no labels. ``score`` says how much of the largest possible nuclear norm the centroids
# of fresh views reach: 1 would be views that coincide and samples that are all orthogonal.

mmcr = MMCR(n_components=64, max_iter=12, random_state=0).fit(images[train])
print(f"score on new images: {mmcr.score(images[test]):.2f}")
features = mmcr.transform(images)

# %%
# Few labels
# ----------
#
# A linear classifier on the features, on the pixels, and on the features of the same network
# without training, for a growing number of labels a class (mean of five draws of labels).

untrained = MMCR(n_components=64, max_iter=1, learning_rate=1e-12, random_state=0)
inputs = {
    "MMCR": features,
    "pixels": X / 16,
    "untrained network": untrained.fit(images[train]).transform(images),
}
numbers = [1, 2, 5, 10, 20]
curves = {name: [] for name in inputs}
for number in numbers:
    for name, Z in inputs.items():
        found = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            rows = np.concatenate(
                [rng.choice(np.flatnonzero(y[train] == c), number, False) for c in range(10)]
            )
            probe = make_pipeline(StandardScaler().fit(Z[train]), LogisticRegression(C=0.1))
            found.append(probe.fit(Z[rows], y[rows]).score(Z[test], y[test]))
        curves[name].append(np.mean(found))
for name, curve in curves.items():
    print(f"{name:<18}", *[f"{value:.2f}" for value in curve])

# %%
# What is near what
# -----------------
#
# Each row starts with a digit that was never seen, and goes on with the nearest of the 1200
# training images by angle: of the pixels on the left, of the features in the middle. Red is
# another digit.


def nearest(Z, number=9):
    """Return a picture of the first test image of each digit and its nearest training images."""
    Z = Z - Z[train].mean(axis=0)
    Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    lines = []
    for digit in range(10):
        query = 1200 + np.flatnonzero(y[test] == digit)[0]
        near = np.argsort(-Z[train] @ Z[query])[:number]
        line = []
        for row in [query, *near]:
            ink = np.repeat(images[row, 0][:, :, None], 3, axis=2)
            line.append(1 - ink * ([1, 1, 1] if y[row] == digit else [0.1, 0.9, 0.9]))
        lines.append(np.hstack([line[0], np.ones((8, 3, 3)), *line[1:]]))
    same = [y[train][np.argsort(-Z[train] @ z)[:number]] == k for z, k in zip(Z[test], y[test])]
    return np.vstack(lines), np.mean(same)


fig, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for ax, name, Z in zip(axes, ("pixels", "MMCR features"), (X / 16, features), strict=False):
    picture, same = nearest(Z)
    ax.imshow(picture)
    ax.set(title=f"{name}: {same:.0%} of neighbours right", xticks=[], yticks=[])
for name, curve in curves.items():
    axes[2].plot(numbers, curve, "o-", label=name)
axes[2].set(
    title="accuracy on new digits", xlabel="labels a class", xscale="log", xticks=numbers,
    xticklabels=numbers,
)  # fmt: skip
axes[2].minorticks_off()
axes[2].legend()
plt.show()
