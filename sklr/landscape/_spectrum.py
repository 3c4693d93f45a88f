"""Spectrum of a network's Hessian: leading eigenpairs, density, outliers, flatness."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._curvature import CURVATURES
from sklr._torch._losses import LOSSES
from sklr._torch._module_first import ModuleEstimator
from sklr.landscape._lanczos import (
    check_memory,
    leading_pairs,
    stochastic_lanczos_quadrature,
    warn_of_residuals,
)
from sklr.landscape._operator import HessianOperator, objective_of
from sklr.utils._base import fit_context
from sklr.utils._progress import progress

# Up to here all eigenvalues are computed, in seconds.
EXACT_UP_TO = 2000
EXACT_AT_MOST = 20000
# Among so many leading eigenvalues the gap behind the outliers is looked for.
LEADING = 20
NEAR_ZERO = 1e-3


class HessianSpectrum(ModuleEstimator):
    r"""Eigenvalues of the Hessian of a trained network's loss.

    How sharply the loss bends around a solution: the leading eigenpairs, the density of all
    eigenvalues, how many stand out from the bulk around zero, how much of the curvature is
    negative. For classifiers the outliers carry the structure of the classes, mostly one less
    than there are classes; that is no law, and it dissolves where the loss goes to zero [1]_.

    Parameters
    ----------
    method : {"auto", "exact", "lanczos", "slq"}, default="auto"
        "exact" forms the matrix. "lanczos" finds leading eigenpairs only. "slq" finds them, and
        the density of the others by stochastic Lanczos quadrature. "auto" is "exact" up to 2,000
        parameters, else "slq".
    n_eigenvalues : int, default=10
        Eigenpairs at each wanted end.
    which : {"both", "largest", "smallest"}, default="both"
        Which ends.
    curvature : {"hessian", "ggn", "residual", "fisher"}, default="hessian"
        The Hessian; its Gauss-Newton part, which has no negative eigenvalues; the difference of
        both; the mean outer product of gradients of single samples.
    loss : str or callable, default="auto"
        "cross_entropy", "binary_cross_entropy", "squared_error" (mean over outputs) or
        "half_squared_error". "auto" is what a model of scikit-learn minimises; for a Module the
        cross entropy where targets are integers (of logits, or of one logit where the output has
        one column), and the squared error where they are floats. A callable gets outputs and
        targets and returns the loss of each sample.
    weight_decay : float or "model", default=0.0
        What is added to each eigenvalue: a penalty of half of it times the squared norm of the
        parameters. "model" takes the penalty of a model of scikit-learn, on the weights it is on.
    n_lanczos : int or None, default=None
        Steps for the leading pairs; None goes on until they have converged. The quadrature takes
        80 steps, or so many where it is a number.
    n_probes : int, default=10
        Random vectors of the quadrature.
    tol : float, default=1e-6
        A pair has converged where its residual is below this share of the largest eigenvalue's
        size; otherwise a ConvergenceWarning is given.
    sigma : float, default=0.01
        Width of the Gaussians of :meth:`density`, as a share of the axis.
    batch_size : int or None, default=None
        Samples that run through the network at a time; None finds how many fit. The result does
        not depend on it.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the products; "auto" is float64 up to 100,000 parameters.
    random_state : int, RandomState instance or None, default=None
        Decides first and random vectors; not used by "exact".
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (k,)
        Leading eigenvalues, falling.
    eigenvectors_ : ndarray of shape (k, n_parameters)
        Their eigenvectors, of norm 1, as rows.
    residuals_ : ndarray of shape (k,)
        Norm of what the operator makes of an eigenvector beyond its multiple, at least what
        rounding leaves of it: each eigenvalue is within it of a true one.
    nodes_, weights_ : ndarray of shape (n_nodes,)
        The density as points and their weights, which sum to 1: all eigenvalues, or those of the
        quadrature. Not for ``method="lanczos"``, like the next five.
    trace_, frobenius_norm_ : float
        Sum of the eigenvalues, root of the sum of their squares.
    trace_std_ : float
        Standard error of `trace_`; 0 for the exact one.
    negative_share_ : float
        Sum of the sizes of negative eigenvalues over the sum of the positive ones.
    near_zero_share_ : float
        Share of eigenvalues of a size below a thousandth of the largest.
    n_outliers_ : int
        Place of the largest ratio of two following ones of the 21 largest eigenvalues.
    outlier_gap_ : float
        That ratio; near 1 there are no outliers.
    loss_ : float
        Mean loss, without weight decay.
    gradient_norm_ : float
        Norm of its gradient: near 0 at a critical point only.
    n_parameters_, n_samples_ : int
        Numbers of trainable parameters and of samples.
    parameter_slices_ : dict of str to slice
        Where each parameter is in an eigenvector.
    method_ : str
        The method that was taken.

    See Also
    --------
    HessianOperator : The matrix itself, as products.
    HessianSpectrumDisplay : The density as a figure.
    loss_path : The loss between two solutions.

    Notes
    -----
    Flatness is no property of the function alone: a ReLU network whose layers are rescaled
    against each other computes the same, with other eigenvalues. Compare what was trained alike.
    In float32, eigenvalues below some millionth of the largest are rounding, negative ones too.
    "exact" takes as many products as there are parameters and a decomposition, O(n_parameters^3);
    "slq" some 60 and 800 products, and memory for 80 vectors.

    The network is in evaluation mode, and parameters that are frozen are left out.

    References
    ----------
    .. [1] L. Sagun, U. Evci, V. U. Guney, Y. Dauphin and L. Bottou, "Empirical analysis of the
       Hessian of over-parametrized neural networks", 2017, arXiv:1706.04454.
    .. [2] V. Papyan, "The full spectrum of deepnet Hessians at scale: dynamics with SGD training
       and sample size", 2018, arXiv:1811.07062.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklr.landscape import HessianSpectrum
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((8,), solver="lbfgs", alpha=0.1, random_state=0).fit(X, y)
    >>> spectrum = HessianSpectrum().fit(model, X, y)
    >>> spectrum.n_parameters_, spectrum.method_
    (67, 'exact')
    >>> bool(spectrum.negative_share_ < 0.1)
    True
    """

    _needs_labels = True
    _one_row_is_enough = True
    _parameter_constraints: dict = {
        "method": [StrOptions({"auto", "exact", "lanczos", "slq"})],
        "n_eigenvalues": [Interval(Integral, 1, None, closed="left")],
        "which": [StrOptions({"both", "largest", "smallest"})],
        "curvature": [StrOptions(set(CURVATURES))],
        "loss": [StrOptions(set(LOSSES)), callable],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"model"})],
        "n_lanczos": [Interval(Integral, 1, None, closed="left"), None],
        "n_probes": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        method: str = "auto",
        *,
        n_eigenvalues: int = 10,
        which: str = "both",
        curvature: str = "hessian",
        loss: Any = "auto",
        weight_decay: Any = 0.0,
        n_lanczos: int | None = None,
        n_probes: int = 10,
        tol: float = 1e-6,
        sigma: float = 0.01,
        batch_size: int | None = None,
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.method = method
        self.n_eigenvalues = n_eigenvalues
        self.which = which
        self.curvature = curvature
        self.loss = loss
        self.weight_decay = weight_decay
        self.n_lanczos = n_lanczos
        self.n_probes = n_probes
        self.tol = tol
        self.sigma = sigma
        self.batch_size = batch_size
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, module: Any, X: Any = None, y: Any = None) -> "HessianSpectrum":
        """Compute the spectrum of a trained network's loss; the network is not changed.

        Parameters
        ----------
        module : torch.nn.Module or scikit-learn model
            The trained network; or a fitted `MLPClassifier`, `MLPRegressor`,
            `LogisticRegression`, `LinearRegression` or `Ridge`, or a pipeline to one.
        X : array-like, tensor, tuple, dict, list of batches or DataLoader
            The data of the loss, mostly those of the training. An array or a tensor has samples
            along its first axis; a tuple or a dict has an array for each argument. A list, a
            DataLoader or another iterable has batches, each ending with its targets.
        y : array-like or None
            Targets; None where `X` has batches.

        Returns
        -------
        self : HessianSpectrum
            The fitted object.
        """
        objective, added = objective_of(
            module,
            X,
            y,
            loss=self.loss,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            dtype=self.dtype,
            name="HessianSpectrum",
        )
        n = objective.n_parameters
        if self.n_eigenvalues > n and self.method != "auto":
            raise ValueError(
                f"n_eigenvalues={self.n_eigenvalues}, and the network has {n} trainable parameters"
            )
        method = self.method
        if method == "auto":
            method = "exact" if n <= EXACT_UP_TO else "slq"
        if method == "exact":
            if n > EXACT_AT_MOST:
                raise ValueError(
                    f"method='exact' would need {8 * n * n * 3 / 2**30:.3g} GiB for the matrix of "
                    f"{n} parameters and its eigenvectors; take 'slq' or 'lanczos'"
                )
            check_memory(3 * n, n, "method='exact'")
        operator = HessianOperator._of(objective, added, self.curvature)
        self.loss_ = objective.mean_loss()
        self.gradient_norm_ = float(np.linalg.norm(operator.gradient()))
        self.n_parameters_, self.n_samples_ = n, objective.n_samples
        self.parameter_slices_ = dict(objective.slices)
        self.method_ = method
        noise = 1e-12 if operator.dtype == np.float64 else 1e-6
        if method == "exact":
            self._exact(operator, noise)
        else:
            self._lanczos(operator, noise)
        return self

    def _exact(self, operator: HessianOperator, noise: float) -> None:
        n = self.n_parameters_
        H = np.empty((n, n))
        blocks = progress(
            operator._blocks(), total=-(-n // 32), description="Hessian", verbose=self.verbose
        )
        for at, rows in blocks:
            H[at] = rows
        H = (H + H.T) / 2
        values, vectors = np.linalg.eigh(H)
        values, vectors = values[::-1], vectors.T[::-1]
        k = min(self.n_eigenvalues, n)
        places = {
            "largest": np.arange(k),
            "smallest": np.arange(n - k, n),
            "both": np.unique(np.r_[np.arange(k), np.arange(n - k, n)]),
        }[self.which]
        self.eigenvalues_ = values[places].copy()
        self.eigenvectors_ = _signed(vectors[places])
        left = self.eigenvectors_ @ H - self.eigenvalues_[:, None] * self.eigenvectors_
        rounding = np.finfo(np.float64).eps * n * float(np.abs(values).max())
        self.residuals_ = np.maximum(np.linalg.norm(left, axis=1), rounding)
        self._outliers(values[: LEADING + 1], noise)
        self._measure(values.copy(), np.full(n, 1 / n), np.zeros(1))

    def _lanczos(self, operator: HessianOperator, noise: float) -> None:
        n = self.n_parameters_
        rng = check_random_state(self.random_state)
        needed = min(self.n_eigenvalues, n)
        # For the gap behind the outliers those are looked at too that happen to have converged.
        found, scale = leading_pairs(
            operator.matvec,
            n,
            min(max(needed, LEADING + 1), n),
            which=self.which,
            n_steps=self.n_lanczos,
            tol=self.tol,
            rng=rng,
            verbose=self.verbose,
            n_needed=needed,
        )
        values = found.eigenvalues
        below = self.tol * scale
        converged = found.residuals <= below
        if self.which == "smallest":
            keep = np.arange(len(values))[-needed:]
        elif self.which == "largest":
            keep = np.arange(len(values))[:needed]
        else:
            k = len(values)
            keep = np.unique(np.r_[np.arange(min(needed, k)), np.arange(max(k - needed, 0), k)])
        kept = found._replace(
            eigenvalues=values[keep],
            eigenvectors=found.eigenvectors[keep],
            residuals=found.residuals[keep],
        )
        warn_of_residuals("HessianSpectrum", kept, scale, self.tol)
        self.eigenvalues_ = kept.eigenvalues
        self.eigenvectors_ = _signed(kept.eigenvectors)
        self.residuals_ = kept.residuals
        self.n_lanczos_ = found.n_steps
        if self.which != "smallest":
            top = values[: LEADING + 1]
            good = converged[: LEADING + 1]
            self._outliers(top[: len(good) if good.all() else int(good.argmin())], noise)
        if self.method_ == "lanczos":
            return
        exact, U = values[converged], found.eigenvectors[converged]
        steps = 80 if self.n_lanczos is None else self.n_lanczos
        nodes, weights = stochastic_lanczos_quadrature(
            operator,
            n_probes=self.n_probes,
            n_steps=steps,
            deflate=U if len(U) else None,
            random_state=rng,
            verbose=self.verbose,
        )
        free = n - len(exact)
        traces = free * (nodes * weights).sum(axis=1)
        share = weights.reshape(-1) * (free / n / self.n_probes)
        inside = share > 0
        self._measure(
            np.r_[exact, nodes.reshape(-1)[inside]],
            np.r_[np.full(len(exact), 1 / n), share[inside]],
            traces,
        )

    def _outliers(self, top: np.ndarray, noise: float) -> None:
        """Look for the largest ratio among falling eigenvalues."""
        self.n_outliers_, self.outlier_gap_ = 0, 1.0
        top = top[top > 0] if len(top) else top
        if len(top) < 2:
            self.n_outliers_ = len(top)
            return
        ratios = top[:-1] / np.maximum(top[1:], noise * top[0])
        # Below rounding, one value is as good as the next.
        ratios = ratios[top[:-1] > noise * top[0]]
        self.n_outliers_ = int(ratios.argmax()) + 1
        self.outlier_gap_ = float(ratios.max())

    def _measure(self, nodes: np.ndarray, weights: np.ndarray, traces: np.ndarray) -> None:
        n = self.n_parameters_
        order = np.argsort(nodes, kind="stable")
        self.nodes_, self.weights_ = nodes[order], weights[order]
        self.trace_ = float(n * (nodes * weights).sum())
        self.trace_std_ = 0.0
        if len(traces) > 1:
            self.trace_std_ = float(traces.std(ddof=1) / len(traces) ** 0.5)
        self.frobenius_norm_ = float((n * (nodes**2 * weights).sum()) ** 0.5)
        positive = float((weights * nodes)[nodes > 0].sum())
        negative = float(-(weights * nodes)[nodes < 0].sum())
        self.negative_share_ = negative / positive if positive else (np.inf if negative else 0.0)
        small = np.abs(nodes) <= NEAR_ZERO * np.abs(nodes).max()
        self.near_zero_share_ = float(weights[small].sum())

    def density(self, grid: Any = None, *, scale: str = "symlog") -> tuple[np.ndarray, np.ndarray]:
        r"""Return the density of the eigenvalues, smoothed with Gaussians.

        Parameters
        ----------
        grid : array-like of shape (n_points,) or None, default=None
            Eigenvalues at which it is returned; None is 512 over the whole axis.
        scale : {"symlog", "linear"}, default="symlog"
            What the axis is. "symlog" is linear within a ten-thousandth of the largest size and
            logarithmic beyond, so that bulk and outliers are seen; on a linear axis the bulk is
            one spike.

        Returns
        -------
        grid : ndarray of shape (n_points,)
            Eigenvalues.
        density : ndarray of shape (n_points,)
            Share of the eigenvalues for each unit of the axis, a factor of ten beyond the linear
            part of "symlog": its integral over the axis is 1.
        """
        check_is_fitted(self)
        if not hasattr(self, "nodes_"):
            raise ValueError("method='lanczos' knows no density; fit with method='slq' or 'exact'")
        if scale not in ("symlog", "linear"):
            raise ValueError(f"scale must be 'symlog' or 'linear', got {scale!r}")
        linear = symlog_threshold(self.nodes_)
        there, back = (
            (lambda v: _symlog(v, linear), lambda t: _symexp(t, linear))
            if scale == "symlog"
            else (lambda v: v, lambda t: t)
        )
        at = there(self.nodes_)
        low, high = float(at.min()), float(at.max())
        width = self.sigma * ((high - low) or abs(high) or 1.0)
        if grid is None:
            axis = np.linspace(low - 4 * width, high + 4 * width, 512)
            values = back(axis)
        else:
            values = np.asarray(grid, dtype=np.float64).reshape(-1)
            axis = there(values)
        out = np.empty(len(axis))
        for first in range(0, len(axis), 64):
            z = (axis[first : first + 64, None] - at) / width
            out[first : first + 64] = np.exp(-0.5 * z**2) @ self.weights_
        return values, out / (width * (2 * np.pi) ** 0.5)


def symlog_threshold(nodes: np.ndarray) -> float:
    """Return up to where the axis of a density is linear."""
    return 1e-4 * float(np.abs(nodes).max(initial=0.0)) or 1.0


def _symlog(v: np.ndarray, linear: float) -> np.ndarray:
    return np.sign(v) * np.log10(1 + np.abs(v) / linear)


def _symexp(t: np.ndarray, linear: float) -> np.ndarray:
    return np.sign(t) * linear * (10 ** np.abs(t) - 1)


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Return eigenvectors whose entry of largest size is positive."""
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return vectors * np.where(signs == 0, 1, signs)[:, None]
