"""
Flow through a porous medium, without a solver
==============================================

Water seeps through a ground of two permeabilities. From 160 solved examples a network learns the
pressure of a new ground; beside it stand kernel ridge regression on principal components, and where
each of them errs.
"""

# %%
# Grounds and pressures
# ---------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import make_pipeline

from sklr.datasets import make_darcy
from sklr.neural_network import LatentSpectralRegressor

X, y = make_darcy(200, size=16, random_state=0)
train, test = slice(160), slice(160, 200)

# %%
# A network and a closed form
# ---------------------------
#
# A small network and a few epochs, so that this page builds quickly. The width of the kernel is
# the scale of the components; nothing else is tuned. (The network begins with such a closed form
# of its own, and learns what it leaves.)

network = LatentSpectralRegressor(width=8, max_iter=25, random_state=0).fit(X[train], y[train])
rows = X.reshape(len(X), -1)
components = PCA(60, random_state=0).fit(rows[train])
gamma = 0.25 / components.explained_variance_.sum()
closed = make_pipeline(components, KernelRidge(kernel="rbf", gamma=gamma, alpha=1e-4))
closed.fit(rows[train], y[train].reshape(160, -1))
found = {
    "network": network.predict(X[test]),
    "PCA + kernel ridge": closed.predict(rows[test]).reshape(-1, 16, 16),
}


def relative(prediction, wanted):
    error = np.linalg.norm((prediction - wanted).reshape(len(wanted), -1), axis=1)
    return error / np.linalg.norm(wanted.reshape(len(wanted), -1), axis=1)


for name, prediction in found.items():
    print(f"{name}: mean relative error {relative(prediction, y[test]).mean():.3f}")

# %%
# Predictions and error maps
# --------------------------
#
# Errors lie along the borders between the two kinds of ground, where the pressure has kinks.

figure, axes = plt.subplots(3, 6, figsize=(12, 6))
largest = max(np.abs(p[:3] - y[test][:3]).max() for p in found.values())
for row, axs in enumerate(axes):
    ground, pressure = X[test][row], y[test][row]
    panels = [("ground", ground, {}), ("pressure", pressure, {"vmin": 0, "vmax": pressure.max()})]
    for name, prediction in found.items():
        panels.append((name, prediction[row], {"vmin": 0, "vmax": pressure.max()}))
        limits = {"vmin": -largest, "vmax": largest, "cmap": "coolwarm"}
        panels.append(("error", prediction[row] - pressure, limits))
    for axis, (title, field, options) in zip(axs, panels):
        image = axis.imshow(field, **options)
        axis.set(xticks=[], yticks=[], title=title if row == 0 else "")
figure.colorbar(image, ax=axes, shrink=0.6, label="error")

# %%
# On a finer grid than it was trained on
# --------------------------------------
#
# The same grounds with more points, for which the network was not made.

X_fine, y_fine = make_darcy(200, size=31, random_state=0)
error = relative(network.predict(X_fine[test]), y_fine[test])
print(f"31 x 31: mean relative error {error.mean():.3f}")
plt.show()
