"""
Batch normalisation of covariance matrices, seen
================================================

Covariance matrices have no zero to subtract and no standard deviation to divide by, but they have
a barycentre and a dispersion, in each metric its own. Below, what normalisation does to 2 x 2
covariances under two metrics, and then what it does to the training of a network,
:class:`~sklr.neural_network.SPDNetClassifier`, on covariances of condition 1e6.
"""

# %%
# Two metrics, two pictures
# -------------------------
#
# A covariance is an ellipse. The affine-invariant metric centres by whitening, and sees ratios; the
# Bures-Wasserstein metric sees differences of standard deviations, so that long axes rule.
# :class:`~sklr.covariance.BuresWassersteinScaler` moves the mean (in orange) exactly to the unit
# circle and gives the set the dispersion that is asked for.

import matplotlib.pyplot as plt
import numpy as np

from sklr.covariance import BuresWassersteinScaler
from sklr.geometry import bw_mean, mean_riemann

rng = np.random.default_rng(0)
Z = rng.standard_normal((14, 2, 8)) * np.array([2.0, 0.5])[:, None]
turn = np.array([[0.8, -0.6], [0.6, 0.8]])
X = turn @ (Z @ Z.transpose(0, 2, 1) / 8) @ turn.T

bw = BuresWassersteinScaler(scale=0.5).fit_transform(X)

w, V = np.linalg.eigh(mean_riemann(X))
white = (V / np.sqrt(w)) @ V.T
w, V = np.linalg.eigh(white @ X @ white)
logs = np.log(w)
shrink = 1.0 / np.sqrt((logs**2).sum(axis=1).mean())  # twice .5: half a logarithm is a length
airm = (V * np.exp(shrink * logs)[:, None]) @ V.transpose(0, 2, 1)


def draw(ax, matrices, mean, title):
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for matrix in matrices:
        ax.plot(*(np.linalg.cholesky(matrix) @ circle), color="#0072b2", alpha=0.5, linewidth=1)
    ax.plot(*(np.linalg.cholesky(mean) @ circle), color="#d55e00", linewidth=2.5)
    ax.set(title=title, aspect="equal", xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), xticks=[], yticks=[])


fig, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
draw(axes[0], X, bw_mean(X), "covariances, and their mean")
draw(axes[1], bw, bw_mean(bw), "Bures-Wasserstein")
draw(axes[2], airm, mean_riemann(airm), "affine-invariant")

# %%
# Training on ill-conditioned covariances
# ---------------------------------------
#
# Three classes of 12 x 12 Wishart matrices with eigenvalues from 1 to 1e-6. On the left they differ
# by tiny rotations in all directions, which show where variances are small. On the right they
# differ by rotations among the six largest directions only, and the small variances are noise.
# Network, optimiser and learning rate are the same; only the normalisation after the bilinear map
# differs. Accuracy on matrices not trained on, mean of two seeds.

from sklr.neural_network import SPDNetClassifier


def wishart_classes(angle, large_only, seed, n=12, n_samples=240, condition=1e6):
    rng = np.random.default_rng(seed)
    lengths = np.sqrt(np.logspace(0, -np.log10(condition), n))
    skew = angle * rng.standard_normal((3, n, n))
    if large_only:
        skew[:, n // 2 :] = skew[:, :, n // 2 :] = 0
    turns = np.linalg.qr(np.eye(n) + skew - skew.transpose(0, 2, 1))[0]
    y = rng.integers(3, size=n_samples)
    Z = (turns * lengths)[y] @ rng.standard_normal((n_samples, n, 2 * n))
    if large_only:
        Z[:, n // 2 :] *= np.exp(rng.standard_normal((n_samples, n // 2, 1)))
    return Z @ Z.transpose(0, 2, 1) / (2 * n), y


styles = {
    "none": ({"norm": None}, "#999999"),
    "affine-invariant": ({"norm": "airm"}, "#009e73"),
    "Bures-Wasserstein": ({"norm": "gbw"}, "#0072b2"),
    "Bures-Wasserstein, power 0.5": ({"norm": "gbw", "power": 0.5}, "#d55e00"),
}
panels = {
    "classes differ in small directions": (0.001, False),
    "small directions are noise": (0.02, True),
}
epochs = np.arange(1, 31)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
for ax, (title, (angle, large_only)) in zip(axes, panels.items(), strict=True):
    for name, (settings, color) in styles.items():
        scores = []
        for seed in range(2):
            C, y = wishart_classes(angle, large_only, seed)
            model = SPDNetClassifier(max_iter=len(epochs), random_state=seed, **settings)
            model.fit(C[:120], y[:120], X_val=C[120:], y_val=y[120:])
            scores.append(model.validation_scores_)
        ax.plot(epochs, np.mean(scores, axis=0), color=color, label=name, linewidth=2)
        print(f"{title:<36}{name:<30}{np.mean(scores, axis=0)[-1]:.2f}")
    ax.axhline(1 / 3, color="0.5", linestyle=":", linewidth=1)
    ax.set(title=title, xlabel="epoch")
axes[0].set(ylabel="accuracy, other matrices", ylim=(0.25, 1.02))
handles = axes[0].get_legend_handles_labels()
fig.legend(*handles, loc="outside lower center", ncols=4, frameon=False)

# %%
# Which metric is best is a property of the data. Bures-Wasserstein is not better everywhere: where
# the classes differ in directions of small variance, only the affine-invariant metric sees it.
# Compare both, and a classical pipeline (:class:`~sklr.covariance.TangentSpace` with logistic
# regression) beside them.
