"""
Forecasts and frequencies of a swinging pendulum
================================================

A pendulum is measured from many releases; its equation is not known. One linear operator on
functions of the state forecasts it, and its eigenvalues say how fast it swings and how fast the
swing dies out.
"""

# %%
# Trajectories of unequal lengths
# -------------------------------

import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import solve_ivp

from sklr.neural_network import InformationKoopman

DT = 0.1


def pendulum(t, x):
    return [x[1], -np.sin(x[0]) - 0.1 * x[1]]


def release(angle, n_steps):
    t = DT * np.arange(n_steps)
    return solve_ivp(pendulum, (0, t[-1]), [angle, 0.0], t_eval=t, rtol=1e-9).y.T


rng = np.random.default_rng(0)
train = [
    release(angle, n) for angle, n in zip(rng.uniform(-2.5, 2.5, 30), rng.integers(60, 150, 30))
]
test = [release(angle, 150) for angle in (0.6, 1.4, 2.2)]

# %%
# Three encoders
# --------------
#
# DMD knows one frequency; a pendulum swings slower the wider it swings. Through the states, a
# dictionary follows it.

fits = {
    "linear (DMD)": InformationKoopman("linear", dt=DT, random_state=0),
    "polynomial, linear forecast": InformationKoopman(
        "polynomial", degree=5, relift=False, dt=DT, random_state=0
    ),
    "default": InformationKoopman(dt=DT, random_state=0),
}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), sharex=True, sharey=True)
for axis, (name, fit) in zip(axes, fits.items()):
    fit.fit(train)
    for states in test:
        axis.plot(*states.T, color="0.7", linewidth=4)
        axis.plot(*fit.forecast(states[:1], 149)[0].T, color="C0")
    axis.set(title=f"{name}\nscore {fit.score(test):.2g}", xlabel="angle (rad)")
axes[0].set_ylabel("velocity (rad/s)")
figure.suptitle("Phase portraits: measured (grey) and forecast from the first state")
figure.tight_layout()

# %%
# The default chose, by forecasts of trajectories set aside:

default = fits["default"]
print(default.encoder_, "through the states" if default.relift_ else "linearly")

# %%
# The spectrum
# ------------
#
# Small swings have the rate -0.05 and the frequency sqrt(1 - 0.05^2). Powers of them are
# eigenvalues too, on a lattice; a polynomial dictionary finds the first of these.

figure, axes = plt.subplots(1, 2, figsize=(9, 4))
circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
axes[0].plot(circle.real, circle.imag, color="0.7")
frequency = np.sqrt(1 - 0.05**2)
lattice = np.array([[-0.05 * (i + j), frequency * (i - j)] for i in range(4) for j in range(4)])
axes[1].plot(*lattice.T, "+", color="0.6", markersize=12, label="exact, near rest")
for name, mark in (("linear (DMD)", "o"), ("polynomial, linear forecast", "x")):
    values = fits[name].koopman_eigenvalues_
    rates = fits[name].continuous_eigenvalues_
    axes[0].plot(values.real, values.imag, mark, label=name)
    axes[1].plot(rates.real, rates.imag, mark, label=name)
axes[0].set(title="Eigenvalues and the unit circle", xlabel="real", ylabel="imaginary")
axes[0].set_aspect("equal")
axes[1].set(
    title="Rates and frequencies", xlabel="rate (1/s)", ylabel="frequency (rad/s)", xlim=(-0.6, 0.1)
)
axes[1].legend(loc="lower left", fontsize=8)
figure.tight_layout()
plt.show()
