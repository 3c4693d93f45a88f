"""
Classifying the nodes of a graph
================================

A network of bloggers, or of proteins: most links stay within communities, hubs link to everybody,
and a few nodes have labels. :class:`~sklr.manifold.FastRP` turns the nodes into vectors, and any
classifier does the rest. One question decides whether the result can be believed: what may be seen
before the split into training and test nodes?
"""

# %%
# A graph with hubs
# -----------------
#
# Communities with a power law of degrees (a degree-corrected block model), 4,000 nodes. Each node
# belongs to one of eight communities, and seven links in ten stay inside.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklr.manifold import FastRP
from sklr.utils import to_adjacency

rng = np.random.default_rng(0)
n_nodes, n_groups, n_edges = 4000, 8, 32_000
groups = rng.integers(n_groups, size=n_nodes)
pull = rng.pareto(2.2, n_nodes) + 0.4
source = rng.choice(n_nodes, n_edges, p=pull / pull.sum())
target = np.empty(n_edges, dtype=int)
inside = rng.random(n_edges) < 0.7
target[~inside] = rng.choice(n_nodes, (~inside).sum(), p=pull / pull.sum())
for g in range(n_groups):
    members = np.flatnonzero(groups == g)
    wanted = inside & (groups[source] == g)
    target[wanted] = rng.choice(members, wanted.sum(), p=pull[members] / pull[members].sum())

# %%
# An edge list becomes an adjacency. Naming all nodes keeps those without links.

graph = to_adjacency((source, target), nodes=n_nodes)
degrees = graph.sum(axis=1)
print(f"{n_nodes} nodes, {graph.nnz // 2} edges, degrees up to {degrees.max():.0f}")
print(f"{(degrees == 0).sum()} nodes have no edge")

# %%
# Embed once, split afterwards
# ----------------------------
#
# All nodes and edges are known; only labels are missing. That is the *transductive* setting, and
# the embedding may use the whole graph: it never sees a label, so nothing leaks. Cutting rows and
# columns out of the adjacency for each fold would embed other graphs instead, in coordinates that
# do not agree. So the pipeline below takes *node numbers* as its samples, and looks their vectors
# up; cross-validation splits the numbers.

embedding = FastRP(64, affinity="precomputed", random_state=0).fit_transform(graph)


def look_up(nodes):
    """Return the vectors of some nodes."""
    return embedding[nodes.ravel()]


clf = make_pipeline(FunctionTransformer(look_up), LogisticRegression(C=0.1, max_iter=300))
nodes = np.arange(n_nodes)[:, None]

shares = [0.01, 0.02, 0.05, 0.1, 0.3]
accuracy = []
for share in shares:
    cv = ShuffleSplit(5, train_size=share, test_size=0.5, random_state=0)
    accuracy.append(cross_val_score(clf, nodes, groups, cv=cv))
    print(f"{share:4.0%} of labels: accuracy {accuracy[-1].mean():.3f}")

# %%
# Nodes that come later
# ---------------------
#
# A node that was not there when the graph was embedded has edges to nodes that were.
# ``transform`` takes these edges and gives its vector; the others stay where they are. Here the
# last 500 nodes are held back, edges among them forgotten.

old, new = np.arange(3500), np.arange(3500, 4000)
pipe = make_pipeline(
    FastRP(64, affinity="precomputed", random_state=0), LogisticRegression(C=0.1, max_iter=300)
)
pipe.fit(graph[old][:, old], groups[old])
known = graph[new][:, old]
linked = known.sum(axis=1) > 0
late = pipe.score(known[linked], groups[new][linked])
print(f"new nodes with an edge to an old one: accuracy {late:.3f}")

# %%
# What it looks like
# ------------------
#
# Left, the nodes in the plane of the two main directions of their vectors. Right, the accuracy by
# the share of nodes with a label; chance is one in eight.

flat = PCA(2, random_state=0).fit_transform(embedding)
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=[1.15, 1], layout="constrained")
colours = plt.colormaps["tab10"](np.arange(n_groups))
order = rng.permutation(n_nodes)
axes[0].scatter(
    *flat[order].T, c=colours[groups[order]], s=2 + 1.2 * np.sqrt(degrees[order]), alpha=0.6,
    linewidth=0,
)  # fmt: skip
limits = 1.1 * np.percentile(flat, [0.2, 99.8], axis=0)
axes[0].set(xlim=limits[:, 0], ylim=limits[:, 1], xticks=[], yticks=[])
axes[0].set_title("Vectors of the nodes, coloured by community")
scores = np.array(accuracy)
axes[1].errorbar(
    shares, scores.mean(axis=1), yerr=scores.std(axis=1), marker="o", color="#0072b2", capsize=4,
    label="nodes of the graph",
)  # fmt: skip
axes[1].plot([3500 / 4000], [late], "s", color="#d55e00", label="nodes that came later")
axes[1].axhline(1 / n_groups, color="0.6", linestyle="--", linewidth=1)
axes[1].text(0.01, 1 / n_groups, "chance", va="bottom", color="0.4")
axes[1].set(xscale="log", xlabel="share of nodes with a label", ylabel="accuracy", ylim=(0, 1))
axes[1].set_xticks([*shares, 0.875], ["1 %", "2 %", "5 %", "10 %", "30 %", "88 %"])
axes[1].minorticks_off()
axes[1].set_title("Few labels go a long way")
axes[1].legend(frameon=False, loc="center right")
axes[1].spines[["top", "right"]].set_visible(False)
plt.show()
