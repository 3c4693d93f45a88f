"""
Digits that are turned, by a network that saw upright ones
==========================================================

:class:`~sklr.neural_network.LieGroupConvClassifier` has convolutions whose kernels are turned and
stretched by a few plane maps. It is given upright digits only, and then reads them under angles,
shears and scales. A perceptron shows what happens without.
"""

# %%
# Training on upright digits
# --------------------------
#
# Two classifiers, and the perceptron once more on images that were turned at random: what one would
# try first. ``max_angle=180`` asks for all angles; the default is for images that are turned a
# little.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import affine_transform, rotate
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from sklr.neural_network import LieGroupConvClassifier

X, y = load_digits(n_class=6, return_X_y=True)  # without 9, which is a 6 upside down
X = X.reshape(-1, 8, 8)
train, test = slice(0, 400), slice(400, 700)


def turned(images, degrees):
    """Return images turned about their middle, each by its angle or all by one."""
    angles = np.broadcast_to(degrees, len(images))
    return np.array([rotate(x, a, reshape=False, order=1) for x, a in zip(images, angles)])


ours = LieGroupConvClassifier(max_angle=180, n_channels=8, max_iter=20, random_state=0)
ours.fit(X[train], y[train])
plain = MLPClassifier((100,), max_iter=300, random_state=0)
plain.fit(X[train].reshape(-1, 64), y[train])
angles = np.random.default_rng(0).uniform(-180, 180, (8, 400))
more = np.concatenate([turned(X[train], a) for a in angles]).reshape(-1, 64)
augmented = MLPClassifier((100,), max_iter=60, early_stopping=True, random_state=0)
augmented.fit(more, np.tile(y[train], 8))

# %%
# Accuracy by angle
# -----------------
#
# Quarter turns change nothing for the group network, to rounding; between them it loses some, since
# images of 8 x 8 pixels and four maps are coarse. Augmentation needs no new network, and is the
# first thing to compare with.

degrees = np.arange(0, 181, 15)
curves = {"group convolutions": [], "perceptron": [], "perceptron, turned copies": []}
for angle in degrees:
    images = turned(X[test], angle)
    rows = images.reshape(-1, 64)
    for curve, score in zip(
        curves.values(),
        (
            ours.score(images, y[test]),
            plain.score(rows, y[test]),
            augmented.score(rows, y[test]),
        ),
    ):
        curve.append(score)
for name, curve in curves.items():
    print(f"{name:<26} upright {curve[0]:.2f}, mean over angles {np.mean(curve):.2f}")

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, curve in curves.items():
    ax.plot(degrees, curve, marker=".", label=name)
ax.set(xlabel="angle (degrees)", ylabel="accuracy", xticks=degrees[::2], ylim=(0, 1))
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)

# %%
# One digit under many maps
# -------------------------
#
# Above each image the digit that is read and its probability: of the group network, and of the
# perceptron that saw upright digits (in brackets).


def mapped(image, H):
    back, middle = np.linalg.inv(H), np.full(2, 3.5)
    return affine_transform(image, back, middle - back @ middle, order=1)


maps = {
    "upright": np.eye(2),
    "45 degrees": np.array([[0.71, -0.71], [0.71, 0.71]]),
    "90 degrees": np.array([[0.0, -1.0], [1.0, 0.0]]),
    "shear": np.array([[1.0, 0.0], [0.4, 1.0]]),
    "smaller": 0.8 * np.eye(2),
    "wider": np.diag([0.9, 1.2]),
}
chosen = [np.flatnonzero(y[test] == digit)[0] + test.start for digit in (2, 3, 4)]
fig, axes = plt.subplots(len(chosen), len(maps), figsize=(9, 5), layout="constrained")
for row, index in zip(axes, chosen):
    for ax, (name, H) in zip(row, maps.items()):
        image = mapped(X[index], H)
        p, q = ours.predict_proba(image[None])[0], plain.predict_proba(image.reshape(1, 64))[0]
        ax.imshow(image, cmap="gray_r")
        ax.set_title(f"{p.argmax()}: {p.max():.2f} ({q.argmax()}: {q.max():.2f})", fontsize=9)
        ax.set(xticks=[], yticks=[])
        if index == chosen[-1]:
            ax.set_xlabel(name)
plt.show()

# %%
# How much is left of the symmetry
# --------------------------------
#
# ``equivariance_error`` says for each image how far a map moves its features: 0 not at all, 1 as
# far as two training images are apart.

for name, H in maps.items():
    print(f"{name:<12} {np.median(ours.equivariance_error(X[test], H)):.2f}")
