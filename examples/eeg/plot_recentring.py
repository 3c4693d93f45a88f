"""
From Monday to Friday: what recentring does
===========================================

A cap is put on again, gel has dried, somebody is tired: covariances of a second session lie
elsewhere, and a classifier trained on the first is lost there.
:class:`~sklr.covariance.GroupRecentering` moves the centre of each session to one place, without
labels.
"""

# %%
# Two sessions
# ------------
#
# Simulated left and right hand imagery over nine channels. On Friday channels are scaled and mixed
# a little.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklr.covariance import AugmentedCovariance, GroupRecentering, TangentSpace
from sklr.datasets import make_motor_imagery

channels = "FC3 FCz FC4 C3 Cz C4 CP3 CPz CP4".split()
X, y = make_motor_imagery(160, channels=channels, band=(8, 35), subject=3, random_state=0)
friday = np.arange(160) >= 80
rng = np.random.default_rng(3)
drift = np.exp(0.3 * rng.standard_normal(9))[:, None] * (
    np.eye(9) + 0.15 * rng.standard_normal((9, 9))
)
X[friday] = drift @ X[friday]
session = np.where(friday, "Friday", "Monday")

covariances = AugmentedCovariance(estimator="oas").fit_transform(X)

# %%
# Trained on Monday, used on Friday
# ---------------------------------
#
# Friday's trials come as one batch, whose own mean is the centre: nothing about the session
# has to be named. Its labels are used for the score only.

classifier = make_pipeline(TangentSpace(), LogisticRegression(max_iter=1000))
recentred = make_pipeline(GroupRecentering(), TangentSpace(), LogisticRegression(max_iter=1000))
for name, model in (("as they are", classifier), ("recentred", recentred)):
    model.fit(covariances[~friday], y[~friday])
    accuracy = model.score(covariances[friday], y[friday])
    print(f"{name:<12} accuracy on Friday {accuracy:.2f}")

# %%
# The same in a picture
# ---------------------
#
# Each trial at the decision value of a classifier trained on Monday (the line is its boundary), and
# on the axis of largest variance. As they are, Friday's trials are elsewhere, and all lie on one
# side of the boundary whatever the hand; recentred, the sessions lie on each other and the
# boundary divides both.

hands = {0: "left hand", 1: "right hand"}
colours = {"Monday": "#0072b2", "Friday": "#d55e00"}
centred = GroupRecentering().fit_transform(covariances, groups=session)
fig, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
for ax, matrices, title in zip(
    axes, (covariances, centred), ("as they are", "each session recentred"), strict=True
):
    classifier.fit(matrices[~friday], y[~friday])
    decision = classifier.decision_function(matrices)
    spread = PCA(1).fit_transform(TangentSpace().fit_transform(matrices))[:, 0]
    ax.axvline(0, color="0.4", linewidth=1)
    for day, colour in colours.items():
        for label, hand in hands.items():
            rows = (session == day) & (y == label)
            filled = colour if label else "none"
            ax.scatter(decision[rows], spread[rows], s=24, edgecolor=colour, facecolor=filled,
                       label=f"{day}, {hand}")  # fmt: skip
    ax.set(title=title, xlabel="decision of a classifier trained on Monday")
axes[0].set_ylabel("axis of largest variance")
handles, labels = axes[0].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)

# %%
# One trial at a time
# -------------------
#
# Online there is no batch yet. Name the session, and its mean follows the trials as they come; as
# long as they are few it stays near Monday's.

centre = GroupRecentering().fit(covariances[~friday], groups=session[~friday])
model = classifier.fit(centre.transform(covariances[~friday], groups=session[~friday]), y[~friday])
right = []
for trial, label in zip(covariances[friday], y[friday], strict=True):
    centre.partial_fit(trial[None], groups=["Friday"])
    right.append(model.predict(centre.transform(trial[None], groups=["Friday"]))[0] == label)
print(f"online: accuracy {np.mean(right[:40]):.2f} on the first 40 trials, "
      f"{np.mean(right[40:]):.2f} on the last 40")  # fmt: skip

plt.show()
