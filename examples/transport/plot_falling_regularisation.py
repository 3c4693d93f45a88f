"""
Plans and potentials as the regularisation falls
================================================

An entropic transport plan is a blurred pairing. The regularisation says how much: from a plan that
pairs everything with everything to one that is nearly a map. Plain Sinkhorn sweeps slow down as it
falls, and kernels underflow; :func:`~sklr.transport.sinkhorn_newton` goes on.
"""

# %%
# Two bumps become three
# ----------------------
#
# Histograms on a line, squared distances as costs. Potentials are smooth functions of position
# whatever the regularisation, which is what makes their gradients and the map between the samples
# usable. One started from the solution of the one before is a warm start.

import matplotlib.pyplot as plt
import numpy as np

from sklr.transport import sinkhorn, sinkhorn_newton

x = np.linspace(0, 1, 300)


def bumps(*centres):
    density = sum(np.exp(-0.5 * ((x - centre) / 0.05) ** 2) for centre in centres) + 1e-3
    return density / density.sum()


a, b = bumps(0.3, 0.65), bumps(0.2, 0.5, 0.85)
C = (x[:, None] - x) ** 2
regs = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
results = [sinkhorn_newton(a, b, C, reg) for reg in regs]

colours = plt.cm.viridis(np.linspace(0, 0.85, len(regs)))
fig, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for ax, k in zip(axes, (0, 2, 4), strict=False):
    ax.imshow(np.sqrt(results[k].plan.T), origin="lower", extent=(0, 1, 0, 1), cmap="magma_r")
    ax.plot(x, 0.18 * a / a.max(), color="#0072b2", linewidth=1.5)
    ax.plot(0.18 * b / b.max(), x, color="#d55e00", linewidth=1.5)
    ax.set(title=f"plan, reg = {regs[k]:g}", xticks=[0, 1], yticks=[0, 1], xlabel="from")
axes[0].set_ylabel("to")
for reg, result, colour in zip(regs, results, colours, strict=True):
    potential = result.potentials[0] - result.potentials[0].max()
    axes[3].plot(x, potential, color=colour, label=f"{reg:g}")
axes[3].set(title="potential of the source", xlabel="from", xticks=[0, 1])
axes[3].legend(title="reg", frameon=False, fontsize=8, loc="lower center")
axes[3].spines[["top", "right"]].set_visible(False)

# %%
# What a step is worth
# --------------------
#
# The error of the marginals against passes over the costs: a sweep is one pass, a Newton step one
# and its linear system. Sweeps gain a constant factor each, and the factor goes to one as the
# regularisation falls; Newton steps gain more and more.

import warnings

n = 200
C = np.random.default_rng(0).random((n, n))
fig, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained", sharey=True)
for ax, reg in zip(axes, (1e-2, 1e-3), strict=True):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sweeps alone do not get there, and say so
        sweeps = sinkhorn(None, None, C, reg, max_iter=3000)
    newton = sinkhorn_newton(None, None, C, reg)
    annealing = newton.history[:, 0] > reg * 1.001
    steps = np.arange(1, len(newton.history) + 1)
    ax.loglog(
        np.arange(1, len(sweeps.history) + 1), sweeps.history[:, 1], color="0.5", label="sweeps"
    )
    ax.loglog(steps, newton.history[:, 1], color="#0072b2", label="with Newton steps")
    early = steps[annealing], newton.history[annealing, 1]
    ax.loglog(*early, "o", ms=4, color="#56b4e9", label="annealing")
    ax.set(title=f"random costs, reg = {reg:g}", xlabel="passes", ylim=(1e-13, 3))
    ax.spines[["top", "right"]].set_visible(False)
    print(
        f"reg {reg:g}: {newton.n_warmup} sweeps and {newton.n_newton} Newton steps to "
        f"{newton.marginal_error:.0e}; {sweeps.n_warmup} sweeps alone to "
        f"{sweeps.marginal_error:.0e}"
    )
axes[0].set_ylabel("marginal error")
axes[0].legend(frameon=False)
plt.show()
