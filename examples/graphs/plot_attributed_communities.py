"""
Communities of a graph whose vertices say something
===================================================

People in a network have ties, and they have an office, a school, a town. Neither tells the groups
well: ties cross groups, and attributes are often wrong. Together they do.
:class:`~sklr.cluster.BootstrapAMGClustering` turns every value of every attribute into a vertex of
a larger graph, and clusters that.
"""

# %%
# A network with noisy ties and noisy attributes
# ----------------------------------------------
#
# Four groups. Forty of a hundred ties leave the group, and each of three attributes is replaced by
# a random value for four of ten people. The same network is drawn three times: in the colours of
# the true groups, and of what is found by ties alone and with attributes. Positions come from the
# ties and the true groups, for the eye only; wrong vertices have a black rim.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.metrics import confusion_matrix
from sklearn.metrics import normalized_mutual_info_score as nmi
from sklearn.preprocessing import OneHotEncoder

from sklr.cluster import BootstrapAMGClustering, augment_graph
from sklr.datasets import make_attributed_sbm

adjacency, attributes, truth = make_attributed_sbm(
    360, n_clusters=4, mean_degree=7, mixing=0.4, noise=0.4, random_state=3
)
model = BootstrapAMGClustering(4, affinity="precomputed", random_state=0)
by_ties = model.fit_predict(adjacency)
together = model.fit_predict(adjacency, attributes=attributes)


def layout(adjacency, groups, n_iter=150):
    """Force-directed positions: ties pull, all push, and each group has its corner."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * groups / (groups.max() + 1)
    home = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    place = home + 0.3 * rng.standard_normal(home.shape)
    ties = adjacency.tocoo()
    for step in np.geomspace(0.1, 0.004, n_iter):
        gap = place[:, None] - place
        push = 0.006 * (gap / (np.square(gap).sum(axis=2, keepdims=True) + 1e-3)).sum(axis=1)
        pull = np.zeros_like(place)
        np.add.at(pull, ties.row, place[ties.col] - place[ties.row])
        force = push + 0.08 * pull + 0.5 * (home - place)
        size = np.linalg.norm(force, axis=1, keepdims=True)
        place = place + force * np.minimum(1.0, step / np.maximum(size, 1e-9))
    return place


def in_colours_of(truth, labels):
    """Number found groups so that they agree with the true ones as far as possible."""
    table = confusion_matrix(labels, truth)
    rows, columns = linear_sum_assignment(-table)
    return dict(zip(rows, columns, strict=True))


colours = np.array(["#0072b2", "#e69f00", "#009e73", "#cc79a7"])  # for the colour-blind too
place = layout(adjacency, truth)
ends = np.argwhere(np.triu(adjacency.toarray()))

fig, axes = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
panels = {"true groups": truth, "by ties alone": by_ties, "ties and attributes": together}
for ax, (title, labels) in zip(axes, panels.items(), strict=True):
    match = in_colours_of(truth, labels)
    shown = np.array([match[label] for label in labels])
    within = shown[ends[:, 0]] == shown[ends[:, 1]]
    for part, colour, alpha in ((~within, "0.6", 0.25), (within, None, 0.45)):
        lines = place[ends[part]]
        tint = colour or colours[shown[ends[part, 0]]]
        ax.add_collection(LineCollection(lines, colors=tint, alpha=alpha, linewidths=0.6))
    wrong = shown != truth
    ax.scatter(*place[~wrong].T, s=22, color=colours[shown[~wrong]], edgecolor="white", lw=0.4)
    ax.scatter(*place[wrong].T, s=26, color=colours[shown[wrong]], edgecolor="black", lw=1.1)
    text = "" if labels is truth else f"\nNMI {nmi(truth, labels):.2f}, {wrong.sum()} wrong of 360"
    ax.set_title(title + text)
    ax.set_aspect("equal")
    ax.axis("off")

# %%
# When do attributes help?
# ------------------------
#
# As the attributes get noisier, clustering by them alone falls to nothing, and ties alone stay
# where they are. Spectral clustering of the augmented graph uses both. The default does so too, and
# then refines its labels with a model that learns how much each attribute is worth. The paper's
# own coordinates, ``embedding="svd"``, are there for comparison: they weigh the attributes more and
# the ties less. Dots are networks, lines their means.


def structure_only(adjacency, attributes):
    return model.fit_predict(adjacency)


def attributes_only(adjacency, attributes):
    table = OneHotEncoder().fit_transform(attributes)
    return KMeans(4, n_init=5, random_state=0).fit_predict(table)


def augmented_spectral(adjacency, attributes):
    graph, _ = augment_graph(adjacency, attributes)
    peer = SpectralClustering(4, affinity="precomputed", random_state=0)
    return peer.fit_predict(graph)[: adjacency.shape[0]]


def default(adjacency, attributes):
    return model.fit_predict(adjacency, attributes=attributes)


def paper(adjacency, attributes):
    own = BootstrapAMGClustering(
        4, affinity="precomputed", embedding="svd", max_hierarchies=15, n_init=20, random_state=0
    )
    return own.fit_predict(adjacency, attributes=attributes)


methods = {
    "default": (default, "#0072b2", "-"),
    "spectral, augmented graph": (augmented_spectral, "#56b4e9", "--"),
    'the paper\'s, embedding="svd"': (paper, "#cc79a7", "-."),
    "attributes alone": (attributes_only, "#e69f00", ":"),
    "ties alone": (structure_only, "0.5", ":"),
}
noises = [0.2, 0.4, 0.6, 0.8, 1.0]
seeds = range(2)
scores = {name: np.empty((len(noises), len(seeds))) for name in methods}
for i, noise in enumerate(noises):
    for j, seed in enumerate(seeds):
        A, Z, y = make_attributed_sbm(
            500, n_clusters=4, mean_degree=8, mixing=0.35, noise=noise, random_state=seed
        )
        for name, (method, _, _) in methods.items():
            scores[name][i, j] = nmi(y, method(A, Z))

fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, (_, colour, style) in methods.items():
    ax.plot(noises, scores[name].mean(axis=1), color=colour, ls=style, lw=2, label=name)
    ax.plot(noises, scores[name], ".", color=colour, alpha=0.5, ms=5)
    print(f"{name:31s}", " ".join(f"{v:.2f}" for v in scores[name].mean(axis=1)))
ax.set(xlabel="share of attribute values replaced by random ones", ylabel="NMI", ylim=(-0.03, 1.03))
ax.set_title("500 vertices, 4 groups, 35 % of ties leave the group")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.02))
ax.spines[["top", "right"]].set_visible(False)
plt.show()
