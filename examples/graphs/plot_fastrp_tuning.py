"""
Weights of FastRP, chosen from the data
=======================================

How far should a walk on a graph go? Two steps where communities are dense, thirty where edges are
few. :class:`~sklr.manifold.FastRPCV` finds out, from the labels of some nodes, or from edges that
it leaves out, in less than a second for some thousand nodes.
"""

# %%
# A sparse graph of which little is known
# ---------------------------------------
#
# Six communities of unequal size, four edges a node, and labels of every tenth node. Nodes whose
# label is not known have -1: what is to be predicted is not seen.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.datasets import make_attributed_sbm
from sklr.manifold import FastRP, FastRPCV

adjacency, _, labels = make_attributed_sbm(
    2000, n_clusters=6, mean_degree=4, imbalance=0.5, n_attributes=0, random_state=0
)
train = np.random.default_rng(0).random(2000) < 0.1
known = np.where(train, labels, -1)


def accuracy(vectors):
    """Of logistic regression on the vectors, on the nodes whose labels were not known."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return model.fit(vectors[train], labels[train]).score(vectors[~train], labels[~train])


# %%
# Three embeddings of 64 dimensions
# ---------------------------------

graph = dict(affinity="precomputed", random_state=0)
default = FastRP(64, **graph).fit(adjacency)
by_labels = FastRPCV(64, **graph).fit(adjacency, known)
by_edges = FastRPCV(64, **graph).fit(adjacency)

for name, model in [("default", default), ("labels", by_labels), ("edges", by_edges)]:
    print(f"{name:8s} accuracy {accuracy(model.embedding_):.3f}")
chosen = by_labels.best_params_
print(f"chosen by labels: {len(chosen['weights'])} powers, exponent {chosen['degree_exponent']}, "
      f"mean of powers {'subtracted' if chosen['center_powers'] else 'kept'}")  # fmt: skip

# %%
# What the candidates scored
# --------------------------
#
# The score by labels is minus the leave-one-out squared error of a ridge regression. It has no
# accidents of folds, and falls together with the error on the other nodes.

results = by_labels.cv_results_
n_powers = np.array([len(params["weights"]) for params in results["params"]])
centred = np.array([params["center_powers"] for params in results["params"]])
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for which, mark, label in [(False, "o", "mean kept"), (True, "^", "mean subtracted")]:
    shown = centred == which
    shift = 1.03 if which else 0.97
    ax.plot(
        n_powers[shown] * shift, results["mean_test_score"][shown], mark, label=label, alpha=0.7
    )
ax.axhline(results["mean_test_score"][0], color="grey", lw=1, ls="--", label="FastRP's default")
ax.set(
    xscale="log", xlabel="number of powers", ylabel="score", title="Candidates, judged by labels"
)
ax.set_xticks(sorted(set(n_powers)), labels=sorted(set(n_powers)), minor=False)
ax.minorticks_off()
ax.legend()

# %%
# Here far powers win: with four edges a node, few steps reach few nodes of the same community. On
# dense graphs with hubs four or eight powers do better, and the same tuner finds these.
#
# The embedding is that of FastRP with the chosen parameters, which can be kept and used again:

same = FastRP(64, **graph, **chosen).fit_transform(adjacency)
print("the same numbers:", bool((same == by_labels.embedding_).all()))
