"""What a transport problem returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, repr=False)
class TransportResult:
    """Entropic transport plan with its potentials, its value and how it was found.

    Parameters
    ----------
    plan : ndarray or csr_array of shape (n, m)
        The plan P, ``P_ij = exp((x_i + y_j - C_ij) / reg)``: a CSR array where that was asked for,
        where the cost had a sparse support, and where a dense plan would be too large.
    potentials : tuple of ndarray
        Dual potentials (x, y) in units of the cost, with ``a @ x == b @ y``. Atoms without mass
        have minus infinity.
    cost : float
        Transport cost of the plan, ``<C, P>``.
    objective : float
        Value of the regularised problem, ``<C, P> + reg * sum(P * (log(P) - 1))`` at its optimum,
        computed from the potentials: errors of the marginals enter squared.
    reg : float
        Regularisation in units of the cost.
    n_warmup : int
        Sinkhorn sweeps, over all stages of annealing.
    n_newton : int
        Newton steps, over all stages of annealing.
    n_cg : int
        Iterations of conjugate gradients.
    marginal_error : float
        L1 error of both marginals, as a part of the total mass.
    converged : bool
        Whether the error is below the tolerance.
    dropped_mass : float, default=0.0
        Part of the mass that a sparse plan leaves out.
    history : ndarray of shape (n_evaluations, 3), default=empty
        Regularisation, marginal error and dual value (normalised to unit mass) after each sweep
        and step.

    See Also
    --------
    sinkhorn_newton : The solver that returns it.

    Notes
    -----
    The gradients are those of `objective` and follow from the envelope theorem: nothing is
    differentiated through the iterations. Plan and potentials are float64 whatever the costs are:
    marginal errors of 1e-9 are below what float32 can say. A gradient with respect to points is
    ``(plan[:, :, None] * dC_dX).sum(1)``; for squared distances it is
    ``2 * (plan.sum(1)[:, None] * X - plan @ Y)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import TransportResult, sinkhorn_newton
    >>> result = sinkhorn_newton(None, None, np.array([[0.0, 1.0], [1.0, 0.0]]), reg=0.1)
    >>> isinstance(result, TransportResult), result.converged
    (True, True)
    >>> result
    TransportResult(2 x 2 plan, cost=4.53979e-05, reg=0.1, marginal_error=0, converged=True)
    >>> result.plan.round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    plan: Any
    potentials: tuple[np.ndarray, np.ndarray]
    cost: float
    objective: float
    reg: float
    n_warmup: int
    n_newton: int
    n_cg: int
    marginal_error: float
    converged: bool
    dropped_mass: float = 0.0
    history: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))

    def __repr__(self) -> str:
        n, m = self.plan.shape
        return (
            f"TransportResult({n} x {m} plan, cost={self.cost:.6g}, reg={self.reg:.3g}, "
            f"marginal_error={self.marginal_error:.2g}, converged={self.converged})"
        )

    @property
    def grad_C(self) -> Any:
        """Gradient of `objective` with respect to the cost matrix: the plan."""
        return self.plan

    @property
    def grad_a(self) -> np.ndarray:
        """Gradient of `objective` with respect to the row weights, up to a constant."""
        return self.potentials[0]

    @property
    def grad_b(self) -> np.ndarray:
        """Gradient of `objective` with respect to the column weights, up to a constant."""
        return self.potentials[1]
