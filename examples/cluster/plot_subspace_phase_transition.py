"""
How many samples does a diffusion model need?
=============================================

A diffusion model of data on a few subspaces, trained on its denoising loss, solves subspace
clustering. Then it needs as many samples of each subspace as the subspace has dimensions, however
many features there are. :class:`~sklr.cluster.DiffusionSubspaceClustering` draws this line in the
plane of dimensions and samples, and shows what the fitted model can do: denoise, and sample.
"""

# %%
# The phase transition
# --------------------
#
# Two orthogonal subspaces of 48 features (the size of a 4 x 4 colour image), noise-free. A cell is
# the share of eight seeds in which both subspaces are found. Full-covariance mixtures have 48 * 49
# / 2 numbers to learn in each cluster: they are asked for the labels only (two seeds a cell).

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from sklr.cluster import DiffusionSubspaceClustering
from sklr.datasets import make_molrg


def found(model, bases):
    P = [basis.T @ basis for basis in model.components_]
    return max(min(np.linalg.norm(p - b.T @ b) for p in P) for b in bases) < 1e-6


dims, counts, n_seeds = np.arange(2, 9), np.arange(2, 16), 8
share = np.zeros((len(counts), len(dims)))
peer = np.zeros_like(share)
for i, n_each in enumerate(counts):
    for j, dim in enumerate(dims):
        for seed in range(n_seeds):
            X, y, bases = make_molrg(
                [n_each, n_each], 48, 2, dim, random_state=seed, return_bases=True
            )
            model = DiffusionSubspaceClustering(2, dim, random_state=seed).fit(X)
            share[i, j] += found(model, bases) / n_seeds
            if seed < 2:
                labels = GaussianMixture(2, max_iter=30, random_state=seed).fit_predict(X)
                peer[i, j] += (adjusted_rand_score(y, labels) == 1.0) / 2

fig, axes = plt.subplots(1, 2, figsize=(8.4, 4.6), layout="constrained", sharey=True)
titles = ["subspaces found", "labels found, GaussianMixture"]
for ax, values, title in zip(axes, (share, peer), titles, strict=True):
    image = ax.pcolormesh(dims, counts, values, cmap="viridis", vmin=0, vmax=1)
    ax.stairs(dims - 0.5, np.arange(1.5, 9), baseline=None, color="#d55e00", linewidth=2.5)
    ax.set(xlabel="dimension d of a subspace", title=title, xticks=dims)
axes[0].set_ylabel("samples of each subspace")
axes[0].text(6.9, 4.6, "samples = d", color="#d55e00", rotation=28, ha="center")
fig.colorbar(image, ax=axes, label="share of seeds")
on_line = share[np.searchsorted(counts, dims), np.arange(len(dims))]
print(f"share found with as many samples as dimensions: {on_line.mean():.2f}")

# %%
# A denoiser, and the rank of its Jacobian
# ----------------------------------------
#
# Three lines in the plane show the denoiser at three noise levels: arrows lead a third of the way
# to the denoised point, coloured by the most probable line. At small noise it projects on the
# nearest line; at large noise, when a sample may come from any, it shrinks towards the centre.
# On the right, for subspaces in 48 dimensions, the numerical rank of its Jacobian: d at small
# noise, all subspaces' together once they cannot be told apart. Trained networks show such low
# ranks too.

X, y = make_molrg(300, 2, 3, 1, orthogonal=False, noise=0.05, random_state=4)
plane = DiffusionSubspaceClustering(3, 1, random_state=0).fit(X)
grid = np.stack(np.meshgrid(*[np.linspace(-2.2, 2.2, 15)] * 2), axis=-1).reshape(-1, 2)
fig, axes = plt.subplots(1, 4, figsize=(12, 3.1), layout="constrained")
colours = np.array(["#0072b2", "#d55e00", "#009e73"])
for ax, sigma in zip(axes, (0.1, 0.6, 2.0), strict=False):
    moves = (plane.denoise(grid, sigma) - grid) / 3
    labels = plane.predict_proba(grid, sigma).argmax(axis=1)
    ax.scatter(*X.T, s=3, color="0.7")
    ax.quiver(
        *grid.T,
        *moves.T,
        color=colours[labels],
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.006,
    )
    ax.set(title=f"noise {sigma}", xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[])
X, _ = make_molrg(200, 48, 3, 6, random_state=0)
model = DiffusionSubspaceClustering(3, 6, random_state=0).fit(X)
sigmas = np.geomspace(0.05, 20, 14)
rng = np.random.default_rng(0)
ranks = [model.jacobian_rank(X + s * rng.standard_normal(X.shape), s).mean() for s in sigmas]
for level, text in ((6, "one subspace"), (18, "all three")):
    axes[3].axhline(level, color="0.6", linestyle="--")
    axes[3].text(0.05, level + 0.3, text, color="0.4")
axes[3].semilogx(sigmas, ranks, marker="o", color="#0072b2")
axes[3].set(xlabel="noise", title="mean rank of the Jacobian", ylim=(0, 20.5))
axes[3].spines[["top", "right"]].set_visible(False)

# %%
# New samples
# -----------
#
# Drawn from the mixture, or by running the diffusion backwards from pure noise with the closed-form
# denoiser: both have the same distribution.

fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained", sharex=True, sharey=True)
for ax, method in zip(axes, ("exact", "diffusion"), strict=True):
    draws, labels = plane.sample(600, method=method)
    ax.scatter(*draws.T, c=colours[labels], s=6)
    ax.set(title=method, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
plt.show()
