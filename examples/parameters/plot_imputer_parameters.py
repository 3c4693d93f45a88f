"""
Parameters of the low-rank imputer
==================================

:class:`~sklr.decomposition.LowRankImputer` chooses the number of factors, the groups of rows and
the correction by near rows on entries that it hides from itself. This page turns each by hand, to
show what is chosen and when you would know better.
"""

# %%
# Two tables with a fifth of the values missing: measurements of breast tissue, whose columns are
# tied to each other, and of three kinds of wine, whose rows form groups. Errors are in
# standard deviations of the columns, so the column means have about 1.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.impute import KNNImputer
from sklearn.preprocessing import scale

from sklr.decomposition import LowRankImputer

tables = {
    "breast cancer, 569 x 30": scale(load_breast_cancer().data),
    "wine, 178 x 13": scale(load_wine().data),
}
holes = {name: np.random.default_rng(0).random(X.shape) < 0.2 for name, X in tables.items()}


def error(imputer, name):
    """Return the error at the holes of a table."""
    X, hidden = tables[name], holes[name]
    filled = imputer.fit_transform(np.where(hidden, np.nan, X))
    return np.sqrt(np.mean((filled - X)[hidden] ** 2))


level = {
    name: {"auto": error(LowRankImputer(random_state=0), name), "knn": error(KNNImputer(), name)}
    for name in tables
}


def draw(parameter, values):
    """Draw the error over the values of a parameter, beside the default's and neighbours'."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for ax, name in zip(axes, tables):
        found = [error(LowRankImputer(random_state=0, **{parameter: v}), name) for v in values]
        ax.plot(range(len(values)), found, "o-", label=f"{parameter} as below")
        ax.axhline(level[name]["auto"], color="C1", label='"auto"')
        ax.axhline(level[name]["knn"], color="0.5", ls=":", label="KNNImputer")
        ax.set(title=name, xlabel=parameter, xticks=range(len(values)), xticklabels=values)
        ax.set_ylim(0, 1.02)
    axes[0].set_ylabel("error")
    axes[1].legend(loc="lower right", fontsize="small")


# %%
# ``n_components``
# ----------------
# Too few factors cannot say what the table says; with factor analysis too many do little harm,
# since factors that explain nothing are dropped. "auto" begins with many.
draw("n_components", (1, 2, 3, 5, 10))

# %%
# ``n_clusters``
# --------------
# Groups of rows with means and factors of their own: none are needed where columns are tied, three
# kinds of wine may gain by them.
draw("n_clusters", (1, 2, 3, 5))

# %%
# ``n_neighbors``
# ---------------
# What near rows add to the model: the mean of their residuals in the column, shrunk. 0 turns it
# off.
draw("n_neighbors", (0, 3, 5, 10, 20))
