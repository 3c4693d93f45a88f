"""
A rank that is too high: what slows down, and what does not
===========================================================

A matrix of rank three is measured by random inner products, and sought as a product of thin
factors by gradient descent. The rank is not known, so the factors get some columns more. This page
shows what that costs, as curves of Xiong, Ding and Du (`arXiv:2310.01769
<https://arxiv.org/abs/2310.01769>`_), and how one changed step takes the cost away.
"""

# %%
# One problem, several descents
# -----------------------------
#
# The estimator stops when it is done and returns the result only. For the curves its descent is
# run with a step of fixed length and without stopping; a validation loss that is the distance to
# the truth records it.

import matplotlib.pyplot as plt
import numpy as np

from sklr.datasets import make_matrix_sensing
from sklr.decomposition import MatrixSensingRegressor
from sklr.decomposition._sensing_operator import SensingOperator
from sklr.decomposition._sensing_solvers import gradient_descent, random_factors

n, rank = 30, 3
X, y, M = make_matrix_sensing(900, shape=(n, n), rank=rank, symmetric=True, random_state=0)


class Distances:
    factors = None

    def __init__(self):
        self.found = []

    def stop(self, t, F, G):
        self.found.append(np.linalg.norm(F @ G.T - M))
        return False


def descend(k, *, tied=False, alpha=0.5, accelerate=False, steps=1000):
    operator = SensingOperator(X.reshape(len(X), -1), (n, n), symmetric=tied)
    target = y / operator.scale
    operator.make_gram(target)
    record = Distances()
    F, G = random_factors(np.random.default_rng(1), (n, n), k, alpha, 1 / 3)
    out = gradient_descent(
        operator, target, F, G, eta=0.1, max_iter=steps, tol=0, tied=tied,
        accelerate=accelerate, validation=record,
    )  # fmt: skip
    return np.array(record.found), out.switch_iter


# %%
# The curse of symmetry
# ---------------------
#
# With the symmetric form ``F F'`` and the right number of columns the error falls by a constant
# factor a step, until no digit is left. With more columns than the rank, each surplus singular
# value obeys ``s <- s - 0.1 s^3``: the error falls like 1/t (the squared error like 1/t²), a
# straight line on the right, where both axes are logarithmic.

colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
for k, colour in zip((3, 5, 10), colours, strict=False):
    errors, _ = descend(k, tied=True)
    steps = np.arange(1, len(errors) + 1)
    for ax in axes:
        ax.semilogy(steps, errors, color=colour, label=f"{k} columns")
    if k > rank:
        slope = np.log(errors[999] / errors[500]) / np.log(999 / 500)
        print(f"{k} columns: the error falls like t^{slope:.2f}")
steps = np.array([100, 1000])
axes[1].plot(steps, 8 / steps, color="0.4", linestyle="--", linewidth=1)
axes[1].text(350, 0.035, "1/t", color="0.4")
axes[1].set_xscale("log")
axes[0].set(xlabel="step", ylabel="distance to the matrix", ylim=(1e-13, 20))
axes[0].set_title("Symmetric form, rank 3")
axes[1].set(xlabel="step")
axes[1].set_title("The same, logarithmic steps")
axes[0].legend(frameon=False)

# %%
# The curse of initialisation, and one changed step
# -------------------------------------------------
#
# Two different factors, the second started smaller, are linear again. But the rate goes with the
# square of the start's size: left. On the right the factors are re-scaled once, when the matrix is
# roughly known: the same product, with a first factor of equal singular values. The curves are then
# parallel, whatever the start.

fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
for alpha, colour in zip((1.0, 0.5, 0.2, 0.05), colours, strict=True):
    for ax, accelerate in zip(axes, (False, True), strict=True):
        errors, switch = descend(5, alpha=alpha, accelerate=accelerate)
        ax.semilogy(errors, color=colour, label=f"start {alpha:g}")
        if switch is not None:
            ax.plot(switch, errors[switch], "o", color=colour, markersize=5)
        late = np.log(errors[300] / errors[600]) / 300
        print(f"start {alpha:4g}, changed step {accelerate!s:5}: {late:.4f} a step")
axes[0].set(xlabel="step", ylabel="distance to the matrix", ylim=(1e-13, 20))
axes[0].set_title("Two factors, 5 columns")
axes[1].set(xlabel="step")
axes[1].set_title("With one changed step (dots)")
axes[0].legend(frameon=False)

# %%
# The estimator
# -------------
#
# All of it is the default: ten columns here, no knowledge of the rank, and after the changed step
# the step lengths follow the curvature.

model = MatrixSensingRegressor(random_state=0).fit(X, y)
error = np.linalg.norm(model.matrix_ - M) / np.linalg.norm(M)
print(f"{model.n_iter_} steps, rank {model.rank_}, relative error {error:.1e}")
plt.show()
