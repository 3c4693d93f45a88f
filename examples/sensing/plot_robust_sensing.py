"""
Half of the measurements are garbage
====================================

A matrix of rank three, measured by random inner products of which up to half are wrong by amounts
of any size. Squared residuals follow the garbage. The sub-gradient method for absolute residuals
(Ma and Fattahi, `arXiv:2202.08788 <https://arxiv.org/abs/2202.08788>`_) finds the matrix exactly,
also when it is not told the rank: it starts so small that the surplus has no time to grow.
"""

# %%
# Exact under outliers, with and without the rank
# -----------------------------------------------
#
# The mean absolute residual does not show how near the matrix is, for the outliers dominate it.
# The distance does; it is recorded by a fit that ends early and is begun again for every point.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor

from sklr.datasets import make_matrix_sensing
from sklr.decomposition import MatrixSensingRegressor

warnings.simplefilter("ignore", ConvergenceWarning)  # fits that are ended early say so
d, rank = 20, 3
points = [1, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300]


def problem(share, m):
    return make_matrix_sensing(
        m, shape=(d, d), rank=rank, symmetric=True, outliers=share, random_state=0
    )


def distances(X, y, M, k, **options):
    found = []
    for steps in points:
        model = MatrixSensingRegressor(k, max_iter=steps, **options).fit(X, y)
        found.append(np.linalg.norm(model.matrix_ - M))
    return found


colours = {0.1: "#0072b2", 0.3: "#d55e00", 0.5: "#009e73"}
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for share, m in ((0.1, 1000), (0.3, 2500), (0.5, 5000)):
    X, y, M = problem(share, m)
    robust = {"loss": "absolute", "symmetric": True}
    for k, line in ((rank, "-"), (d, "--")):
        label = f"{share:.0%} outliers, {'rank 3' if k == rank else 'rank not told'}"
        axes[0].semilogy(
            points, distances(X, y, M, k, **robust), line, color=colours[share], label=label
        )
    squared = distances(X, y, M, rank, random_state=0)
    axes[0].semilogy(points, squared, ":", color=colours[share])
axes[0].text(210, 4, "squared loss", color="0.3")
axes[0].set(xlabel="step", ylabel="distance to the matrix", ylim=(1e-9, 30))
axes[0].set_title("Flat while it grows out of the start, then linear")
axes[0].legend(frameon=False, fontsize=8)

# %%
# The residuals tell which measurements were wrong: ``outlier_mask_``. Nothing separates right and
# wrong in the targets themselves.

X, y, M = problem(0.3, 2500)
model = MatrixSensingRegressor(loss="absolute", symmetric=True).fit(X, y)
wrong = np.abs(y - np.einsum("ijk,jk", X, M)) > 1e-6
agree = (model.outlier_mask_ == wrong).mean()
print(f"rank {model.rank_}, {model.n_iter_} steps; mask right for {agree:.2%} of the samples")
residual = np.abs(y - model.predict(X))
bins = np.geomspace(1e-11, 100, 45)
axes[1].hist(residual[~wrong], bins, color="#0072b2", alpha=0.8, label="right")
axes[1].hist(residual[wrong], bins, color="#d55e00", alpha=0.8, label="wrong by design")
axes[1].axvline(residual[model.outlier_mask_].min(), color="0.3", linewidth=1, linestyle="--")
axes[1].set(xscale="log", xlabel="absolute residual", ylabel="samples")
axes[1].set_title("Residuals, 30% outliers; dashed: outlier_mask_")
axes[1].legend(frameon=False)

# %%
# How many samples does it take?
# ------------------------------
#
# Huber regression on the 400 entries of the matrix is robust too, once there are about twice as
# many samples as entries. Low rank makes do with fewer.

sizes = [250, 350, 450, 600, 800, 1000]
errors = {"sub-gradients, rank not told": [], "HuberRegressor": []}
for m in sizes:
    X, y, M = problem(0.1, m)
    model = MatrixSensingRegressor(loss="absolute", symmetric=True).fit(X, y)
    huber = HuberRegressor(fit_intercept=False, alpha=0, max_iter=300).fit(X.reshape(m, -1), y)
    for values, matrix in zip(
        errors.values(), (model.matrix_, huber.coef_.reshape(d, d)), strict=True
    ):
        values.append(np.linalg.norm(matrix - M) / np.linalg.norm(M))
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, values), colour in zip(errors.items(), ("#0072b2", "#d55e00"), strict=True):
    ax.semilogy(sizes, values, "o-", color=colour, label=name)
    print(name, ", ".join(f"{m}: {value:.1e}" for m, value in zip(sizes, values)))
ax.axvline(d * d, color="0.6", linestyle="--", linewidth=1)
ax.text(d * d + 8, 3e-8, "entries", color="0.4")
ax.set(xlabel="samples, a tenth of them wrong", ylabel="relative error")
ax.set_title("20 x 20, rank 3")
ax.legend(frameon=False)
plt.show()
