"""
Clusters that become subspaces
==============================

k-means looks for round clusters, and images of one digit are not round: they lie along a curved
surface of slants, widths and strokes. Here a network learns, without labels, to lay each of these
surfaces out as a linear subspace of its own. Clusters, features and a way to draw what a cluster
holds come from one fit.
"""

# %%
# Fit
# ---
#
# The number of clusters is not needed while training. Views say what shall not matter: small
# affine maps and noise.

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from sklr.neural_network import ManifoldLinearizingClustering
from sklr.nn import GaussianNoise, RandomAffine2d

X, y = load_digits(return_X_y=True)
X = X / 16

affine = RandomAffine2d(15, (0.75, 1.25), 0.25, 0.1, (1, 1), image_shape=(1, 8, 8))
noise = GaussianNoise(0.05)


def augment(batch, generator):
    """Return a random view of each image."""
    return noise(affine(batch, generator), generator)


mlc = ManifoldLinearizingClustering(
    10, 32, hidden_dim=256, augment=augment, warmup_iter=50, random_state=0
).fit(X)


# %%
# How many digits are in the right cluster?
# -----------------------------------------


def matching(labels):
    """Return the digit that each cluster is matched with, and the share of agreement."""
    table = np.zeros((10, 10))
    np.add.at(table, (labels, y), 1)
    clusters, digits = linear_sum_assignment(-table)
    return digits, table[clusters, digits].sum() / len(y)


digits, ours = matching(mlc.labels_)
_, baseline = matching(KMeans(10, n_init=10, random_state=0).fit_predict(X))
print(f"k-means {baseline:.3f}, manifold linearizing {ours:.3f}")
print("dimensions of the subspaces:", [len(basis) for basis in mlc.subspaces_])

# %%
# What has become of the images
# -----------------------------
#
# Left, the cosines between all pixel images, sorted by cluster: everything resembles everything.
# Middle, between the features: blocks, and nothing between them. Right, digits along the main
# direction inside each cluster, from one end to the other: what varies there is how a digit is
# drawn.

order = np.lexsort((y, mlc.labels_))[::4]
pixels = X / np.linalg.norm(X, axis=1, keepdims=True)
fig, axes = plt.subplots(1, 3, figsize=(11, 4.1), layout="constrained")
for ax, title, Z in zip(
    axes, ("pixels", "learned features"), (pixels, mlc.embedding_), strict=False
):
    ax.imshow(np.abs(Z[order] @ Z[order].T), cmap="magma", vmin=0, vmax=1)
    ax.set(title=f"{title}: cosines", xticks=[], yticks=[])

rows = []
for k in np.argsort(digits):
    members = np.flatnonzero(mlc.labels_ == k)
    Z = mlc.embedding_[members]
    along = np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)[2][0]
    chosen = members[np.argsort(Z @ along)[np.linspace(0, len(members) - 1, 10).astype(int)]]
    rows.append(np.hstack(X[chosen].reshape(-1, 8, 8)))
axes[2].imshow(np.vstack(rows), cmap="gray_r")
axes[2].set(title="along each cluster's main direction", xticks=[], yticks=[])
plt.show()
