"""
Parameters of the heat-geodesic embedding
=========================================

Mostly :class:`~sklr.manifold.HeatGeodesicEmbedding` is called as it is. What is worth knowing
beyond that: how many neighbours make the graph, how long heat flows, what becomes of short-cuts
through the data, and how distances become a picture.
"""

# %%
# The data are a Swiss roll: 400 points, coloured by the place along the roll. Without noise any
# picture that unrolls it is right.
import matplotlib.pyplot as plt
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from sklr.datasets import make_geodesic_swiss_roll
from sklr.manifold import HeatGeodesicEmbedding


def draw(axes, X, flat, name, values):
    """Draw one picture for each value of a parameter, with its agreement with true distances."""
    true = cdist(flat[:150], flat[:150]).ravel()
    for ax, value in zip(axes, values):
        model = HeatGeodesicEmbedding(random_state=0, **{name: value}).fit(X)
        ax.scatter(*model.embedding_.T, c=flat[:, 0], s=6)
        ax.set(xticks=[], yticks=[])
        ax.set_aspect("equal", adjustable="datalim")
        found = cdist(model.embedding_[:150], model.embedding_[:150]).ravel()
        ax.set_title(f"{name}={value!r}\nSpearman {spearmanr(true, found).statistic:.2f}")


X, flat = make_geodesic_swiss_roll(400, noise=0.1, random_state=0)

# %%
# ``n_neighbors``
# ---------------
# Few neighbours follow the sheet closely, but are easily left with pieces; many reach over to
# the next turn of the roll, and the sheet is rolled up again.
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
draw(axes, X, flat, "n_neighbors", (5, 10, 20, 60))

# %%
# ``t``
# -----
# Heat that flows shortly knows the details; a long time averages over more ways, which helps
# against noise, and loses the width of the sheet: only its length is left. "auto" takes the knee of
# an entropy.
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
draw(axes, X, flat, "t", (1.0, "auto", 30.0, 300.0))

# %%
# ``pruning``
# -----------
# Noise of one unit moves points half way to the next turn. A few edges through the air are
# enough to fold the picture; "auto" finds and drops them, and drops nothing on clean data.
noisy, its_flat = make_geodesic_swiss_roll(800, noise=1.0, random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
draw(axes, noisy, its_flat, "pruning", (0.0, "auto"))

# %%
# ``mds`` and ``scale_factor``
# ----------------------------
# The layout: "sgd" keeps all distances as they are; "classic" is quicker and cares for large
# ones. Distances are raised to ``scale_factor``: below 1 the small ones count more and the sheet
# shows its width, above 1 the large ones do. Only at 1 are they lengths.
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
draw(axes[:2], X, flat, "mds", ("sgd", "classic"))
draw(axes[2:], X, flat, "scale_factor", (0.5, 2.0))
