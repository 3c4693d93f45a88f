"""Layers on SPD matrices: bilinear maps on the Stiefel manifold, ReEig, LogEig, pooling."""

import torch
from torch import Tensor, nn

from sklr.nn._grassmann._riemannian import orthonormal
from sklr.nn._spd._functional import spd_floor, spd_log


class BiMap(nn.Module):
    r"""Bilinear map of SPD matrices to smaller ones, :math:`X \mapsto W X W^\top`.

    `W` has orthonormal rows at all times: it is the orthogonal factor of a free parameter, so
    that any optimiser of torch moves it along the Stiefel manifold.

    Parameters
    ----------
    in_features : int
        Rows of the matrices.
    out_features : int
        Rows of the results, at most `in_features`.
    device : torch.device, default=None
        Where the parameter is made.
    dtype : torch.dtype, default=None
        Its type, by default torch's own.

    Attributes
    ----------
    rows : Parameter of shape (out_features, in_features)
        The free parameter.
    weight : Tensor of shape (out_features, in_features)
        The orthonormal rows.

    See Also
    --------
    ReEig : The nonlinearity that follows.
    spd_learn.modules.BiMap : The layer of spd-learn.

    Notes
    -----
    `weight` is the orthogonal factor of a QR decomposition: less than half the cost of torch's own
    parametrizations (Householder reflections, exponential map) at up to 60 rows, with steps as
    good, and the module can be pickled. Lengths of `rows` have no effect, and weight decay
    on them none but to make steps relatively longer. Linearly dependent `rows` have no gradient
    (it is NaN), as their orthogonal factor is not unique.

    References
    ----------
    .. [1] Z. Huang, L. Van Gool, "A Riemannian network for SPD matrix learning", AAAI 2017,
       arXiv:1608.04233.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import BiMap
    >>> layer = BiMap(5, 3)
    >>> layer(torch.eye(5).expand(2, 5, 5)).shape
    torch.Size([2, 3, 3])
    >>> bool(torch.allclose(layer.weight @ layer.weight.T, torch.eye(3), atol=1e-6))
    True
    """

    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__()
        if not 1 <= out_features <= in_features:
            raise ValueError(
                f"out_features must be from 1 to in_features={in_features}, got {out_features}: "
                "there are no more orthonormal rows"
            )
        self.in_features, self.out_features = in_features, out_features
        self.rows = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        nn.init.orthogonal_(self.rows)

    @property
    def weight(self) -> Tensor:
        """The orthonormal rows."""
        return orthonormal(self.rows.mT).mT

    def forward(self, X: Tensor) -> Tensor:
        """Map the matrices.

        Parameters
        ----------
        X : Tensor of shape (..., in_features, in_features)
            SPD matrices.

        Returns
        -------
        Y : Tensor of shape (..., out_features, out_features)
            The mapped matrices.
        """
        W = self.weight.to(X.dtype)
        return W @ X @ W.mT

    def extra_repr(self):
        """Return what ``repr`` shows in the parentheses.

        Returns
        -------
        text : str
            The parameters.
        """
        return f"{self.in_features}, {self.out_features}"


class ReEig(nn.Module):
    """Lift small eigenvalues to a floor: the nonlinearity of SPD networks.

    Parameters
    ----------
    floor : float, default=1e-5
        Smallest eigenvalue of the results.

    See Also
    --------
    LogEig : Has a floor of its own, for one decomposition instead of two at a network's end.
    spd_learn.modules.ReEig : The layer of spd-learn.

    References
    ----------
    .. [1] Z. Huang, L. Van Gool, "A Riemannian network for SPD matrix learning", AAAI 2017,
       arXiv:1608.04233.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import ReEig
    >>> ReEig(0.5)(torch.diag(torch.tensor([1.0, 0.1])))
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    """

    def __init__(self, floor=1e-5):
        super().__init__()
        if not floor > 0:
            raise ValueError(f"floor must be above 0, got {floor}")
        self.floor = float(floor)

    def forward(self, X: Tensor) -> Tensor:
        """Lift the eigenvalues.

        Parameters
        ----------
        X : Tensor of shape (..., n, n)
            Symmetric matrices.

        Returns
        -------
        Y : Tensor of shape (..., n, n)
            SPD matrices.
        """
        return spd_floor(X, self.floor)

    def extra_repr(self):
        """Return what ``repr`` shows in the parentheses.

        Returns
        -------
        text : str
            The parameters.
        """
        return f"floor={self.floor:g}"


class LogEig(nn.Module):
    """Matrix logarithm: from SPD matrices to a vector space.

    Parameters
    ----------
    floor : float, default=None
        Eigenvalues below it are lifted to it first, as by :class:`ReEig`. None takes the matrices
        as they are, and refuses those with a negative eigenvalue beyond rounding.
    vectorize : bool, default=False
        Whether upper triangles are returned, with entries off the diagonal times sqrt(2), so that
        inner products are those of the matrices.

    See Also
    --------
    ReEig : The floor alone.
    sklr.geometry.tangent_space : The logarithm at other points, and the same vectors.

    References
    ----------
    .. [1] Z. Huang, L. Van Gool, "A Riemannian network for SPD matrix learning", AAAI 2017,
       arXiv:1608.04233.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import LogEig
    >>> LogEig(vectorize=True)(torch.diag(torch.tensor([1.0, 10.0])))
    tensor([0.0000, 0.0000, 2.3026])
    """

    def __init__(self, floor=None, *, vectorize=False):
        super().__init__()
        if floor is not None and not floor > 0:
            raise ValueError(f"floor must be above 0 or None, got {floor}")
        self.floor = None if floor is None else float(floor)
        self.vectorize = vectorize

    def forward(self, X: Tensor) -> Tensor:
        """Take the logarithm.

        Parameters
        ----------
        X : Tensor of shape (..., n, n)
            SPD matrices.

        Returns
        -------
        Y : Tensor of shape (..., n, n) or (..., n * (n + 1) / 2)
            The logarithms.

        Raises
        ------
        DivergedError
            A matrix has a negative eigenvalue and there is no floor; a ``ValueError``. Compiled
            and exported layers do not look.
        """
        Y = spd_log(X, self.floor, check=self.floor is None)
        if not self.vectorize:
            return Y
        rows, columns = torch.triu_indices(*Y.shape[-2:], device=Y.device)
        scale = torch.where(rows == columns, 1.0, 2.0**0.5).to(Y.dtype)
        return Y[..., rows, columns] * scale

    def extra_repr(self):
        """Return what ``repr`` shows in the parentheses.

        Returns
        -------
        text : str
            The parameters.
        """
        return f"floor={self.floor}, vectorize={self.vectorize}"


class InputScale(nn.Module):
    """Divide by a constant that is kept with the weights: the size of the training data."""

    scale: Tensor

    def __init__(self, scale):
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))

    def forward(self, X: Tensor) -> Tensor:
        """Return the divided input."""
        return X / self.scale.to(X.dtype)


class CovariancePooling(nn.Module):
    """Covariances over the last axis, in double precision, and a small multiple of the identity."""

    def __init__(self, reg=1e-5):
        super().__init__()
        self.reg = reg

    def forward(self, X: Tensor) -> Tensor:
        """Pool (n_trials, n_maps, n_times) to (n_trials, n_maps, n_maps)."""
        if X.shape[-1] < 2:
            raise ValueError(
                f"a covariance needs at least 2 time samples, got {X.shape[-1]} after the filters: "
                "take longer trials"
            )
        X = X.double()
        X = X - X.mean(dim=-1, keepdim=True)
        eye = torch.eye(X.shape[-2], dtype=X.dtype, device=X.device)
        return X @ X.mT / (X.shape[-1] - 1) + self.reg * eye
