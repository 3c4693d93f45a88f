"""
One network at five widths
==========================

A perceptron that reads digits is trained once, and answers with all of its units, or with a half or
a quarter of them. A unit of a narrow network stands for several neighbours of the wide one, which
were put side by side because they are alike.
"""

# %%
# One training, five widths
# -------------------------
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklr.neural_network import MorphableClassifier, SizeCurveDisplay
from sklr.nn import WeightField, smooth_permutation

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
widths = [1.0, 0.8, 0.6, 0.4, 0.25]
options = {"hidden_layer_sizes": (64, 64), "random_state": 0}

classifier = MorphableClassifier(**options).fit(X_train, y_train)
for width in widths:
    classifier.set_params(width=width)
    score = classifier.score(X_test, y_test)
    print(f"width {width:4}: {classifier.n_params_:5} parameters, accuracy {score:.3f}")

# %%
# Beside networks cut after the fact
# ----------------------------------
# The same perceptron trained at one width only (its smallest width is 1). It is cut twice: the
# units with the largest weights are kept, or neighbours in a smooth order are put together. Neither
# trains again.
whole = MorphableClassifier(**options, min_width=1.0, smooth=False).fit(X_train, y_train)
scale, network = whole.export()
with torch.no_grad():
    inputs = scale(torch.tensor(X_test).float())


def score(module):
    with torch.no_grad():
        return float((module(inputs).argmax(dim=1).numpy() == y_test).mean())


norms = [network[k].weight.abs().sum(dim=1) for k in (0, 2)]
orders = [norm.argsort(descending=True) for norm in norms]
largest_first = WeightField(network, method="slimmable")
with torch.no_grad():
    first, second = orders
    chain = largest_first.network
    for layer, order in ((chain[0], first), (chain[2], second)):
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
    chain[2].weight.copy_(chain[2].weight[:, first])
    chain[4].weight.copy_(chain[4].weight[:, second])
neighbours = WeightField(smooth_permutation(network))

_, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
SizeCurveDisplay.from_estimator(
    classifier, X_test, y_test, ratios=widths, name="trained for every width", ax=ax
)
for name, field in {
    "neighbours put together": neighbours,
    "units with the largest weights": largest_first,
}.items():
    scores = [score(field.sample(width)) for width in widths]
    SizeCurveDisplay([field.n_parameters(w) for w in widths], scores, name=name).plot(ax=ax)
plt.show()

# %%
# What the order does
# -------------------
# The first layer's weights, a row for each hidden unit: as they were trained, and in their order.
fig, axes = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained", sharey=True)
for ax, module, title in (
    (axes[0], network, "as trained"),
    (axes[1], neighbours.network, "in a smooth order"),
):
    ax.imshow(module[0].weight.detach(), cmap="RdBu", vmin=-0.4, vmax=0.4, aspect="auto")
    ax.set(title=title, xlabel="pixel")
axes[0].set_ylabel("hidden unit")
plt.show()
before, after = (classifier.total_variation_[k] for k in (0, 1))
print(f"differences between neighbours: {before:.0f} before, {after:.0f} after")

# %%
# The plain narrow network, to go elsewhere
# -----------------------------------------
print(classifier.set_params(width=0.25).export())
