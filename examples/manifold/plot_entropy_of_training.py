"""
What a network learns, seen from its hidden layers
==================================================

Does a network generalise, or does it memorise? The labels it is trained on can tell, without a
test set: the diffusion spectral mutual information of its hidden layers with them rises in the
first case and hardly does in the second. Here it is followed epoch by epoch for a small network
of scikit-learn, with no callback: ``partial_fit`` is one epoch, and the weights are public.
"""

# %%
# A network that can be looked into
# ---------------------------------
#
# Two networks see the same images of digits. One has their labels, the other has them shuffled:
# there is nothing to learn, only to memorise. The hidden activations are a few products. They grow
# as the training goes on, and a kernel of fixed bandwidth would see them drift apart until each is
# alone; so each layer is scaled to a total variance of one.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from sklr.manifold import DiffusionSpectralEntropy
from sklr.metrics import diffusion_spectral_mutual_information

X, y = load_digits(return_X_y=True)
X, y, X_test, y_test = X[:1000] / 16, y[:1000], X[1000:] / 16, y[1000:]
labels = {"true labels": y, "shuffled labels": np.random.default_rng(0).permutation(y)}


def hidden_layers(network, X):
    """Return the activations of each hidden layer, scaled to a total variance of one."""
    layers = []
    for weights, offsets in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        X = np.maximum(X @ weights + offsets, 0)
        layers.append(X / np.sqrt(X.var(axis=0).sum()))
    return layers


# %%
# Entropy and information, epoch by epoch
# ---------------------------------------
#
# Entropies can be compared at one bandwidth only. Each layer's is found once, after the first
# epoch: the estimator keeps it, and scores the later ones. Two steps of the walk, ``t=2``, see
# little of the noise.

settings = {"t": 2, "random_state": 0}
looked_at = [1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 40]
record = {}
for name, target in labels.items():
    network = MLPClassifier((128, 64), learning_rate_init=2e-3, random_state=0)
    measures, rows = None, []
    for epoch in range(1, looked_at[-1] + 1):
        network.partial_fit(X, target, classes=np.arange(10))
        if epoch not in looked_at:
            continue
        layers = hidden_layers(network, X)
        if measures is None:
            measures = [DiffusionSpectralEntropy(**settings).fit(layer) for layer in layers]
        row = []
        for layer, dse in zip(layers, measures, strict=True):
            information = diffusion_spectral_mutual_information(
                layer, target, bandwidth=dse.bandwidth_, n_repeats=3, **settings
            )
            row.append((dse.score(layer), information))
        rows.append(row)
        scores = network.score(X, target), network.score(X_test, y_test)
    record[name] = np.array(rows)  # epochs, layers, (entropy, information)
    print(f"{name}: accuracy {scores[0]:.2f} in training, {scores[1]:.2f} on new images")

# %%
# The picture
# -----------
#
# Left, the entropy of the layers; right, the information about the labels of the training. It
# rises where these mean something. The other network memorises as well as it can, and its layers
# know next to nothing of what it memorises.

colours = {"true labels": "#0072b2", "shuffled labels": "#d55e00"}
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for name, values in record.items():
    for layer, style in enumerate(("--", "-")):
        for ax, what in zip(axes, (0, 1), strict=True):
            ax.plot(
                looked_at,
                values[:, layer, what],
                style,
                color=colours[name],
                linewidth=2,
                label=f"{name}, layer {layer + 1}",
            )
axes[0].set(title="Entropy of the hidden layer", ylabel="DSE (bits)")
axes[1].set(title="Information about the labels", ylabel="DSMI (bits)")
axes[1].axhline(0, color="0.7", linewidth=1, zorder=0)
for ax in axes:
    ax.set(xlabel="epoch", xlim=(0, looked_at[-1]))
    ax.spines[["top", "right"]].set_visible(False)
axes[1].legend(frameon=False, loc="center right")
plt.show()

# %%
# Noise, and what binning makes of it
# -----------------------------------
#
# The classical entropy of binned activations sees every point alone in its cell. Isotropic
# noise on 64 coordinates, in which a cloud of dimension 4 lies: the diffusion entropy with two
# steps stays where it was, the binned one goes to its ceiling, the logarithm of the number of
# points.

from sklr.metrics import diffusion_spectral_entropy, shannon_binned_entropy

rng = np.random.default_rng(0)
cloud = np.zeros((500, 64))
cloud[:, :4] = 5 * rng.standard_normal((500, 4))
noise = rng.standard_normal(cloud.shape)
levels = np.linspace(0, 1, 9)
curves = {
    "binned": [shannon_binned_entropy(cloud + s * noise) for s in levels],
    "DSE, t = 1": [diffusion_spectral_entropy(cloud + s * noise, bandwidth=10.0) for s in levels],
    "DSE, t = 2": [
        diffusion_spectral_entropy(cloud + s * noise, bandwidth=10.0, t=2) for s in levels
    ],
}
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, values), colour in zip(curves.items(), ("0.5", "#cc79a7", "#0072b2"), strict=True):
    ax.plot(levels, values, color=colour, linewidth=2, marker="o", markersize=4)
    ax.annotate(name, (1, values[-1]), xytext=(6, 0), textcoords="offset points", va="center")
ax.axhline(np.log2(500), color="0.8", linestyle=":", zorder=0)
ax.set(xlabel="standard deviation of the noise", ylabel="entropy (bits)", xlim=(0, 1.25))
ax.set(ylim=(0, 9.5), xticks=[0, 0.5, 1])
ax.spines[["top", "right"]].set_visible(False)
plt.show()
