"""
Air quality as a product of smooth functions
============================================

A quantity depends on temperature, hour of the day and station. None of them is on a grid, and one
is a name. :class:`~sklr.decomposition.FunctionalTuckerRegressor` learns a few latent functions of
each, with bands, and predicts with standard deviations, in time linear in the measurements.
"""

# %%
# Simulated measurements
# ----------------------
#
# A daily rhythm whose strength depends on the temperature, differently at each of five stations.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split

from sklr.decomposition import FunctionalTuckerRegressor, LatentFunctionsDisplay

rng = np.random.default_rng(0)
n = 2000
temperature = rng.normal(14, 8, n).clip(-8, 36)
hour = rng.uniform(0, 24, n)
station = rng.integers(0, 5, n)
gain, base = np.array([1.0, 0.4, 1.6, -0.5, 0.8]), np.array([0.0, 1.0, 0.5, 1.5, -0.5])
rush = np.exp(-0.5 * ((hour - 8) / 1.8) ** 2) + 0.8 * np.exp(-0.5 * ((hour - 18.5) / 2.2) ** 2)
truth = 3 * rush * (1 + np.tanh((10 - temperature) / 6)) * gain[station]
truth += base[station] * np.sin(2 * np.pi * hour / 24) * 0.04 * temperature
y = truth + 0.3 * rng.standard_normal(n)
X = np.c_[temperature, hour, station]
X_train, X_test, y_train, y_test, _, f_test = train_test_split(X, y, truth, random_state=0)

model = FunctionalTuckerRegressor(rank=2, categorical_features=[2], random_state=0)
model.fit(X_train, y_train)
forest = RandomForestRegressor(random_state=0).fit(X_train, y_train)
mean, std = model.predict(X_test, return_std=True)
for name, guess in (("functional Tucker", mean), ("random forest", forest.predict(X_test))):
    print(
        f"{name}: error against the noise-free truth {np.sqrt(np.mean((guess - f_test) ** 2)):.3f}"
    )
print(f"noise found {np.sqrt(model.noise_variance_):.3f}, simulated 0.3")
inside = np.abs(mean - y_test) < 1.645 * std
print(f"90 % intervals hold {inside.mean():.3f} of new measurements")

# %%
# The latent functions
# --------------------
#
# Two functions of each column, with bands of 95 %. They widen where there are few measurements: at
# the cold and the hot end. Which mixture of two functions comes out is a matter of the core.

display = LatentFunctionsDisplay.from_estimator(
    model, names=["temperature (°C)", "hour of the day", "station"]
)

# %%
# Predictions along a day
# -----------------------
#
# Two stations at 0 °C, with the standard deviation of the function itself (without the noise).

hours = np.linspace(0, 24, 200)
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for s, colour in ((2, "#0072b2"), (3, "#d55e00")):
    line = np.c_[np.zeros(200), hours, np.full(200, s)]
    mean, std = model.predict(line, return_std=True)
    std = np.sqrt(np.maximum(std**2 - model.noise_variance_, 0))
    ax.fill_between(hours, mean - 1.96 * std, mean + 1.96 * std, color=colour, alpha=0.2, lw=0)
    ax.plot(hours, mean, color=colour, label=f"station {s}")
    near = (np.abs(X_train[:, 0]) < 3) & (X_train[:, 2] == s)
    ax.scatter(X_train[near, 1], y_train[near], s=9, color=colour)
ax.set(xlabel="hour of the day", ylabel="y at 0 °C (dots: within 3 °C)", xlim=(0, 24))
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
