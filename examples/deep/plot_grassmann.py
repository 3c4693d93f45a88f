"""
A class is a subspace
=====================

The last layer of a classifier usually keeps one vector for each class, and looks at the side of a
plane on which a sample is. :class:`~sklr.neural_network.GrassmannClassifier` keeps a subspace for
each class, and looks at how much of a sample lies in it.
"""

# %%
# Classes that no plane separates
# -------------------------------
#
# Six classes, each a 3-dimensional subspace of 24 dimensions, with a little noise. A sample and its
# negative are of the same class, so a linear classifier is hardly above chance. The subspaces are
# trained on their Grassmann manifolds, without any hidden layer.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

from sklr.neural_network import GrassmannClassifier

rng = np.random.default_rng(0)
bases = np.linalg.qr(rng.standard_normal((6, 24, 3)))[0]
y = rng.integers(6, size=2600)
X = np.einsum("ndk,nk->nd", bases[y], rng.standard_normal((2600, 3)))
X += 0.1 * rng.standard_normal(X.shape)
train, test = slice(0, 600), slice(600, None)

components = [1, 2, 3, 4, 6, 8, 12, 16, 20, 23]
accuracy = [
    GrassmannClassifier(k, hidden_layer_sizes=(), max_iter=25, random_state=0)
    .fit(X[train], y[train])
    .score(X[test], y[test])
    for k in components
]
linear = LogisticRegression(max_iter=500).fit(X[train], y[train]).score(X[test], y[test])

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.plot(components, accuracy, "o-", color="C0", label="class subspaces")
ax.axhline(linear, color="C3", label="logistic regression")
ax.axhline(1 / 6, color="0.6", lw=1, ls=":", label="chance")
ax.axvline(3, color="0.8", lw=6, zorder=0)
ax.annotate("true dimension", (3.4, 0.22), color="0.4")
ax.set(xlabel="n_components", ylabel="test accuracy", ylim=(0, 1.03), xlim=(0, 24))
ax.legend(frameon=False, loc="center right", bbox_to_anchor=(0.75, 0.62))
plt.show()

# %%
# What each class sees in a digit
# -------------------------------
#
# On raw pixels the subspaces are sets of images. Each row is a test digit, then its projections
# on the subspaces of the ten classes: what of the digit each class keeps. Below each is the
# share of the digit's length that is in the subspace; the largest one, framed, is the answer.

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.5, stratify=y, random_state=0
)
classifier = GrassmannClassifier(6, hidden_layer_sizes=(), max_iter=40, random_state=0)
classifier.fit(X_train, y_train)
share = classifier.decision_function(X_test) / classifier.scale_
predicted = classifier.predict(X_test)
print(f"test accuracy {np.mean(predicted == y_test):.3f}")

wrong = np.flatnonzero(predicted != y_test)[:1]
shown = [np.flatnonzero((y_test == digit) & (predicted == digit))[3] for digit in (0, 3, 7)]
fig, axes = plt.subplots(4, 11, figsize=(9, 4.3), layout="constrained")
for row, sample in zip(axes, [*shown, *wrong], strict=True):
    row[0].imshow(X_test[sample].reshape(8, 8), cmap="gray_r")
    row[0].set_xlabel(f"a {y_test[sample]}", fontsize=9)
    for c in range(10):
        basis = classifier.components_[c]
        drawn = basis @ (basis.T @ X_test[sample])
        row[c + 1].imshow(drawn.reshape(8, 8), cmap="RdBu_r", vmin=-1, vmax=1)
        best = c == share[sample].argmax()
        weight = "bold" if best else "normal"
        row[c + 1].set_xlabel(f"{share[sample, c]:.2f}", fontsize=9, weight=weight)
        for spine in row[c + 1].spines.values():
            spine.set(color="black" if best else "0.8", linewidth=2.5 if best else 0.5)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for c in range(10):
    axes[0, c + 1].set_title(f"{c}", fontsize=10)
axes[0, 0].set_title("digit", fontsize=10)
plt.show()
