"""
From one EEG session to the next
================================

A classifier of imagined movements is calibrated in one session and used in another, after the cap
was put on again: channels have other gains, and covariances lie elsewhere. Transport maps the
features of the new session onto the old one's, for which the classifier was made. No label of the
new session is used.
"""

# %%
# Two sessions of one person
# --------------------------
#
# Simulated trials of :func:`~sklr.datasets.make_motor_imagery`. In the second session the cap sits
# differently: its channels are mixed with their neighbours and amplified unequally. Features are
# tangent vectors of the covariances at the mean of the first session.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.covariance import AugmentedCovariance, TangentSpace
from sklr.datasets import make_motor_imagery
from sklr.transport import EntropicTransport


def sessions(subject, mixing):
    settings = {"effect": 2.0, "band": (8, 30), "subject": subject, "random_state": 0}
    X1, y1 = make_motor_imagery(80, session=0, **settings)
    X2, y2 = make_motor_imagery(80, session=1, **settings)
    rng = np.random.default_rng(subject)
    n_channels = X1.shape[1]
    cap = np.diag(np.exp(mixing * rng.standard_normal(n_channels)))
    cap += 0.3 * mixing * rng.standard_normal((n_channels, n_channels))
    return X1, y1, np.einsum("ij,tjs->tis", cap, X2), y2


def features(X1, X2):
    tangent = make_pipeline(AugmentedCovariance(), TangentSpace(), StandardScaler())
    return tangent.fit_transform(X1), tangent.transform(X2)


def accuracies(subject, mixing):
    X1, y1, X2, y2 = sessions(subject, mixing)
    F1, F2 = features(X1, X2)
    clf = LogisticRegression(C=0.05, max_iter=1000).fit(F1, y1)
    # Fitted on the first half of the session, used on the second: the map is for new points.
    adapt = EntropicTransport().fit(F2[:40], X_target=F1)
    return clf.score(F2[40:], y2[40:]), clf.score(adapt.transform(F2[40:]), y2[40:])


# %%
# Twelve persons
# --------------

mixings = [0.0, 0.2, 0.4, 0.6]
subjects = range(12)
scores = np.array([[accuracies(s, mixing) for s in subjects] for mixing in mixings])
for mixing, row in zip(mixings, scores, strict=True):
    plain, adapted = row.mean(axis=0)
    print(f"mixing {mixing}: as it is {plain:.3f}, mapped {adapted:.3f}")

X1, y1, X2, y2 = sessions(1, 0.4)
F1, F2 = features(X1, X2)
mapped = EntropicTransport().fit(F2, X_target=F1).transform(F2)
plane = PCA(2).fit(F1)

fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", width_ratios=[1, 1, 1.1])
for ax, second, title in ((axes[0], F2, "as it is"), (axes[1], mapped, "mapped")):
    for label, colour in ((0, "#0072b2"), (1, "#d55e00")):
        first, other = plane.transform(F1[y1 == label]), plane.transform(second[y2 == label])
        ax.scatter(*first.T, s=14, color=colour, alpha=0.35, linewidth=0)
        ax.scatter(*other.T, s=18, color=colour, marker="x", linewidth=1)
    ax.set(title=f"second session {title}", xticks=[], yticks=[], xlabel="component 1")
axes[0].set_ylabel("component 2")
axes[0].plot([], [], "o", color="0.5", alpha=0.5, label="session 1")
axes[0].plot([], [], "x", color="0.5", label="session 2")
axes[0].legend(frameon=False, fontsize=8)
for k, (name, colour, marker) in enumerate((("as it is", "0.5", "s"), ("mapped", "#009e73", "o"))):
    spread = scores[:, :, k].std(axis=1, ddof=1) / np.sqrt(len(subjects))
    axes[2].errorbar(
        mixings, scores[:, :, k].mean(axis=1), spread, color=colour, marker=marker, capsize=3,
        label=name,
    )  # fmt: skip
axes[2].axhline(0.5, color="0.7", linestyle="--", linewidth=1)
axes[2].set(xlabel="how differently the cap sits", ylabel="accuracy in session 2", ylim=(0.4, 1.0))
axes[2].set_xticks(mixings)
axes[2].legend(frameon=False, loc="upper right")
axes[2].spines[["top", "right"]].set_visible(False)
plt.show()
