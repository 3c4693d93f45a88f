"""Plain Sinkhorn: scalings of a stored kernel, absorbed before they overflow."""

import numpy as np

from sklr.transport._options import State
from sklr.transport._solver import Stage

# Scalings beyond exp(50) are absorbed.
_LARGEST = np.exp(50.0)


def solve(cost, a, b, reg, options, init=None, verbose=0):
    """Sweep until the marginal error is below ``options.tol`` or ``options.max_iter`` is reached.

    Returns
    -------
    state : State
        Scaled potentials at `reg`, rows exact.
    """
    n, m = cost.shape
    u, v = (np.zeros(n), np.zeros(m)) if init is None else (init[0] / reg, init[1] / reg)
    state = State(reg, u, v)
    stage = Stage(cost, a, b, state)
    stage.start()
    tol = options.target(state.error)
    if state.error >= tol and options.max_iter > 0:
        stage.sweep()  # columns that no row reached are within reach from here
    stored = cost.dense_plan and not cost.is_sparse
    while state.error >= tol and state.n_sweeps < options.max_iter:
        if stored:
            _scale(stage, tol, options.max_iter)
        else:
            stage.sweep()
    if verbose:
        print(f"reg {reg:.3g}: marginal error {state.error:.2e} after {state.n_sweeps} sweeps")
    return state


def _scale(stage, tol, max_iter):
    """Sweep with a stored kernel until the end, or until its scalings have to be absorbed."""
    from sklr.transport import _transport_kernels as kernels

    state, cost = stage.state, stage.cost
    G = cost.plan(stage.inv_reg, state.u, state.v, stage.a)
    s, sums = np.ones(len(stage.a)), state.sums
    t = np.ones(len(stage.b))
    while state.error >= tol and state.n_sweeps < max_iter:
        with np.errstate(divide="ignore", over="ignore"):
            t = stage.b / sums

        def work(rows, t=t, s=s):
            part = np.zeros(len(t))
            kernels.scale_rows(G[rows], t, stage.a[rows], s[rows], part, np.empty(len(t)))
            return part

        sums = np.zeros(len(t))
        for part in cost.run(work, cost.chunks):
            sums += part
        state.n_sweeps += 1
        state.error = float(np.abs(t * sums - stage.b).sum())
        extreme = max(s.max(), t.max(), 1.0 / s.min(), 1.0 / t.min())
        if not (np.isfinite(state.error) and extreme < _LARGEST):
            break
        state.errors.append(state.error)
        state.values.append(
            state.reg * float(stage.a @ (state.u + np.log(s)) + stage.b @ (state.v + np.log(t)))
        )
        state.regs.append(state.reg)
    ok = np.isfinite(s).all() and np.isfinite(t).all() and s.min() > 0 and t.min() > 0
    if ok:
        stage.move(state.v + np.log(t), stage.evaluate(state.v + np.log(t), state.u + np.log(s)))
    else:  # too far in one sweep: the next one takes logarithms
        stage.start()
        stage.sweep()
