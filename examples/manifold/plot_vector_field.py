"""
Vector fields on a surface: fill the gaps, keep the whirls
==========================================================

Wind over the globe, the flow of activity over a cortex: a vector field that is known at some
points of a surface only. A Gaussian process on the surface fills in the rest, says how sure it
is, and keeps the singularities, which topology does not allow to vanish.
"""

# %%
# A field with four whirls, seen at few points
# --------------------------------------------
#
# On a sphere the indices of a field's singularities sum to two. This one has four centres of
# index one and two saddles of index minus one. Of 1200 points 150 have a vector, with noise; a
# whole cap has none (inpainting), and elsewhere the labels are sparse (super-resolution).

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial import ConvexHull
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from sklr.gaussian_process import VectorFieldGPRegressor

n = 1200
i = np.arange(n) + 0.5
polar, azimuth = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
X = np.column_stack(
    [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
)
# The gradient of a stream function with three maxima and minima, turned by a right angle.
gradient = np.column_stack([2.4 * X[:, 0], -1.6 * X[:, 1], 0.3 + 0 * X[:, 2]])
truth = np.cross(X, gradient)

rng = np.random.default_rng(0)
cap = X @ np.array([0.35, -0.85, 0.4]) > 0.82
labelled = rng.permutation(np.flatnonzero(~cap))[:150]
known = np.full_like(truth, np.nan)
known[labelled] = truth[labelled] + 0.2 * rng.standard_normal((150, 3))

gp = VectorFieldGPRegressor(n_eigenpairs=80).fit(X, known)
field, cov = gp.predict(X, return_cov=True)
unsure = np.sqrt(np.trace(cov, axis1=1, axis2=2))
error = np.linalg.norm(field - truth) / np.linalg.norm(truth)
print(f"relative error {error:.2f}; noise found {gp.noise_**0.5:.2f}, put in 0.20")
print(f"uncertainty in the cap {unsure[cap].mean():.2f}, elsewhere {unsure[~cap].mean():.2f}")


# %%
# Singularities, counted
# ----------------------
#
# Around each triangle of the points' hull a vector turns by a whole number of times: the index.


def singularities(X, field):
    """Return centres of triangles with an index, and the indices."""
    centres, indices = [], []
    for a, b, c in ConvexHull(X).simplices:
        if np.cross(X[b] - X[a], X[c] - X[a]) @ X[a] < 0:
            b, c = c, b
        centre = X[[a, b, c]].mean(axis=0)
        centre /= np.linalg.norm(centre)
        e1 = np.cross(centre, [0.36, 0.48, 0.8])
        e1 /= np.linalg.norm(e1)
        e2 = np.cross(centre, e1)
        angle = np.arctan2(field[[a, b, c]] @ e2, field[[a, b, c]] @ e1)
        turns = np.angle(np.exp(1j * (np.roll(angle, -1) - angle))).sum() / (2 * np.pi)
        if round(turns):
            centres.append(centre)
            indices.append(round(turns))
    return np.array(centres), np.array(indices)


found = {"truth": singularities(X, truth), "predicted": singularities(X, field)}
for name, (_, indices) in found.items():
    print(f"{name}: indices {sorted(indices.tolist())}, sum {indices.sum()}")

# %%
# The picture
# -----------
#
# The half of the sphere that faces the reader: circles are centres, crosses saddles. Colour is the
# length of the vectors, and in the last panel the predicted standard deviation: large in the cap
# without labels, whose rim is dashed.

view = np.array([0.3, -0.85, 0.43])
view /= np.linalg.norm(view)
right = np.cross([0, 0, 1], view)
right /= np.linalg.norm(right)
up = np.cross(view, right)
front = X @ view > 0.12
axis = np.array([0.35, -0.85, 0.4])
axis /= np.linalg.norm(axis)


def flat(V):
    """Project on the plane of the paper."""
    return V @ right, V @ up


def draw(ax, rows, vectors, colours, title, *, cmap, limits, where=None):
    ax.add_patch(plt.Circle((0, 0), 1, color="0.965", zorder=0))
    arrows = ax.quiver(
        *flat(X[rows]), *flat(vectors[rows]), colours[rows], cmap=cmap, clim=limits,
        angles="xy", scale_units="xy", scale=13, width=0.006, pivot="middle",
    )  # fmt: skip
    if where is not None:
        for centre, index in zip(*where, strict=True):
            if centre @ view > 0.12:
                marker = "o" if index > 0 else "X"
                ax.plot(*flat(centre), marker, color="k", mfc="none" if index > 0 else "k", ms=10)
    across = np.cross(axis, [0, 0, 1.0])
    across /= np.linalg.norm(across)
    other = np.cross(axis, across)
    angle = np.linspace(0, 2 * np.pi, 200)
    cosine = 0.82 / np.linalg.norm([0.35, -0.85, 0.4])
    rim = cosine * axis + np.sqrt(1 - cosine**2) * (
        np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * other
    )
    ax.plot(*flat(rim), "--", color="0.45", linewidth=1)
    ax.set(title=title, xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    ax.axis("off")
    return arrows


length = np.linalg.norm(truth, axis=1)
fig, axes = plt.subplots(2, 2, figsize=(9, 8.6), layout="constrained")
axes = axes.ravel()
limits = (0, length.max())
seen = np.zeros(n, dtype=bool)
seen[labelled] = True
kw = {"cmap": "viridis", "limits": limits}
draw(axes[0], front, truth, length, "truth", where=found["truth"], **kw)
draw(axes[1], front & seen, known, np.linalg.norm(known, axis=1), "known, with noise", **kw)
arrows = draw(
    axes[2],
    front,
    field,
    np.linalg.norm(field, axis=1),
    "predicted",
    where=found["predicted"],
    **kw,
)
fig.colorbar(arrows, ax=axes[2], shrink=0.75, label="length", location="left")
arrows = draw(
    axes[3], front, field, unsure, "uncertainty", cmap="magma_r", limits=(0, unsure.max())
)
fig.colorbar(arrows, ax=axes[3], shrink=0.75, label="standard deviation")
plt.show()

# %%
# When a plain Gaussian process is the better choice
# --------------------------------------------------
#
# A process on the coordinates, one for each component, knows nothing of the surface. Where the
# sheets of a surface come near each other it takes one for the other. On a sphere they do not,
# and a smooth field of the ambient space is what it was made for: use scikit-learn's there.


def spiral(n, rng):
    """A sheet rolled up with a gap of .75, and a field that turns along it."""
    theta = np.linspace(2 * np.pi, 8 * np.pi, 20000)
    curve = 0.12 * theta * np.exp(1j * theta)
    length = np.append(0, np.cumsum(np.abs(np.diff(curve))))
    u = rng.uniform(0, length[-1], n)
    angle = np.interp(u, length, theta)
    c, s = np.cos(angle), np.sin(angle)
    X = np.column_stack([0.12 * angle * c, 0.12 * angle * s, rng.uniform(0, 2, n)])
    along = np.column_stack([c - angle * s, s + angle * c, 0 * angle])
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return X, np.cos(u)[:, None] * along + np.sin(u)[:, None] * np.array([0, 0, 1])


surfaces = {"rolled-up sheet": spiral(1500, rng), "sphere": (X, truth)}
shares = [0.05, 0.1, 0.2, 0.4]
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.5), sharey=True, layout="constrained")
for ax, (name, (points, vectors)) in zip(axes, surfaces.items(), strict=True):
    errors = []
    for share in shares:
        labelled = rng.permutation(len(points))[: int(share * len(points))]
        rest = np.setdiff1d(np.arange(len(points)), labelled)
        known = np.full_like(vectors, np.nan)
        known[labelled] = vectors[labelled] + 0.1 * rng.standard_normal((len(labelled), 3))
        plain = GaussianProcessRegressor(ConstantKernel() * RBF() + WhiteKernel(0.1))
        models = (
            VectorFieldGPRegressor(n_eigenpairs=80).fit(points, known),
            plain.fit(points[labelled], known[labelled]),
        )
        norm = np.linalg.norm(vectors[rest])
        errors.append(
            [np.linalg.norm(m.predict(points[rest]) - vectors[rest]) / norm for m in models]
        )
    print(name, np.round(errors, 3).tolist())
    ax.plot(shares, errors, marker="o", linewidth=2)
    ax.set(title=name, xlabel="share of labelled points", xscale="log", xticks=shares)
    ax.set_xticklabels([f"{share:.0%}" for share in shares])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="relative error", ylim=(0, None))
axes[0].legend(["on the surface", "on the coordinates"], frameon=False)
plt.show()
