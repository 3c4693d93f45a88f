"""
Samples on a curve, and the noise that helps to find it
=======================================================

Points lie on a circle, more of them on the right than on the left. A generator is fitted by
maximum likelihood: to the points as they are, and to the points with a little noise, which is left
out again when samples are drawn.
"""

# %%
# Data without noise, on a curve
# ------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.mixture import GaussianMixture

from sklr.metrics import wasserstein_distance_nd
from sklr.neural_network import PerturbedGenerativeModel


def heaps(rng, n):
    angle = np.where(rng.random(n) < 0.7, rng.vonmises(0, 4, n), rng.vonmises(np.pi, 4, n))
    return np.column_stack([np.cos(angle), np.sin(angle)])


X = heaps(np.random.default_rng(1), 200)
fresh = heaps(np.random.default_rng(99), 400)

# %%
# The error as a function of the added noise: a U
# -----------------------------------------------
#
# Without noise the likelihood has no bound: the curve runs through the points, and no longer
# follows where the mass is. With much noise the curve itself is blurred. Samples without the noise
# that was added lie on the fitted curve. This is the paper's model, whose latents are uniform; the
# default fits their law once more at the end, and depends less on the noise.

levels = (0.0, 0.02, 0.05, 0.1, 0.2)
scale = np.sqrt(X.var(axis=0).mean())
fits = {
    level: PerturbedGenerativeModel(
        1,
        noise_scale=level * scale,
        latent_law="uniform",
        n_quadrature=100,
        max_iter=600,
        random_state=1,
    ).fit(X)
    for level in levels
}
default = PerturbedGenerativeModel(1, n_quadrature=100, max_iter=600, random_state=1).fit(X)
clean = [wasserstein_distance_nd(fits[k].sample(400), fresh) for k in levels]
noisy = [wasserstein_distance_nd(fits[k].sample(400, noise=True), fresh) for k in levels]
of_default = wasserstein_distance_nd(default.sample(400), fresh)
mixture = GaussianMixture(6, random_state=0).fit(X)
of_mixture = wasserstein_distance_nd(mixture.sample(400)[0], fresh)

figure, axis = plt.subplots(figsize=(6, 4))
axis.plot(levels, clean, "o-", label="samples on the curve")
axis.plot(levels, noisy, "s--", label="samples with the noise")
axis.axhline(of_mixture, color="0.6", label="GaussianMixture")
axis.axhline(of_default, color="C2", label="default: latents' law fitted, noise by rate")
axis.set(xlabel="added noise / scale of the data", ylabel="Wasserstein-1 distance to fresh points")
axis.legend()
figure.tight_layout()

# %%
# What is drawn
# -------------

figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharex=True, sharey=True)
shown = {
    "data": X,
    f"no noise added, sigma {fits[0.0].sigma_:.3f}": fits[0.0].sample(300),
    f"default: noise left out, sigma {default.sigma_:.3f}": default.sample(300),
    "default: noise in": default.sample(300, noise=True),
}
for axis, (name, points) in zip(axes, shown.items()):
    axis.scatter(*points.T, s=6, alpha=0.6)
    axis.set_title(name, fontsize=8)
    axis.set_aspect("equal")
figure.tight_layout()
plt.show()
