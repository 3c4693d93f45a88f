"""The solver: falling regularisations (annealing), sweeps and sparse Newton steps at each.

The problem is solved in the potentials of the columns alone. Those of the rows follow exactly
(each pass sets them), so that rows always have their sums, and the Newton system is the Schur
complement of the paper's.
"""

from dataclasses import replace

import numpy as np

from sklr.transport import _linear
from sklr.transport._cost import Cost
from sklr.transport._options import State
from sklr.transport._tiles import TileCost

# Annealing starts at this fraction of the range of costs, and its stages are left at this marginal
# error; lower ones at this many times their fraction: steps saved there cost more further down.
_TOP, _STAGE_TOL, _STAGE_FALL = 2e-2, 1e-2, 25.0
# A stage on the way also goes on until columns are off by this share of their own sum in the mean,
# for so many Newton steps: what is small beside a peak counts little in the marginal error, and its
# potentials would be left a thousand regularisations behind.
_STAGE_RELATIVE, _STAGE_STEPS = 0.1, 12
# Columns and rows below this share of the tolerance, divided by their number, are not waited for.
_NEGLIGIBLE = 1.0
# Lengths of the step along the line through the potentials of the last two stages that are tried.
_PREDICTIONS = (1.0, 0.5, 0.25)
# "auto" anneals below this fraction of the range.
_ANNEAL_BELOW = 1e-2
# Groups of neighbours stand for their points where `reg` is this many times their reach; and the
# error to which they do.
_REACH, _COARSE_TOL = 1.0, 1e-4
# Columns below this part of their sum are led to it as if they were alone, in the first steps of
# a stage: with weights over many orders of magnitude that goes on and on.
_FAR, _PATIENCE = 0.1, 15
# Bound of a Newton step, in units of the regularisation; it grows while whole steps gain.
_LONGEST_STEP = 100.0
# While the last sweeps say that so many more will do, a Newton step is not worth its price.
_FEW_SWEEPS = 20
# Bound of the rate that momentum is chosen for.
_MOST_RADIUS = 0.95
# Sums of exponentials below this may be those of exponents that were cut.
_UNREACHED = 1e-280
# Above so many entries, small ones are dropped whatever the error where more than a share stays.
_MANY, _MOST_KEPT = 2**25, 0.3


class Stage:
    """One regularisation: passes, sweeps and Newton steps from a state, which they move."""

    def __init__(self, cost: Cost, a: np.ndarray, b: np.ndarray, state: State, tol: float = 0.0):
        self.cost, self.a, self.b, self.state = cost, a, b, state
        self.inv_reg = 1.0 / state.reg
        self.log_b = np.log(b)
        least = _NEGLIGIBLE * tol
        weights = np.maximum(a, least / len(a)), np.maximum(b, least / len(b))
        self.counted = b >= min(least / len(b), b.max())
        self.bounds = np.log(weights[0] / len(b)), np.log(weights[1] / len(a))
        self.factor = self.gained = False
        self.longest, self.n_steps = _LONGEST_STEP, 0

    def evaluate(self, v, u):
        """Return the exact `u`, the column sums and the marginal error at `v`."""
        u, sums = self.cost.row_update(self.inv_reg, v, self.a, u)
        return u, sums, float(np.abs(sums - self.b).sum())

    def move(self, v, evaluated):
        """Make `v` the state."""
        state = self.state
        state.v = v
        state.u, state.sums, state.error = evaluated
        state.errors.append(state.error)
        state.values.append(state.reg * float(self.a @ state.u + self.b @ v))
        state.regs.append(state.reg)

    def start(self):
        """Evaluate the state as it is."""
        self.move(self.state.v, self.evaluate(self.state.v, self.state.u))

    def sweep(self):
        """Update the columns, then the rows."""
        state = self.state
        v = state.v + self.log_b - np.log(np.maximum(state.sums, 1e-300))
        # Columns that no row reaches have nothing to be scaled.
        far = np.flatnonzero(state.sums < _UNREACHED)
        if len(far) > 0:
            v[far] = self.cost.column_update(self.inv_reg, state.u, self.b, far)
        self.move(v, self.evaluate(v, state.u))
        state.n_sweeps += 1

    def sweeps(self, least, most, tol):
        """Sweep `least` times, then on while sweeps alone are about to do, or are needed."""
        state = self.state
        few, radius, weights, step = False, 0.0, (1.0, 0.0), None
        if state.error < tol:
            return
        for k in range(most):
            before, v = state.error, state.v
            weights = momentum(radius)
            if not (few and self.hastened(weights, step)):
                weights = momentum(0.0)
                self.sweep()
            if state.error < tol:
                return
            step, rate = state.v - v, state.error / before
            if 0.0 < rate < 1.0:
                radius = max(radius, min(slowest(rate, weights), _MOST_RADIUS))
            # By the rate without momentum, which is known better.
            rate = max(rate, radius)
            few = rate < 1.0 and np.log(tol / state.error) / np.log(rate) < _FEW_SWEEPS
            if k + 1 >= least and not few and state.error < 0.5:
                return

    def hastened(self, weights, step):
        """Sweep with momentum; False, and nothing done, where that gains nothing."""
        state = self.state
        if state.sums.min() < _UNREACHED:
            return False
        move = weights[0] * (self.log_b - np.log(state.sums)) + weights[1] * step
        v = state.v + move
        evaluated = self.evaluate(v, state.u)
        gain = float(self.a @ (evaluated[0] - state.u)) + float(self.b @ move)
        if not (evaluated[2] < state.error and gain >= 0.0):
            return False
        self.move(v, evaluated)
        state.n_sweeps += 1
        return True

    def kept(self, options):
        """Return the large entries of the plan at the state."""
        state = self.state
        n, m = self.cost.shape
        if options.sparsify == "topk":
            return self.top_entries(options.density)
        # A share of each row and column, not of the whole plan: rows of little mass would be left
        # without entries, and Newton steps would move their columns one by one.
        share = min(state.error, 0.1)
        most = None if float(n) * m <= _MANY else int(_MOST_KEPT * n * m)
        while True:
            bounds = np.log(share) + self.bounds[0], np.log(share) + self.bounds[1]
            found = self.cost.entries(self.inv_reg, state.u, state.v, bounds, most)
            if found is not None:
                return found
            share *= 10.0

    def top_entries(self, density):
        """Return the ``density * n * m`` largest entries, by bisection of the threshold."""
        state = self.state
        n_all = self.cost.shape[0] * self.cost.shape[1]
        wanted = max(1, int(np.ceil(density * n_all)))
        low, high = np.log(1e-300), 0.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            n_kept = self.cost.n_entries(self.inv_reg, state.u, state.v, middle)
            low, high = (middle, high) if n_kept > wanted else (low, middle)
        return self.cost.entries(self.inv_reg, state.u, state.v, high)

    def rounding(self, v):
        """Return what a value may be off by rounding, in units of the regularisation."""
        return 1e-15 * (1.0 + float(self.a @ np.abs(self.state.u) + self.b @ np.abs(v)))

    def newton(self, options):
        """Make one Newton step; False if no step along its direction gains anything."""
        state = self.state
        self.n_steps += 1
        rhs = self.b - state.sums
        # Columns far below their sum get the curvature that leads exactly to it where they are
        # alone; elsewhere it would hold up columns that hang together by next to nothing.
        d = state.sums.copy()
        far = np.flatnonzero(d < (_FAR if self.n_steps < _PATIENCE else 0.0) * self.b)
        d[far] = rhs[far] / (self.log_b[far] - np.log(np.maximum(d[far], 1e-300)))
        # No step of a column is then longer than this.
        d = np.maximum(d + np.abs(rhs) / self.longest, 1e-300)
        tol = min(0.1, np.sqrt(state.error))
        step, n_cg, self.factor = _linear.solve(
            self.kept(options), 1.0 / self.a, d, rhs, tol, self.cost.run, factor=self.factor
        )
        state.n_cg += n_cg
        slope = float(rhs @ step)
        if not slope > 0.0 or not np.isfinite(step).all():
            return False
        length = 1.0
        while length > 1e-4:
            v = state.v + length * step
            evaluated = self.evaluate(v, state.u)
            gain = float(self.a @ (evaluated[0] - state.u)) + length * float(self.b @ step)
            # Gains of rounding's size say nothing; then the error has to.
            rounding = self.rounding(v)
            if gain >= 1e-4 * length * slope or (
                abs(gain) <= rounding and evaluated[2] < 2 * state.error
            ):
                self.move(v, evaluated)
                self.gained = gain > rounding
                if length < 1.0:
                    self.longest = max(_LONGEST_STEP, self.longest * length)
                elif np.abs(step).max() > 0.5 * self.longest:
                    self.longest *= 4.0
                state.n_newton += 1
                return True
            length *= 0.5
        return False

    def relative_error(self):
        """Return the mean over the columns of how far the logarithm of their sum is off."""
        off = np.log(np.maximum(self.state.sums, 1e-300)) - self.log_b
        return float(np.minimum(np.abs(off), 10.0)[self.counted].mean())

    def is_done(self, tol, last):
        """Return whether the error is below `tol` and, on the way, small columns follow too."""
        if self.state.error >= tol:
            return False
        return last or self.n_steps >= _STAGE_STEPS or self.relative_error() < _STAGE_RELATIVE

    def predict(self, before, at):
        """Go on along the line through potentials at two regularisations, if that gains.

        As functions of the regularisation they are nearly straight where it is small.

        Parameters
        ----------
        before, at : tuple of float and ndarray
            Regularisation and potentials, in units of the cost, of the last stage but one and of
            the last.
        """
        state = self.state
        share = (at[0] - state.reg) / (before[0] - at[0])
        line = share * (at[1] - before[1]) / state.reg
        for length in _PREDICTIONS:
            move = length * line
            evaluated = self.evaluate(state.v + move, state.u)
            gain = float(self.a @ (evaluated[0] - state.u)) + float(self.b @ move)
            if gain > 0.0:
                self.move(state.v + move, evaluated)
                return

    def run(self, options, tol, last_newton, last=True):
        """Take Newton steps until the error is below `tol`, and on the way as `is_done` says."""
        state = self.state
        stalls = 0
        best = state.error
        while not self.is_done(tol, last) and state.n_newton < last_newton and stalls < 5:
            if not self.newton(options):
                value = state.values[-1]
                for _ in range(10):
                    self.sweep()
                state.n_newton += 1
                self.gained = state.values[-1] - value > state.reg * self.rounding(state.v)
            # At the floor of rounding, steps go round in circles.
            stalls = 0 if self.gained or state.error < 0.7 * best else stalls + 1
            best = min(best, state.error)


def momentum(radius):
    """Return the weights of a sweep and of the last step that are best at a rate of sweeps.

    Those of the heavy ball, where each sweep shrinks errors by factors from 0 to `radius`.
    """
    root = np.sqrt(1.0 - radius)
    return 4.0 / (1.0 + root) ** 2, ((1.0 - root) / (1.0 + root)) ** 2


def slowest(rate, weights):
    """Return the rate of plain sweeps that shows as `rate` with momentum: its eigenvalue."""
    return 1.0 - (1.0 + weights[1] - rate - weights[1] / rate) / weights[0]


def regularisations(reg, annealing, extent):
    """Return the regularisations to go through, the last one being `reg`."""
    spread = extent[1] - extent[0]
    if annealing is None or (annealing == "auto" and reg > _ANNEAL_BELOW * spread):
        return [reg]
    factor = 4.0 if annealing == "auto" else float(annealing)
    regs = [reg]
    while regs[-1] * factor <= _TOP * spread:
        regs.append(regs[-1] * factor)
    return regs[::-1]


def _coarse_start(cost, a, b, regs, options, extent, verbose):
    """Solve for groups of neighbours; return the stages that remain and potentials at their first.

    None where groups reach further than the first stage blurs.
    """
    coarse, *masses, reach = cost.coarser(a, b)
    n_fine = sum(reg >= _REACH * reach for reg in regs)
    if n_fine == 0:
        return None
    reg = regs[n_fine - 1]
    if verbose:
        print(f"groups of neighbours, {coarse.shape[0]} x {coarse.shape[1]}:")
    options = replace(options, tol=max(_COARSE_TOL, options.tol))
    start = solve(coarse, *masses, reg, options, extent=extent, verbose=verbose)
    return regs[n_fine - 1 :], cost.refine(coarse, 1.0 / reg, a, b, masses, start.u, start.v)


def solve(cost, a, b, reg, options, init=None, extent=None, verbose=0):
    """Solve from potentials `init` (of unit `reg`) or from nothing; positive weights of sum one.

    Returns
    -------
    state : State
        Scaled potentials at `reg`, rows exact.
    """
    extent = extent or cost.extent()
    spread = extent[1] - extent[0]
    regs = [reg] if init is not None else regularisations(reg, options.annealing, extent)
    n, m = cost.shape
    u, v = (np.zeros(n), np.zeros(m)) if init is None else (init[0] / reg, init[1] / reg)
    new = init is None
    if len(regs) > 1 and isinstance(cost, TileCost) and cost.is_large():
        found = _coarse_start(cost, a, b, regs, options, extent, verbose)
        if found is not None:
            (regs, (u, v)), new = found, False
    state = State(regs[0], u, v)
    known: list = []
    for k, stage_reg in enumerate(regs):
        state.u = state.u * (state.reg / stage_reg)
        state.v = state.v * (state.reg / stage_reg)
        state.reg = stage_reg
        stage = Stage(cost, a, b, state, options.tol)
        stage.start()
        if len(known) == 2:
            stage.predict(*known)
        last = k == len(regs) - 1
        stage_tol = min(_STAGE_TOL, _STAGE_FALL * stage_reg / spread) if not last else 0.0
        tol = options.target(state.error) if last else max(stage_tol, options.tol)
        if isinstance(options.n_warmup, str):
            stage.sweeps(10 if k == 0 and new else 3, 1000, tol)
        else:
            for _ in range(options.n_warmup):
                if state.error >= tol:
                    stage.sweep()
        stage.run(options, tol, options.max_iter, last)
        known = [*known[-1:], (stage_reg, state.v * stage_reg)]
        if verbose:
            print(
                f"reg {stage_reg:.3g}: marginal error {state.error:.2e} after {state.n_sweeps} "
                f"sweeps, {state.n_newton} Newton steps, {state.n_cg} of conjugate gradients"
            )
    return state
