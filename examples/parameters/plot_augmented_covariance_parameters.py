"""
Parameters of augmented covariances
===================================

:class:`~sklr.covariance.AugmentedCovariance` stacks ``order`` copies of a trial, each ``lag``
samples later. Both decide which rhythms a covariance can tell apart; ``estimator`` decides what
becomes of large matrices from short trials.
"""

# %%
# ``order`` and ``lag``
# ---------------------
# Two classes of trials have rhythms with periods of 10 and 8 samples, and equal covariances. The
# ordinary covariance (order 1) sees how strong a channel is, not at which frequency. With a second
# copy it does. Lags of a quarter to a half of a period say most, a whole period says least,
# since both rhythms are nearly back where they were.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sklr.covariance import AugmentedCovariance, TangentSpace
from sklr.datasets import make_ar2_trials

X, y = make_ar2_trials(
    80, n_channels=4, n_times=160, frequencies=(0.1, 0.125), radius=0.9, random_state=0
)
folds = StratifiedKFold(3, shuffle=True, random_state=0)


def score(**parameters):
    """Return the cross-validated accuracy of a linear classifier in the tangent space."""
    steps = AugmentedCovariance(**parameters), TangentSpace(), LogisticRegression(max_iter=500)
    return cross_val_score(make_pipeline(*steps), X, y, cv=folds).mean()


orders, lags = (1, 2, 3, 4), (1, 2, 3, 4, 5, 8, 12)
found = np.array([[score(order=p, lag=t, estimator="oas") for t in lags] for p in orders])
figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
picture = ax.imshow(found, vmin=0.5, vmax=1, cmap="viridis")
for (i, j), value in np.ndenumerate(found):
    ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.8 else "k")
ax.set(xlabel="lag (samples)", ylabel="order", title="accuracy; chance is 0.5")
ax.set(xticks=range(len(lags)), xticklabels=lags, yticks=range(len(orders)), yticklabels=orders)
figure.colorbar(picture, ax=ax, label="accuracy")

# %%
# :class:`~sklr.covariance.AugmentedCovarianceSVCCV` searches such a grid in a fraction of
# ``GridSearchCV``'s time, :class:`~sklr.covariance.AugmentedCovarianceAverageSVC` averages over it.
#
# ``estimator``
# -------------
# Eight channels and order 4 give matrices of 32 rows. While a trial has several times as many
# samples, the plain covariance is best; where it has hardly more, an estimator that shrinks
# ("oas", "lwf") is slightly better; with fewer "cov" is singular, and refused.
X, y = make_ar2_trials(
    80, n_channels=8, n_times=200, frequencies=(0.1, 0.125), radius=0.9, random_state=0
)
lengths = (48, 64, 100, 200)
figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for estimator in ("cov", "oas", "lwf"):
    values = []
    for length in lengths:
        steps = AugmentedCovariance(4, 2, estimator=estimator), TangentSpace()
        pipe = make_pipeline(*steps, LogisticRegression(max_iter=500))
        values.append(cross_val_score(pipe, X[..., :length], y, cv=folds).mean())
    ax.plot(lengths, values, "o-", label=f'estimator="{estimator}"')
ax.axhline(0.5, color="0.6", ls=":", label="chance")
ax.set(xlabel="samples a trial", ylabel="accuracy", ylim=(0.4, 1.02))
ax.legend(loc="lower right")
