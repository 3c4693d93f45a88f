"""
An ordinary table with holes
============================

Thirteen chemical measurements of 178 wines, in thirteen units, and a fifth of them missing.
:class:`~sklr.decomposition.LowRankImputer` takes the table as it is, fills it in, and says how sure
it is.
"""

# %%
# The table
# ---------
#
# Proline is in the hundreds, hue is near one. Nothing is scaled, nothing is chosen.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from sklr.decomposition import LowRankImputer

truth = load_wine(as_frame=True).data
rng = np.random.default_rng(0)
holes = rng.random(truth.shape) < 0.2
table = truth.mask(holes)

imputer = LowRankImputer().set_output(transform="pandas").fit(table)
filled = imputer.transform(table)
print(filled.iloc[:3, :5].round(2))
print(f"{imputer.n_clusters_} groups of wines, {imputer.n_components_} factors in each")

# %%
# How good is it?
# ---------------
#
# The error at the holes in standard deviations of the columns. The imputer has an estimate of it
# that needs no truth: from known values that it set aside.

spread = truth.std().to_numpy()


def error(Z):
    return np.sqrt(np.mean((((np.asarray(Z) - truth) / spread).to_numpy()[holes]) ** 2))


scaler = StandardScaler().fit(table)
near = scaler.inverse_transform(KNNImputer().fit_transform(scaler.transform(table)))
print(f"column means  {error(SimpleImputer().fit_transform(table)):.2f}")
print(f"five nearest  {error(near):.2f}")
print(f"low rank      {error(filled):.2f}, expected {imputer.held_out_error_:.2f}")

# %%
# How sure is it?
# ---------------
#
# Each filled value has a standard deviation. Bars of 1.645 of them should hold nine of ten truths.

values, std = LowRankImputer().fit(table).transform(table, return_std=True)
inside = np.abs(values - truth.to_numpy())[holes] < 1.645 * std[holes]
print(f"{inside.mean():.0%} of the bars hold the truth")

fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
for ax, name in zip(axes, ("flavanoids", "proline", "malic_acid"), strict=True):
    j = truth.columns.get_loc(name)
    hole = holes[:, j]
    true = truth[name].to_numpy()[hole]
    ax.errorbar(true, values[hole, j], 1.645 * std[hole, j], fmt="o", ms=4, lw=0.8, color="#0072b2")
    ends = [truth[name].min(), truth[name].max()]
    ax.plot(ends, ends, color="0.5", lw=1)
    ax.axhline(table[name].mean(), color="#d55e00", ls="--", lw=1)
    ax.set(title=name, xlabel="true value")
axes[0].set_ylabel("filled in, and 90 % bar")
axes[2].text(0.98, 0.02, "dashed: column mean", transform=axes[2].transAxes, ha="right")

# %%
# Multiple imputation
# -------------------
#
# A regression on a filled table believes values that nobody measured. Fitted to several tables
# drawn from the posterior, its coefficients differ by what the holes leave open: add that to their
# variance (Rubin's rules).

tables = imputer.sample_posterior(table, n_draws=20, random_state=0)
a, b = (truth.columns.get_loc(name) for name in ("flavanoids", "total_phenols"))
slopes = [np.polyfit(Z[:, a], Z[:, b], 1)[0] for Z in tables]
complete = np.polyfit(truth.iloc[:, a], truth.iloc[:, b], 1)[0]
print(
    f"slope {np.mean(slopes):.3f} +- {np.std(slopes):.3f} from the holes; complete {complete:.3f}"
)

# %%
# New rows
# --------
#
# A fitted imputer completes rows that it has not seen, from what was measured of them.

later = np.arange(len(table)) % 5 == 4
new = LowRankImputer().fit(table[~later]).transform(table[later])
gaps = ((new - truth[later]) / spread).to_numpy()[holes[later]]
print(f"error in every fifth wine, not seen in fit: {np.sqrt(np.mean(gaps**2)):.2f}")
plt.show()
