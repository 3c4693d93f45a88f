"""
Parameters of entropic transport
================================

:class:`~sklr.transport.EntropicTransport` maps one cloud of points to another. ``reg`` says how
much the plan is blurred, ``metric`` what a step costs, ``cost_norm`` in which unit ``reg`` is.
"""

# %%
# Two half moons, and the same drawn again, turned and moved. Lines join 60 points with the places
# that they are mapped to.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from sklr.transport import EntropicTransport

X, side = make_moons(300, noise=0.05, random_state=0)
target, _ = make_moons(300, noise=0.05, random_state=1)
turn = np.radians(35)
rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
target = target @ rotation + [3.0, 1.0]


def draw(ax, **parameters):
    """Draw where the points go, and how far what arrives has shrunk."""
    model = EntropicTransport(**parameters).fit(X, X_target=target)
    mapped = model.transform(X)
    ax.scatter(*target.T, s=5, c="0.8")
    ax.scatter(*X.T, s=5, c=side, cmap="coolwarm")
    ax.scatter(*mapped.T, s=5, c=side, cmap="coolwarm")
    for start, end in zip(X[::5], mapped[::5]):
        ax.plot(*np.stack([start, end]).T, c="0.6", lw=0.4, zorder=0)
    name = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    spread = np.ptp(mapped, axis=0).prod() / np.ptp(target, axis=0).prod()
    ax.set(title=f"{name}\narea of the box: {spread:.2f} of the target's", xticks=[], yticks=[])


# %%
# ``reg``
# -------
# Small values are nearly a matching, and take longer; large ones map everything to the middle of
# the target. The unit is the median cost within the target, see ``cost_norm``; the default is
# 0.1.
figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
for ax, reg in zip(axes, (0.001, 0.01, 0.1, 1.0)):
    draw(ax, reg=reg)

# %%
# ``metric`` and ``cost_norm``
# ----------------------------
# With plain distances costs differ less from one target to the next, so the same ``reg`` blurs
# more. With ``cost_norm="max"`` the blur grows with the distance between the clouds, and with
# one outlier; with None it is in the unit of the cost itself, and another unit of ``X`` is
# another blur.
figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
draw(axes[0], metric="sqeuclidean", reg=0.02)
draw(axes[1], metric="euclidean", reg=0.02)
draw(axes[2], cost_norm="max", reg=0.02)
draw(axes[3], cost_norm=None, reg=0.02)
