"""
What a filter of binary codes does to an attacked digit
=======================================================

Small changes of an image, along the gradient of a classifier, change its answer.
:class:`~sklr.neural_network.LatentQuantizationFilter` has never seen such a change, nor the
classifier: it turns each image into a few bits and draws it anew from them.
"""

# %%
# A classifier and an attack
# --------------------------
#
# For a linear classifier the gradient of the loss is known. Every pixel goes a step along its
# sign (FGSM), here 2 of 16 grey levels and more.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from sklr.neural_network import LatentQuantizationFilter

X, y = load_digits(return_X_y=True)
train, test = slice(0, 1300), slice(1300, None)
classifier = LogisticRegression(C=0.01, max_iter=500).fit(X[train], y[train])


def attacked(X, y, size):
    """Return images moved by `size` along the sign of the gradient of the loss."""
    error = classifier.predict_proba(X) - np.eye(10)[y]
    return np.clip(X + size * np.sign(error @ classifier.coef_), 0, 16)


# %%
# The filter
# ----------
#
# It is fitted on clean images without labels. PCA with 16 components is the linear filter, and
# rounding at half of the range the simplest one.

lq = LatentQuantizationFilter(max_iter=30, random_state=0).fit(X[train])
pca = PCA(16).fit(X[train])
filters = {
    "none": lambda Z: Z,
    "latent filter": lq.transform,
    "PCA 16": lambda Z: pca.inverse_transform(pca.transform(Z)),
    "rounding": lambda Z: 16 * (Z > 8),
}
sizes = [0, 1, 2, 3, 4]
curves = {
    name: [classifier.score(function(attacked(X[test], y[test], size)), y[test]) for size in sizes]
    for name, function in filters.items()
}
for name, curve in curves.items():
    print(f"{name:<15}", *[f"{value:.2f}" for value in curve])
flipped = lq.bit_flips(X[test], attacked(X[test], y[test], 3)).mean()
print(f"bits that the attack of size 3 flips: {flipped:.0%}")

# %%
# What is seen
# ------------
#
# Above each image stands what the classifier says of it.

shown = [np.flatnonzero(y[test] == digit)[3] for digit in (0, 3, 4, 5, 7, 9)]
clean, labels = X[test][shown], y[test][shown]
bad = attacked(clean, labels, 3)
rows = {"clean": clean, "attacked": bad, "PCA 16": filters["PCA 16"](bad)}
rows |= {"rounding": filters["rounding"](bad), "latent filter": lq.transform(bad)}
fig, axes = plt.subplots(5, 6, figsize=(6, 6.4), subplot_kw={"xticks": [], "yticks": []})
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image, said, label in zip(line, images, classifier.predict(images), labels):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(str(said), fontsize=9, color="C0" if said == label else "C3", pad=2)
fig.tight_layout(pad=0.4)

# %%
# How far it helps
# ----------------
#
# The attacker here knows the classifier but not the filter. One who knows both goes through it, and
# then little is left: the user guide has that table too. Cleaning, not security, is what such a
# filter is for.

fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for name, curve in curves.items():
    ax.plot(sizes, curve, "o-", label=name)
ax.set(xlabel="size of the attack (grey levels of 16)", ylabel="accuracy on new digits")
ax.legend()
plt.show()
