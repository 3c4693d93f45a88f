"""The curvature of a network's loss as a linear operator of SciPy."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator
from sklearn.utils import check_random_state

from sklr._torch._curvature import CURVATURES, Objective
from sklr._torch._from_sklearn import converted, is_convertible
from sklr._torch._losses import LOSSES
from sklr._torch._module_first import check_module

# Vectors of one block: each keeps the network's activations once more.
BLOCK = 32


def objective_of(
    model: Any,
    X: Any,
    y: Any,
    *,
    loss: Any,
    weight_decay: Any,
    batch_size: int | None,
    dtype: str,
    name: str,
) -> tuple[Objective, np.ndarray | None]:
    """Return the loss of a model as a function of its parameters, and what a penalty adds.

    The second is one number for each parameter, or None where the penalty is 0.
    """
    penalties: dict[str, float] = {}
    if is_convertible(model):
        found = converted(model, X, y, name=name)
        model, X, y, penalties = found.module, found.X, found.y, found.penalties
        loss = found.loss if loss in (None, "auto") else loss
    else:
        check_module(model, name)
        if isinstance(weight_decay, str):
            raise ValueError(
                f"{name}: weight_decay={weight_decay!r} is for models of scikit-learn, which know "
                "their own penalty; give a torch network's as a number"
            )
    objective = Objective(model, X, y, loss=loss, name=name, batch_size=batch_size, dtype=dtype)
    if isinstance(weight_decay, str):
        added = np.zeros(objective.n_parameters)
        for key, penalty in penalties.items():
            if not np.isfinite(penalty):
                raise ValueError(
                    f"{name}: the model has another penalty for each target; give weight_decay as "
                    "a number"
                )
            added[objective.slices[key]] = penalty / objective.n_samples
        return objective, added
    return objective, np.full(objective.n_parameters, weight_decay) if weight_decay else None


class HessianOperator(LinearOperator):
    r"""Hessian of a network's loss, or a part of it, as a linear operator that is never formed.

    For the mean loss :math:`L(w) = \frac1N \sum_i \ell(f(w, x_i), y_i)` over the parameters
    :math:`w`, products with the Hessian, with its Gauss-Newton part :math:`G`, with what remains
    of it, or with the empirical Fisher matrix. It goes wherever SciPy takes a linear operator
    (:func:`scipy.sparse.linalg.eigsh`, :func:`scipy.sparse.linalg.cg`).

    Parameters
    ----------
    model : torch.nn.Module or scikit-learn model
        The trained network, which is copied. Or a fitted `MLPClassifier`, `MLPRegressor`,
        `LogisticRegression`, `LinearRegression` or `Ridge`, or a pipeline that ends with one.
    X : array-like, tensor, tuple, dict, list of batches or DataLoader
        Inputs of the network: an array or a tensor has samples along its first axis; a tuple or a
        dict has an array for each argument. A list, a DataLoader or another iterable has batches,
        each ending with its targets. They are kept in memory.
    y : array-like or None
        Targets: classes as integers, or numbers; for a model of scikit-learn what it was fitted
        with. None where `X` has batches.
    loss : str or callable, default="auto"
        "cross_entropy", "binary_cross_entropy", "squared_error" (mean over outputs) or
        "half_squared_error". "auto" is what a model of scikit-learn minimises; for a Module the
        cross entropy where targets are integers (of logits, or of one logit where the output has
        one column), and the squared error where they are floats. A callable gets outputs and
        targets and returns the loss of each sample.
    curvature : {"hessian", "ggn", "residual", "fisher"}, default="hessian"
        The Hessian; the generalised Gauss-Newton matrix
        :math:`G = \frac1N \sum_i J_i^T \ell''_i J_i`; the difference of both; the mean outer
        product of the gradients of single samples.
    weight_decay : float or "model", default=0.0
        What is added to each eigenvalue: a penalty of half of it times the squared norm of the
        parameters. "model" takes the penalty of a model of scikit-learn, on the weights it is on.
    batch_size : int or None, default=None
        Samples that run through the network at a time; None finds how many fit. The result does
        not depend on it.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the products; "auto" is float64 up to 100,000 parameters.

    Attributes
    ----------
    shape : tuple of int
        Number of parameters, twice.
    dtype : dtype
        Precision of the products.
    n_parameters, n_samples : int
        Numbers of trainable parameters and of samples.
    parameter_slices : dict of str to slice
        Where each parameter of the network is in a vector.
    loss : float
        The mean loss, without weight decay.

    See Also
    --------
    HessianSpectrum : Eigenvalues and density.
    EmpiricalFisher : The inverse of the damped Fisher matrix.
    curvlinops.HessianLinearOperator : The same in torch, with further approximations.

    Notes
    -----
    The network is in evaluation mode: with dropout, or with the statistics of a batch, the loss
    would have no Hessian. Frozen parameters (`requires_grad` False) are left out. At the kinks of
    a ReLU the Hessian is what automatic differentiation makes of it. The gradient's graph is made
    once and kept where it takes less than 1 GiB, so that a product costs one pass back through
    it: some two gradients. Memory beside that is a few vectors.

    References
    ----------
    .. [1] B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6,
       1994, doi:10.1162/neco.1994.6.1.147.
    .. [2] N. N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient
       descent", Neural Computation 14, 2002, doi:10.1162/08997660260028683.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklr.landscape import HessianOperator
    >>> X = np.array([[1.0, 0.0], [1.0, 2.0]])
    >>> model = LinearRegression(fit_intercept=False).fit(X, [0.0, 1.0])
    >>> HessianOperator(model, X, [0.0, 1.0]).to_dense()
    array([[2., 2.],
           [2., 4.]])
    """

    def __init__(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        loss: Any = "auto",
        curvature: str = "hessian",
        weight_decay: Any = 0.0,
        batch_size: int | None = None,
        dtype: str = "auto",
    ) -> None:
        check_options("HessianOperator", loss, curvature, weight_decay, batch_size, dtype)
        objective, added = objective_of(
            model,
            X,
            y,
            loss=loss,
            weight_decay=weight_decay,
            batch_size=batch_size,
            dtype=dtype,
            name="HessianOperator",
        )
        self._set(objective, added, curvature)

    @classmethod
    def _of(cls, objective: Objective, added: np.ndarray | None, curvature: str) -> Any:
        """Return an operator of an objective that there is."""
        made = cls.__new__(cls)
        made._set(objective, added, curvature)
        return made

    def _set(self, objective: Objective, added: np.ndarray | None, curvature: str) -> None:
        import torch

        n = objective.n_parameters
        dtype = np.float64 if objective.dtype == torch.float64 else np.float32
        super().__init__(dtype, (n, n))
        self._objective, self._added, self._curvature = objective, added, curvature
        self.n_parameters = n
        self.n_samples = objective.n_samples
        self.parameter_slices = dict(objective.slices)

    @property
    def loss(self) -> float:
        """The mean loss, without weight decay."""
        return self._objective.mean_loss()

    def _rows(self, V: np.ndarray) -> np.ndarray:
        """Return the product with each row of V (k, n_parameters), or with one vector."""
        import torch

        o = self._objective
        v = torch.from_numpy(np.ascontiguousarray(V, dtype=self.dtype)).to(o.device)
        found = o.product(self._curvature, v).cpu().numpy()
        if self._added is not None:
            found = found + (self._added * V).astype(found.dtype, copy=False)
        return found

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._rows(np.asarray(x).reshape(-1))

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X)
        out = np.empty(X.shape, dtype=self.dtype)
        for first in range(0, X.shape[1], BLOCK):
            some = slice(first, first + BLOCK)
            out[:, some] = self._rows(X[:, some].T).T
        return out

    def _adjoint(self) -> "HessianOperator":
        return self

    def _transpose(self) -> "HessianOperator":
        return self

    def to_dense(self) -> np.ndarray:
        """Return the matrix, made symmetric: one product for each parameter.

        Returns
        -------
        matrix : ndarray of shape (n_parameters, n_parameters)
            All entries.
        """
        out = np.empty(self.shape, dtype=self.dtype)
        for at, rows in self._blocks():
            out[at] = rows
        return (out + out.T) / 2

    def _blocks(self) -> Any:
        """Yield slices of rows, and these rows of the matrix."""
        n = self.shape[0]
        for first in range(0, n, BLOCK):
            some = slice(first, min(first + BLOCK, n))
            unit = np.zeros((some.stop - first, n), dtype=self.dtype)
            unit[np.arange(len(unit)), np.arange(first, some.stop)] = 1
            yield some, self._rows(unit)

    def diagonal(self) -> np.ndarray:
        """Return the diagonal: one product for each parameter, without the matrix.

        Returns
        -------
        diagonal : ndarray of shape (n_parameters,)
            One number for each parameter.
        """
        out = np.empty(self.shape[0], dtype=self.dtype)
        for at, rows in self._blocks():
            out[at] = rows[np.arange(len(rows)), np.arange(at.start, at.stop)]
        return out

    def trace(self, n_probes: int | None = None, *, random_state: Any = None) -> float:
        """Return the trace.

        Parameters
        ----------
        n_probes : int or None, default=None
            Random vectors of signs whose mean product estimates it; None is the sum of the
            diagonal, at one product for each parameter.
        random_state : int, RandomState instance or None, default=None
            Decides the vectors.

        Returns
        -------
        trace : float
            Exact, or the mean of the estimates.
        """
        if n_probes is None:
            return float(self.diagonal().sum(dtype=np.float64))
        rng = check_random_state(random_state)
        total = 0.0
        for _ in range(n_probes):
            v = rng.choice([-1.0, 1.0], size=self.shape[0]).astype(self.dtype)
            total += float(v @ self._rows(v))
        return total / n_probes

    def gradient(self) -> np.ndarray:
        """Return the gradient of the mean loss, without weight decay.

        Returns
        -------
        gradient : ndarray of shape (n_parameters,)
            One number for each parameter.
        """
        return self._objective.gradient().cpu().numpy()


def check_options(
    name: str, loss: Any, curvature: Any, weight_decay: Any, batch_size: Any, dtype: Any
) -> None:
    """Refuse what the parameters of a function cannot be."""
    if not (callable(loss) or loss in LOSSES):
        raise ValueError(f"{name}: loss must be one of {LOSSES} or a callable, got {loss!r}")
    if curvature not in CURVATURES:
        raise ValueError(f"{name}: curvature must be one of {CURVATURES}, got {curvature!r}")
    if dtype not in ("auto", "float32", "float64"):
        raise ValueError(f"{name}: dtype must be 'auto', 'float32' or 'float64', got {dtype!r}")
    if batch_size is not None and not (isinstance(batch_size, Integral) and int(batch_size) > 0):
        raise ValueError(f"{name}: batch_size must be a whole number above 0, got {batch_size!r}")
    if isinstance(weight_decay, str):
        if weight_decay != "model":
            raise ValueError(
                f"{name}: weight_decay must be a number or 'model', got {weight_decay!r}"
            )
    elif not (isinstance(weight_decay, Real) and 0 <= float(weight_decay) < np.inf):
        raise ValueError(f"{name}: weight_decay must be at least 0, got {weight_decay!r}")
