"""
Digits under a shift
====================

A classifier is trained on one scanner and used on another. Labels exist for the first only.
:class:`~sklr.transport.EntropicTransport` learns, without labels, a map from the old images to the
new ones; the classifier is trained on the mapped images. Everything stands inside
cross-validation: which domain a sample is of travels with it by metadata routing.
"""

# %%
# Two scanners
# ------------
#
# Half of the digits (8 x 8 pixels) are as they are. The other half comes from a scanner with a
# washed-out scale of grey that darkens towards the right.

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sklr.transport import EntropicTransport

sklearn.set_config(enable_metadata_routing=True)

X, y = load_digits(return_X_y=True)
X, y = X[:1200] / 16.0, y[:1200]
rng = np.random.default_rng(0)
domain = np.where(rng.permutation(len(X)) < len(X) // 2, 1, -1)  # 1: old, -1: new


def new_scanner(images, strength):
    ramp = np.linspace(0, 1, 8)
    grey = (1 - 0.6 * strength) * images.reshape(-1, 8, 8) + strength * ramp
    return grey.reshape(len(images), 64) + 0.05 * rng.standard_normal(images.shape)


def shifted(strength):
    Z = X.copy()
    Z[domain < 0] = new_scanner(X[domain < 0], strength)
    return Z


# %%
# Scores on the new scanner
# -------------------------
#
# The classifier is fitted with weight on the old samples and scored with weight on the new ones;
# both weights are its ``sample_weight``, so that one of them goes by another name. The transformer
# maps old samples and leaves new ones as they are.

cv = StratifiedKFold(4, shuffle=True, random_state=0)
on_old, on_new = (domain > 0).astype(float), (domain < 0).astype(float)


def classifier():
    clf = LogisticRegression(max_iter=300)
    return clf.set_fit_request(sample_weight="on_old").set_score_request(sample_weight=True)


def mapping(reg):
    transport = EntropicTransport(reg, tol=1e-6)
    transport.set_fit_request(sample_domain=True, sample_weight=False)
    return transport.set_transform_request(sample_domain=True)


strengths = [0.0, 0.5, 1.0, 1.5]
weights = {"on_old": on_old, "sample_weight": on_new}
scores = {"as it is": [], "reg = 0.1": [], "reg = 0.01": []}
for strength in strengths:
    Z = shifted(strength)
    scores["as it is"].append(
        cross_val_score(make_pipeline(classifier()), Z, y, cv=cv, params=weights)
    )
    for reg in (0.1, 0.01):
        pipe = make_pipeline(mapping(reg), classifier())
        scores[f"reg = {reg:g}"].append(
            cross_val_score(pipe, Z, y, cv=cv, params={**weights, "sample_domain": domain})
        )
for name, values in scores.items():
    print(f"{name:12s}", ", ".join(f"{v.mean():.3f} +- {v.std():.3f}" for v in values))

# %%
# What the map does
# -----------------
#
# Old digits, their images on the new scanner, and some of the new scanner's own. The map is the
# mean of the new digits under the plan: softer than a digit, the more so the larger `reg`.

Z = shifted(1.0)
transport = EntropicTransport(0.01).fit(Z, sample_domain=domain)
old = np.flatnonzero(domain > 0)[:7]
new = np.flatnonzero(domain < 0)[:7]
rows = {"old": Z[old], "mapped": transport.transform(Z[old]), "new": Z[new]}

fig = plt.figure(figsize=(10, 3.6), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1.25, 1])
axes = left.subplots(3, 7)
for row, (name, images) in zip(axes, rows.items(), strict=True):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="Greys", vmin=0, vmax=1.6)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
ax = right.subplots()
for (name, values), colour, marker in zip(
    scores.items(), ["0.5", "#0072b2", "#d55e00"], "sov", strict=True
):
    ax.errorbar(
        strengths, [v.mean() for v in values], [v.std() for v in values],
        color=colour, marker=marker, capsize=3, label=name,
    )  # fmt: skip
ax.set(xlabel="strength of the shift", ylabel="accuracy on the new scanner", ylim=(0, 1.02))
ax.legend(frameon=False, loc="lower left")
ax.spines[["top", "right"]].set_visible(False)
sklearn.set_config(enable_metadata_routing=False)
plt.show()
