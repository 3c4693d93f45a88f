"""
Distances along the manifold, in a picture
==========================================

A Swiss roll is flat in two dimensions, and its geodesics are known. Three questions: does the
picture show the distances along the roll, how long should heat diffuse, and where do new points
go? At the end, the recipe for an ``AnnData`` of single cells.
"""

# %%
# The picture, and how true it is
# -------------------------------
# A Shepard diagram has one point for each pair: the dissimilarity that heat found, and the
# distance in the picture.
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from sklr.datasets import make_geodesic_swiss_roll
from sklr.manifold import (
    EmbeddingDisplay,
    HeatEntropyDisplay,
    HeatGeodesicEmbedding,
    ShepardDisplay,
)
from sklr.metrics import geodesic_preservation_score

X, flat = make_geodesic_swiss_roll(2000, noise=0.1, random_state=0)
length = flat[:, 0]
train, new = X[:1500], X[1500:]
model = HeatGeodesicEmbedding(random_state=0).fit(train)

figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
EmbeddingDisplay(PCA(2).fit_transform(train), length[:1500]).plot(ax=axes[0, 0])
axes[0, 0].set_title("principal components")
EmbeddingDisplay.from_estimator(model, y=length[:1500], ax=axes[0, 1])
placed = model.transform(new)
axes[0, 1].scatter(*placed.T, s=12, facecolors="none", edgecolors="k", linewidths=0.4)
axes[0, 1].set_title("heat-geodesic embedding; circles: new points")
HeatEntropyDisplay.from_estimator(model, ax=axes[1, 0])
ShepardDisplay.from_estimator(model, n_pairs=3000, ax=axes[1, 1])

# %%
# The same in numbers: Spearman correlation of each point's distances with the geodesic ones.
together = np.concatenate([model.embedding_, placed])
true = cdist(flat, flat)
for name, Y in {"PCA": PCA(2).fit_transform(X), "heat-geodesic": together}.items():
    scores = geodesic_preservation_score(true, Y, n_rows=300, random_state=0)
    print(f"{name:14} Spearman {scores.spearman:.3f}, 10 neighbours kept {scores.precision:.2f}")

# %%
# Single cells
# ------------
# An ``AnnData`` keeps its embeddings in ``obsm``, where scanpy's plots look for them. Neither
# package is needed here: this class has what matters of it. Counts may stay sparse;
# ``n_pca`` reduces them by a truncated SVD.
import scipy.sparse as sp


class AnnData:
    """Stands for anndata.AnnData(X=counts)."""

    def __init__(self, X):
        self.X, self.obsm = X, {}


rng = np.random.default_rng(0)
progress = np.sort(rng.uniform(size=800))
branch = (np.arange(800) % 2) * (progress > 0.5)
loadings = rng.standard_normal((3, 300))
state = np.c_[
    np.minimum(progress, 0.5),
    np.maximum(progress - 0.5, 0) * (branch == 0),
    np.maximum(progress - 0.5, 0) * (branch == 1),
]
adata = AnnData(sp.csr_matrix(rng.poisson(np.exp(2.5 * state @ loadings - 1.0)).astype(float)))

depth = np.asarray(adata.X.sum(axis=1)).ravel()
logged = (sp.diags_array(np.median(depth) / depth) @ adata.X).log1p()
adata.obsm["X_heat"] = HeatGeodesicEmbedding(n_pca=20, random_state=0).fit_transform(logged)

display = EmbeddingDisplay(adata.obsm["X_heat"], progress).plot()
display.ax_.set_title("a trajectory that branches: colour is its progress")
plt.show()
