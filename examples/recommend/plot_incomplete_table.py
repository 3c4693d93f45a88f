"""
Filling in a table of which most is missing
===========================================

Sixty sensors watch a plume drift over a square, and at each time only one in eight of them reports;
some of what is reported is nonsense. Few factors explain what all of them would have seen:
:class:`~sklr.decomposition.LowRankImputer` finds these from the entries that are there.
"""

# %%
# The readings
# ------------
#
# Each sensor measures the sum of four sources, near ones more than far ones; the sources rise and
# fall in time. The complete table has rank four and one offset a sensor. Of its 400 x 60 readings
# 30 % are kept, with noise, and one in twenty of these is off by many standard deviations.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.impute import KNNImputer, SimpleImputer

from sklr.decomposition import LowRankImputer, alternating_minimization

rng = np.random.default_rng(0)
place, source = rng.uniform(size=(60, 2)), rng.uniform(size=(4, 2))
distance = np.linalg.norm(place[:, None] - source, axis=2)
place = place[np.argsort(distance[:, 0])]  # so that the picture shows something
distance = np.linalg.norm(place[:, None] - source, axis=2)
t = np.linspace(0, 1, 400)[:, None]
strength = 1 + np.sin(2 * np.pi * (np.array([1.0, 2.3, 3.1, 4.7]) * t + rng.uniform(size=4)))
truth = strength @ np.exp(-3 * distance).T + 0.5 * rng.standard_normal(60)

kept = rng.random(truth.shape) < 0.3
X = np.where(kept, truth + 0.05 * rng.standard_normal(truth.shape), np.nan)
broken = kept & (rng.random(truth.shape) < 0.05)
X[broken] += 10 * rng.standard_normal(broken.sum())
clean = np.where(broken, np.nan, X)

# %%
# Four ways to fill it in
# -----------------------
#
# The score is the root mean square error at the readings that were not kept, over the standard
# deviation of the table: 1 is what its mean would have. The robust losses do not need to know which
# readings are broken; the squared one is taken along by them.

imputers = {
    "column means": SimpleImputer(),
    "5 nearest rows": KNNImputer(),
    "low rank, squared loss": LowRankImputer(4, alpha=1, random_state=0),
    "low rank, Huber's loss": LowRankImputer(4, alpha=1, loss="huber", random_state=0),
}


def error(Z):
    return np.sqrt(np.mean((Z - truth)[~kept] ** 2)) / truth.std()


filled = {name: imputer.fit_transform(X) for name, imputer in imputers.items()}
for name, Z in filled.items():
    print(f"{name:24} {error(Z):.3f}")
undamaged = LowRankImputer(4, alpha=1, random_state=0).fit_transform(clean)
print(f"low rank, had nothing been broken: {error(undamaged):.3f}")

shown = {"observed": X, "complete": truth}
shown |= {name: filled[name] for name in list(imputers)[1:]}
fig, axes = plt.subplots(1, 5, figsize=(11, 4.2), sharey=True, layout="constrained")
low, high = np.percentile(truth, [1, 99])
colours = plt.get_cmap("viridis").with_extremes(bad="0.85")
for ax, (name, Z) in zip(axes, shown.items(), strict=True):
    image = ax.imshow(Z, aspect="auto", vmin=low, vmax=high, cmap=colours, interpolation="none")
    title = name.replace(", ", ",\n")
    if name not in ("observed", "complete"):
        title += f"\nerror {error(Z):.2f}"
    ax.set(title=title, xlabel="sensor")
axes[0].set_ylabel("time")
fig.colorbar(image, ax=axes, shrink=0.7, label="reading")

# %%
# New rows, and a score without labels
# ------------------------------------
#
# A fitted imputer fills in times that it has never seen, from what was measured at them. `score`
# leaves each reading out of its row's regression in turn, so that the number of factors can be
# chosen by cross-validation from the incomplete table alone.

from sklearn.model_selection import GridSearchCV, KFold

search = GridSearchCV(
    LowRankImputer(alpha=1, loss="huber", random_state=0),
    {"n_components": [2, 4, 6]},
    cv=KFold(3, shuffle=True, random_state=0),
).fit(X)
scores = search.cv_results_["mean_test_score"]
for n, score in zip(search.param_grid["n_components"], scores, strict=True):
    print(f"{n} factors: {score:.3f}")

# %%
# How well a sweep has to be solved
# ---------------------------------
#
# The theorem behind the method says that the regressions of a sweep need not be solved well. Here
# the error by sweep on a table of rank 20 whose factors differ in size by 30, with one to six steps
# of conjugate gradients for each regression, and with exact solves. Six steps do what exact solves
# do. On a table as hard as this one, three (the default) stay on a plateau for these twenty sweeps,
# and reach 1e-8 within a hundred.

M = rng.standard_normal((600, 20)) @ (rng.standard_normal((400, 20)) * np.geomspace(1, 30, 20)).T
R = np.where(rng.random(M.shape) < 0.35, M, np.nan)
hidden = np.isnan(R)
fig, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
for n_inner, colour in zip((1, 2, 3, 6, None), ("0.7", "#e69f00", "#0072b2", "#009e73", "k")):
    curve = []

    def note(_, model, curve=curve):
        gap = (model.U @ model.V.T - M)[hidden]
        curve.append(np.linalg.norm(gap) / np.linalg.norm(M[hidden]))

    solver = {"solver": "cholesky"} if n_inner is None else {"solver": "cg", "n_inner": n_inner}
    alternating_minimization(
        R, 20, alpha=1e-8, max_iter=20, tol=1e-14, random_state=0, callback=note, **solver
    )
    label = "exact" if n_inner is None else f"{n_inner} step{'s' * (n_inner > 1)}"
    style = {"ls": "--", "lw": 1.2, "zorder": 5} if n_inner is None else {"lw": 2}
    ax.semilogy(range(1, len(curve) + 1), curve, color=colour, label=label, **style)
ax.set(xlabel="sweep", ylabel="relative error at hidden entries")
ax.legend(frameon=False, title="inner solve")
plt.show()
