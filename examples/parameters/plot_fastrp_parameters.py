"""
Parameters of FastRP
====================

:class:`~sklr.manifold.FastRP` is a sum of few terms, so its parameters can be seen: which powers
of the graph are added, how much hubs count, and how many numbers a node gets. The score is the
accuracy of a linear classifier that knows one node in ten.
"""

# %%
# The graph has five groups; 30 % of the edges go to other groups, and some nodes are hubs.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit, cross_val_score

from sklr.datasets import make_attributed_sbm
from sklr.manifold import FastRP

A, _, groups = make_attributed_sbm(
    1000, n_clusters=5, mean_degree=10, mixing=0.3, degree_exponent=2.5, random_state=0
)


def embed(**parameters):
    """Return the embedding by these parameters, the others at their defaults."""
    return FastRP(affinity="precomputed", random_state=0, **parameters).fit_transform(A)


def score(Z):
    """Return the accuracy with one node in ten known."""
    splits = ShuffleSplit(5, train_size=0.1, random_state=0)
    return cross_val_score(LogisticRegression(max_iter=500), Z, groups, cv=splits).mean()


# %%
# ``weights``
# -----------
# The first power is a node's neighbours, the second theirs, and so on. Low powers tell
# nodes apart, high ones tell groups apart, until everything looks alike.
# :class:`~sklr.manifold.FastRPCV` chooses the weights from known labels or from edges left out.
choices = {
    "weights=(1,)": (1.0,),
    "(0, 1)": (0.0, 1.0),
    "default\n(0, 0, 1, 6)": (0.0, 0.0, 1.0, 6.0),
    "ten powers alike": np.ones(10),
}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for ax, (name, weights) in zip(axes, choices.items()):
    Z = embed(weights=weights)
    ax.scatter(*PCA(2, random_state=0).fit_transform(Z).T, c=groups, s=5, cmap="tab10")
    ax.set(title=f"{name}\naccuracy {score(Z):.2f}", xticks=[], yticks=[])

# %%
# ``n_components``, ``degree_exponent``, ``input_matrix``
# --------------------------------------------------------
# More numbers a node cost time in proportion, and gain until the random matrix is no longer what
# limits. The exponent says how much hubs count as neighbours: below zero less. Sums over neighbours
# ("adjacency") instead of means let hubs count more: good with few numbers, no longer with many.
sizes, exponents = (8, 16, 32, 64, 128, 256), (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
for kind in ("transition", "adjacency"):
    by_size = [score(embed(n_components=d, input_matrix=kind)) for d in sizes]
    axes[0].plot(sizes, by_size, "o-", label=f'input_matrix="{kind}"')
    by_exponent = [score(embed(degree_exponent=r, input_matrix=kind)) for r in exponents]
    axes[1].plot(exponents, by_exponent, "o-", label=f'input_matrix="{kind}"')
axes[0].set(xscale="log", xlabel="n_components", ylabel="accuracy", ylim=(0.6, 0.95))
axes[1].set(xlabel="degree_exponent")
axes[0].legend(loc="lower right", fontsize="small")
