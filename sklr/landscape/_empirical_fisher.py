"""The damped empirical Fisher matrix of a network: its inverse, diagonal and determinant."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._losses import LOSSES
from sklr._torch._module_first import ModuleEstimator
from sklr.landscape._operator import objective_of
from sklr.utils._base import fit_context


class EmpiricalFisher(ModuleEstimator):
    r"""Damped empirical Fisher matrix of a loss, and its inverse, without a matrix of its size.

    From the gradients :math:`g_1, \dots, g_m` of single samples' losses,
    :math:`F = \lambda I + \frac1m \sum_i g_i g_i^T` over all d parameters of a network. Products
    with :math:`F^{-1}` take one pass over the gradients, its diagonal and entries one
    factorisation of an m times m matrix [1]_. For a preconditioner, for the importance of single
    parameters, for a Laplace approximation's determinant.

    The empirical Fisher matrix is not the Hessian: where the network has learnt the data by heart
    its gradients vanish, and F becomes :math:`\lambda I`. ``labels="model"`` draws labels from
    what the network predicts, which makes it an estimate of the true Fisher matrix, and that is
    the Gauss-Newton part of the Hessian.

    Parameters
    ----------
    damping : float, default=1e-5
        :math:`\lambda`.
    n_gradients : int, default=256
        Gradients m, at most; samples are drawn without replacement, and all are taken where there
        are fewer. The order of the parameters' memory is m times d.
    samples_per_gradient : int, default=1
        Each gradient is the mean of so many samples'.
    labels : {"data", "model"}, default="data"
        Whether gradients are those at the given targets, or at targets drawn from what the
        network predicts.
    loss : str or callable, default="auto"
        "cross_entropy", "binary_cross_entropy", "squared_error" (mean over outputs) or
        "half_squared_error". "auto" is what a model of scikit-learn minimises; for a Module the
        cross entropy where targets are integers (of logits, or of one logit where the output has
        one column), and the squared error where they are floats. A callable gets outputs and
        targets and returns the loss of each sample.
    batch_size : int or None, default=None
        Samples that run through the network at a time; None finds how many fit. The result does
        not depend on it.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the gradients; "auto" is float64 up to 100,000 parameters. Products of
        gradients are summed in float64 always.
    max_memory : float, default=4.0
        The gradients may take so many GiB.
    random_state : int, RandomState instance or None, default=None
        Decides which samples give gradients.

    Attributes
    ----------
    gradients_ : ndarray of shape (m, d)
        The gradients.
    cholesky_ : ndarray of shape (m, m)
        Lower Cholesky factor of :math:`G G^T + m \lambda I`.
    n_parameters_ : int
        d.
    parameter_slices_ : dict of str to slice
        Where each parameter is in a vector. Like the next one not after `fit_gradients`.
    loss_ : float
        Mean loss over all of `X`.

    See Also
    --------
    HessianOperator : The Hessian, and the Fisher matrix without damping, as products.
    sklr.nn.compression.MFACPruner : Prunes with it.

    Notes
    -----
    With m gradients of d parameters the fit takes O(m^2 d) time, a product O(m d). Everything is
    one Cholesky factorisation; the recursions of [1]_ are the same one written out by hand.
    The network is in evaluation mode, and frozen parameters are left out.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: efficient matrix-free approximations of
       second-order information", NeurIPS 2021, arXiv:2107.03356.
    .. [2] F. Kunstner, L. Balles and P. Hennig, "Limitations of the empirical Fisher
       approximation for natural gradient descent", NeurIPS 2019, arXiv:1905.12558.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklr.landscape import EmpiricalFisher
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=500).fit(X, y)
    >>> fisher = EmpiricalFisher(damping=0.01, random_state=0).fit(model, X, y)
    >>> x = np.ones(fisher.n_parameters_)
    >>> bool(np.allclose(fisher.matvec(fisher.solve(x)), x))
    True
    >>> fisher.diagonal().shape
    (15,)
    """

    _needs_labels = True
    _one_row_is_enough = True
    _order_of_samples = ("gradients_", "cholesky_")
    _parameter_constraints: dict = {
        "damping": [Interval(Real, 0, None, closed="neither")],
        "n_gradients": [Interval(Integral, 1, None, closed="left")],
        "samples_per_gradient": [Interval(Integral, 1, None, closed="left")],
        "labels": [StrOptions({"data", "model"})],
        "loss": [StrOptions(set(LOSSES)), callable],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "max_memory": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        damping: float = 1e-5,
        *,
        n_gradients: int = 256,
        samples_per_gradient: int = 1,
        labels: str = "data",
        loss: Any = "auto",
        batch_size: int | None = None,
        dtype: str = "auto",
        max_memory: float = 4.0,
        random_state: Any = None,
    ) -> None:
        self.damping = damping
        self.n_gradients = n_gradients
        self.samples_per_gradient = samples_per_gradient
        self.labels = labels
        self.loss = loss
        self.batch_size = batch_size
        self.dtype = dtype
        self.max_memory = max_memory
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, module: Any, X: Any = None, y: Any = None) -> "EmpiricalFisher":
        """Collect gradients of a trained network, which is not changed.

        Parameters
        ----------
        module : torch.nn.Module or scikit-learn model
            The trained network; or a fitted `MLPClassifier`, `MLPRegressor`,
            `LogisticRegression`, `LinearRegression` or `Ridge`, or a pipeline to one.
        X : array-like, tensor, tuple, dict, list of batches or DataLoader
            Inputs. An array or a tensor has samples along its first axis; a tuple or a dict has an
            array for each argument. A list, a DataLoader or another iterable has batches, each
            ending with its targets.
        y : array-like or None
            Targets; None where `X` has batches.

        Returns
        -------
        self : EmpiricalFisher
            The fitted object.
        """
        import torch

        objective, _ = objective_of(
            module,
            X,
            y,
            loss=self.loss,
            weight_decay=0.0,
            batch_size=self.batch_size,
            dtype=self.dtype,
            name="EmpiricalFisher",
        )
        rng = check_random_state(self.random_state)
        each = self.samples_per_gradient
        wanted = min(self.n_gradients * each, objective.n_samples)
        check_gradients_memory(
            -(-wanted // each), objective.n_parameters, objective.dtype, self.max_memory
        )
        self.loss_ = objective.mean_loss()
        if self.labels == "model":
            objective.draw_targets(int(rng.randint(2**31)))
        index = np.arange(objective.n_samples)
        if wanted < len(index):
            index = np.sort(rng.permutation(objective.n_samples)[:wanted])
            if each > 1:
                index = rng.permutation(index)
        G = objective.sample_gradients(torch.from_numpy(index), samples_per_gradient=each)
        self.parameter_slices_ = dict(objective.slices)
        self._factor(G)
        return self

    def fit_gradients(self, G: Any) -> "EmpiricalFisher":
        """Take gradients that there are.

        Parameters
        ----------
        G : array-like of shape (m, d)
            Gradients as rows; float32 stays so. They are not copied where they are C-contiguous.

        Returns
        -------
        self : EmpiricalFisher
            The fitted object.
        """
        import torch
        from sklearn.utils.validation import check_array

        self._validate_params()
        G = check_array(G, dtype=[np.float64, np.float32], input_name="G", order="C")
        for name in ("parameter_slices_", "loss_"):
            if hasattr(self, name):
                delattr(self, name)
        # A view for reading only: torch would warn of an array that cannot be written to.
        self._factor(torch.from_numpy(G if G.flags.writeable else G.copy()))
        return self

    def _factor(self, G: Any) -> None:
        from sklr._torch._inverse_fisher import InverseFisher

        inverse = InverseFisher(G, self.damping)
        self.gradients_ = G.cpu().numpy()
        self.cholesky_ = inverse.L.cpu().numpy()
        self.n_parameters_ = G.shape[1]
        self._damping = float(self.damping)

    @property
    def _inverse(self) -> Any:
        import torch

        from sklr._torch._inverse_fisher import InverseFisher

        check_is_fitted(self, "cholesky_")
        made = InverseFisher.__new__(InverseFisher)
        made.G, made.L = torch.from_numpy(self.gradients_), torch.from_numpy(self.cholesky_)
        made.damping, made.n = self._damping, len(self.gradients_)
        return made

    def solve(self, x: Any) -> Any:
        """Return the product of the inverse with vectors.

        Parameters
        ----------
        x : array-like of shape (d,) or (d, k), or dict of str to tensor
            One vector, several as columns, or the parts of one by name of parameter.

        Returns
        -------
        product : ndarray of the same shape, or dict of str to tensor
            One for each vector.
        """
        return self._apply("solve", x)

    def matvec(self, x: Any) -> Any:
        """Return the product of the damped Fisher matrix itself with vectors.

        Parameters
        ----------
        x : array-like of shape (d,) or (d, k), or dict of str to tensor
            One vector, several as columns, or the parts of one by name of parameter.

        Returns
        -------
        product : ndarray of the same shape, or dict of str to tensor
            One for each vector.
        """
        return self._apply("matvec", x)

    def _apply(self, what: str, x: Any) -> Any:
        import torch

        inverse = self._inverse
        if isinstance(x, Mapping):
            slices = getattr(self, "parameter_slices_", None)
            if slices is None or set(x) != set(slices):
                raise ValueError(
                    f"x must have the parameters {sorted(slices or ())}, got {sorted(x)}"
                )
            parts = [torch.as_tensor(x[key]).detach().cpu().reshape(-1) for key in slices]
            found = torch.from_numpy(self._apply(what, torch.cat(parts).double().numpy()))
            return {
                key: found[at].reshape(x[key].shape).to(torch.as_tensor(x[key]))
                for key, at in slices.items()
            }
        x = np.asarray(x, dtype=np.float64)
        if x.ndim not in (1, 2) or len(x) != self.n_parameters_:
            raise ValueError(
                f"x has shape {x.shape}; there are {self.n_parameters_} parameters along its "
                "first axis"
            )
        return getattr(inverse, what)(torch.from_numpy(np.ascontiguousarray(x))).numpy()

    def diagonal(self) -> np.ndarray:
        """Return the diagonal of the inverse, in O(m^2 d).

        Returns
        -------
        diagonal : ndarray of shape (d,)
            One number for each parameter.
        """
        return self._inverse.diagonal().numpy()

    def entries(self, rows: Any, columns: Any) -> np.ndarray:
        """Return a block of the inverse.

        Parameters
        ----------
        rows, columns : int or array-like of int
            Places of parameters.

        Returns
        -------
        block : ndarray of shape (n_rows, n_columns)
            Entries at these rows and columns.
        """
        import torch

        inverse = self._inverse
        places = []
        for name, given in (("rows", rows), ("columns", columns)):
            at = np.atleast_1d(np.asarray(given))
            if at.ndim != 1 or at.dtype.kind not in "iu" or not len(at):
                raise ValueError(f"{name} must be places of parameters, got {given!r}")
            if at.min() < -self.n_parameters_ or at.max() >= self.n_parameters_:
                raise ValueError(
                    f"{name} must be from 0 to {self.n_parameters_ - 1}, got {int(at.min())} to "
                    f"{int(at.max())}"
                )
            places.append(torch.from_numpy(at % self.n_parameters_))
        return inverse.block(*places).numpy()

    def logdet(self) -> float:
        """Return the logarithm of the determinant of the damped Fisher matrix.

        Returns
        -------
        logdet : float
            Natural logarithm.
        """
        return self._inverse.logdet()

    def as_linear_operator(self, *, inverse: bool = True) -> LinearOperator:
        """Return the inverse, or the matrix itself, as a linear operator of SciPy.

        Parameters
        ----------
        inverse : bool, default=True
            Whether it is the inverse.

        Returns
        -------
        operator : scipy.sparse.linalg.LinearOperator of shape (d, d)
            Symmetric, of double precision.
        """
        check_is_fitted(self, "cholesky_")
        apply = self.solve if inverse else self.matvec
        d = self.n_parameters_
        return LinearOperator(
            (d, d), matvec=apply, matmat=apply, rmatvec=apply, rmatmat=apply, dtype=np.float64
        )


def check_gradients_memory(m: int, d: int, dtype: Any, max_memory: float) -> None:
    """Refuse gradients that take more memory than they may, before the work."""
    import torch

    needed = m * d * torch.empty(0, dtype=dtype).element_size() / 2**30
    if needed > max_memory:
        raise ValueError(
            f"{m} gradients of {d} parameters take {needed:.3g} GiB, above max_memory="
            f"{max_memory:g}; take fewer (n_gradients), dtype='float32', or allow more"
        )
