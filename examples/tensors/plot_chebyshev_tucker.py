"""
The potential of hundreds of charges in a few thousand numbers
==============================================================

The Newton potential of many charges has a peak at each of them, and no polynomial follows those.
Written as a sum of Gaussians it falls into a short range, which is local, and a long range, which
is smooth everywhere: :class:`~sklr.decomposition.ChebyshevTucker` compresses the long range of all
charges at once, to a size that does not depend on how many there are.
"""

# %%
# Charges along a coil
# --------------------
#
# 1/r is a sum of 28 Gaussians to seven digits. The nine widest are the long range.

import warnings

import matplotlib.pyplot as plt
import numpy as np

from sklr.decomposition import ChebyshevTucker, ChebyshevTuckerRegressor, newton_kernel_cp

rng = np.random.default_rng(0)
n_charges = 300
turn = np.linspace(0, 6 * np.pi, n_charges)
places = np.column_stack([0.5 * np.cos(turn), 0.5 * np.sin(turn), np.linspace(-0.65, 0.65, 300)])
places += 0.03 * rng.standard_normal(places.shape)
charges = np.where(rng.random(n_charges) < 0.5 + 0.45 * np.sin(turn / 3), 1.0, -1.0)

weights, exponents = newton_kernel_cp(h=0.3)
widest, narrowest = exponents[[1, -1]] ** -0.5
print(f"{len(weights)} Gaussians, from width {widest:.1f} to {narrowest:.4f}")


def compress(charges, places, n_terms=9, degree=65):
    """Sum over charges and Gaussians, each a product of functions of x, y and z."""

    def along(k):
        def columns(x):
            distance = x[:, None, None] - places[:, k, None]
            return np.exp(-exponents[:n_terms] * distance**2).reshape(len(x), -1)

        return columns

    return ChebyshevTucker(degree, tol=1e-7).fit_cp(
        np.outer(charges, weights[:n_terms]).ravel(), [along(k) for k in range(3)], [(-1, 1)] * 3
    )


potential = compress(charges, places)
size = potential.core_.size + sum(V.size for V in potential.factors_)
print(potential)
print(f"{size} numbers instead of {65**3}; largest error {potential.error_estimate_:.1e}")

# %%
# A slice through both ranges
# ---------------------------
#
# The long range on a fine grid costs nothing to speak of. Its gradient, the force, is that of the
# series. The short range is what is left of the exact sum: zero but next to the charges.

x = np.linspace(-1, 1, 241)
z = 0.1
long_range = potential.to_grid(x, x, [z])[:, :, 0]
step = 12
force = [-potential.derivative(k).to_grid(x[::step], x[::step], [z])[:, :, 0] for k in range(2)]
grid = np.stack(np.meshgrid(x, x, [z], indexing="ij"), axis=-1).reshape(-1, 1, 3)
exact = np.concatenate(
    [
        (charges / np.linalg.norm(part - places, axis=-1)).sum(axis=1)
        for part in np.array_split(grid, 60)
    ]
).reshape(241, 241)

fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.7), layout="constrained", sharey=True)
limit = np.abs(long_range).max()
for ax, values, title in zip(
    axes,
    (exact, long_range, exact - long_range),
    ("all of it", "long range, compressed", "short range, local"),
):
    image = ax.imshow(
        values.T, origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    ax.set(title=title, xlabel="x", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
axes[0].set_ylabel("y")
axes[1].quiver(x[::step], x[::step], force[0].T, force[1].T, color="0.25", width=0.004)
fig.colorbar(image, ax=axes, label=f"potential at z = {z}", shrink=0.85)
plt.show()

# %%
# Range separation is what makes it work
# --------------------------------------
#
# Left: the error by degree, with more and more of the Gaussians. With the narrow ones no degree is
# enough. Right: ranks of the long range by the number of charges, placed at random.

degrees = [9, 17, 33, 65, 129]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, 4))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # degrees that are too low say so
    for n_terms, colour in zip((6, 9, 12, 20), colours):
        errors = []
        for degree in degrees:
            f = compress(charges[:40], places[:40], n_terms, degree)
            near = places[:40] + 0.02 * rng.standard_normal((40, 3))
            distance = np.linalg.norm(near[:, None] - places[:40], axis=-1)
            gaussians = np.exp(-exponents[:n_terms] * distance[..., None] ** 2)
            truth = np.einsum("ijt,j,t->i", gaussians, charges[:40], weights[:n_terms])
            errors.append(np.abs(f(near) - truth).max() / np.abs(truth).max())
        left.loglog(degrees, errors, "o-", color=colour, label=f"{n_terms} widest")
left.set(xlabel="degree", ylabel="relative error near charges", xticks=degrees)
left.set_xticklabels(degrees)
left.minorticks_off()
left.legend(frameon=False)
counts = [1, 5, 25, 125, 625]
ranks = [
    max(compress(np.ones(n), np.random.default_rng(n).uniform(-0.7, 0.7, (n, 3))).rank_)
    for n in counts
]
right.semilogx(counts, ranks, "o-", color="#0072b2")
right.set(xlabel="charges", ylabel="Tucker rank at tolerance 1e-7", ylim=(0, 30))
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The same format from scattered samples
# --------------------------------------
#
# Where the function cannot be called, :class:`~sklr.decomposition.ChebyshevTuckerRegressor` fits it
# to measurements, with the interface of scikit-learn.

X = rng.uniform(-1, 1, (2000, 3))
model = ChebyshevTuckerRegressor(degree=11, rank=4, random_state=0)
far = compress(charges, places, n_terms=4)  # a smoother part of the potential
model.fit(X[:1500], far(X[:1500]))
print(f"R^2 of 500 new samples, one minus: {1 - model.score(X[1500:], far(X[1500:])):.1e}")
