"""
Why delays see spectra
======================

A covariance matrix says which channels move together and forgets in which order. Two classes of
signals with the *same* covariance and different rhythms are therefore the same to every classifier
that looks at covariances. Stacking each trial with a delayed copy of itself brings the rhythm into
the matrix: this is the augmented covariance of :class:`~sklr.covariance.AugmentedCovariance`.
"""

# %%
# Two classes with equal covariances
# ----------------------------------
#
# Each channel is noise through a resonance (an autoregression of order two), scaled to unit
# variance. The classes differ in the resonance's frequency only. Nothing is left of that in the
# covariance: both classes have the identity.

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import welch
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sklr.covariance import AugmentedCovariance, TangentSpace, augmented_covariance
from sklr.datasets import make_ar2_trials

X, y = make_ar2_trials(random_state=0)
print(f"{len(X)} trials, {X.shape[1]} channels, {X.shape[2]} samples, classes {np.unique(y)}")

classes = np.unique(y)
colours = ["#0072b2", "#d55e00"]  # told apart by colour-blind readers too
names = [f"class {label}" for label in classes]

fig, axes = plt.subplots(1, 3, figsize=(10, 3.1), width_ratios=[1.9, 1, 1], layout="constrained")
for label, colour, name in zip(classes, colours, names, strict=True):
    frequency, power = welch(X[y == label], nperseg=64)
    curves = 10 * np.log10(power.mean(axis=1))  # one curve a trial, channels averaged
    low, middle, high = np.percentile(curves, [10, 50, 90], axis=0)
    axes[0].fill_between(frequency, low, high, color=colour, alpha=0.2, linewidth=0)
    axes[0].plot(frequency, middle, color=colour, label=name)
axes[0].set(xlabel="frequency (cycles per sample)", ylabel="power (dB)", title="Spectra differ")
axes[0].set_xlim(0, 0.5)
axes[0].legend(frameon=False)
for ax, label, name in zip(axes[1:], classes, names, strict=True):
    matrix = augmented_covariance(X[y == label], 1, 1).mean(axis=0)
    ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(matrix):
        ax.text(
            j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "k"
        )
    ax.set(title=f"Covariance, {name}", xticks=[], yticks=[])

# %%
# What a delay adds
# -----------------
#
# Stacked with itself at delays of one and two samples, a trial has a covariance of three by three
# blocks. The blocks on the diagonal are the covariance again, and cannot tell the classes apart.
# The others hold the covariance between a signal and its own past. For a rhythm of frequency f it
# goes like the cosine of 2 pi f times the delay: here the classes part.

order = 3
n_channels = X.shape[1]
means = [augmented_covariance(X[y == label], order, 1).mean(axis=0) for label in classes]
panels = [*means, means[0] - means[1]]
titles = [*names, "difference"]

fig, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
for ax, panel, title in zip(axes, panels, titles, strict=True):
    image = ax.imshow(panel, cmap="RdBu_r", vmin=-1, vmax=1)
    edges = np.arange(1, order) * n_channels - 0.5
    ax.hlines(edges, -0.5, order * n_channels - 0.5, color="0.3", linewidth=0.8)
    ax.vlines(edges, -0.5, order * n_channels - 0.5, color="0.3", linewidth=0.8)
    middles = (np.arange(order) + 0.5) * n_channels - 0.5
    labels = ["x(t)", "x(t+1)", "x(t+2)"]
    ax.set_xticks(middles, labels)
    ax.set_yticks(middles, labels if ax is axes[0] else [""] * order)
    ax.tick_params(length=0)
    ax.set_title(title)
fig.colorbar(image, ax=axes, shrink=0.85, label="covariance")

# %%
# What a classifier makes of it
# -----------------------------
#
# A linear classifier on the tangent space, by order: for the classes above, and for two whose
# resonances are close to each other. Five-fold cross-validation is repeated five times with other
# folds; the bars are the standard deviation between repetitions, and say how much the folds matter,
# not how another recording would come out. Order 1 is at chance for both. The spectrum of an
# autoregression of order two is identified by two delays, that is by order 3.

repeats = 5
cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=repeats, random_state=0)
orders = [1, 2, 3, 4]
settings = {"0.10 and 0.15 cycles per sample": (0.1, 0.15), "0.12 and 0.13": (0.12, 0.13)}

fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.axhline(0.5, color="0.6", linestyle="--", linewidth=1)
ax.text(orders[-1] + 0.35, 0.5, "chance", va="bottom", ha="right", color="0.4")
for (title, frequencies), colour, marker in zip(settings.items(), colours, "os", strict=True):
    X, y = make_ar2_trials(frequencies=frequencies, random_state=0)
    scores = []
    for order in orders:
        clf = make_pipeline(AugmentedCovariance(order), TangentSpace(), SVC(kernel="linear"))
        scores.append(cross_val_score(clf, X, y, cv=cv).reshape(repeats, -1).mean(axis=1))
    means, spread = np.mean(scores, axis=1), np.std(scores, axis=1, ddof=1)
    print(
        title, "accuracy by order:", ", ".join(f"{m:.3f} +- {s:.3f}" for m, s in zip(means, spread))
    )
    ax.errorbar(orders, means, yerr=spread, color=colour, marker=marker, capsize=4, label=title)
ax.set(xlabel="order", ylabel="accuracy", xticks=orders, ylim=(0.35, 1.03))
ax.set_xlim(orders[0] - 0.35, orders[-1] + 0.35)
ax.set_title("Two classes of equal covariance")
ax.legend(frameon=False, loc="center right", title="resonances")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
