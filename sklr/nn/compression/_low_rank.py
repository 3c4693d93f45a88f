"""The best matrix of low rank in a weighted norm."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sklr.utils._validation import check_positive_int


def weighted_low_rank(
    W: Any,
    rank: int,
    *,
    left: Any = None,
    right: Any = None,
    left_gram: Any = None,
    right_gram: Any = None,
) -> tuple[Any, Any, Any]:
    r"""Return the best approximation of low rank in a weighted norm.

    Among all matrices :math:`M` of rank `rank` it minimises :math:`\|L (W - M) R\|_F`. The square
    of the minimum is the sum of the squared singular values of :math:`L W R` that are dropped.

    Parameters
    ----------
    W : array-like of shape (m, n)
        The matrix, an array or a tensor.
    rank : int
        Rank wanted; the result has fewer where the weighted matrix has.
    left : array-like of shape (m,), default=None
        Weights of the rows, the diagonal of :math:`L`; None is 1.
    right : array-like of shape (n,), default=None
        Weights of the columns, the diagonal of :math:`R`; None is 1.
    left_gram : array-like of shape (m, m), default=None
        :math:`L^\top L` in place of `left`: symmetric and positive semidefinite.
    right_gram : array-like of shape (n, n), default=None
        :math:`R R^\top` in place of `right`, such as the mean of :math:`x x^\top` over inputs
        :math:`x`: the norm is then the root mean square error of the outputs :math:`W x`.

    Returns
    -------
    A : Tensor of shape (rank, n), float64
        The second factor. Where the weights are zero (null space of `right_gram`) it is zero.
    B : Tensor of shape (m, rank), float64
        The first factor: :math:`M = B A`. Both have half of the singular values, so that
        :math:`B^\top L^\top L B = A R R^\top A^\top` is diagonal.
    singular_values : Tensor of shape (k,), float64
        All singular values of :math:`L W R`, falling.

    Raises
    ------
    ValueError
        Shapes do not fit, a value is not finite, or a Gram matrix is not positive semidefinite.

    See Also
    --------
    WeightSVD : Compresses the layers of a network with it.

    Notes
    -----
    All is computed in float64, on the device of `W`. Eigenvalues of a Gram matrix below
    ``10 * n * eps`` times the largest are taken for zero. The cost is that of one singular value
    decomposition of an m x n matrix and of one eigendecomposition for each Gram matrix.

    References
    ----------
    .. [1] C. Eckart and G. Young, "The approximation of one matrix by another of lower rank",
       Psychometrika 1, 1936, doi:10.1007/BF02288367.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.nn.compression import weighted_low_rank
    >>> rng = np.random.default_rng(0)
    >>> W, X = rng.standard_normal((4, 6)), rng.standard_normal((50, 6))
    >>> A, B, s = weighted_low_rank(W, 2, right_gram=X.T @ X / 50)
    >>> error = (((W - B.numpy() @ A.numpy()) @ X.T) ** 2).sum() / 50
    >>> bool(np.isclose(error, (s[2:] ** 2).sum()))
    True
    """
    rank = check_positive_int(rank, "rank")
    with torch.inference_mode(False), torch.no_grad():
        matrix = checked_tensor(W, "W", 2)
        m, n = matrix.shape
        device = matrix.device
        sides = {}
        for side, size, vector, gram in (
            ("left", m, left, left_gram),
            ("right", n, right, right_gram),
        ):
            if vector is not None and gram is not None:
                raise ValueError(f"{side} and {side}_gram are two ways to say one thing: give one")
            if gram is None:
                sides[side] = diagonal_weights(side, size, vector, device)
            else:
                sides[side] = gram_weights(f"{side}_gram", size, gram, device)
        found = weighted_svd(matrix, left=sides["left"], right=sides["right"])
        A, B = found.balanced(rank)
        return A, B, found.values


def checked_tensor(values: Any, name: str, n_axes: int) -> torch.Tensor:
    """Return finite numbers of so many axes in float64."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach()
    else:
        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
    if tensor.ndim != n_axes:
        raise ValueError(f"{name} must have {n_axes} axes, got shape {tuple(tensor.shape)}")
    tensor = tensor.to(torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} has NaN or infinity")
    return tensor


def diagonal_weights(name: str, size: int, values: Any, device: Any) -> "Weights | None":
    """Return checked weights of rows or columns; None where there are none."""
    if values is None:
        return None
    tensor = _of_size(name, size, values, 1).to(device)
    if bool((tensor < 0).any()):
        raise ValueError(f"{name} must not be negative, got {float(tensor.min()):.3g}")
    return Weights.of_diagonal(tensor)


def gram_weights(name: str, size: int, gram: Any, device: Any) -> "Weights":
    """Return a root of a checked second moment."""
    tensor = _of_size(name, size, gram, 2).to(device)
    asymmetry = float((tensor - tensor.T).abs().max())
    if asymmetry > 1e-8 * float(tensor.abs().max()):
        raise ValueError(f"{name} must be symmetric, it differs by {asymmetry:.3g}")
    return Weights.of_gram((tensor + tensor.T) / 2, name)


def _of_size(name: str, size: int, values: Any, n_axes: int) -> torch.Tensor:
    tensor = checked_tensor(values, name, n_axes)
    if set(tensor.shape) != {size}:
        raise ValueError(
            f"{name} must have shape {(size,) * n_axes} for this matrix, got {tuple(tensor.shape)}"
        )
    return tensor


@dataclass(frozen=True)
class Weights:
    """A root R of a weight matrix, and its pseudo-inverse, never formed where it is diagonal.

    Attributes
    ----------
    scale : Tensor of shape (k,)
        Roots of the eigenvalues that are kept, or the diagonal.
    basis : Tensor of shape (n, k) or None
        Their eigenvectors; None where R is diagonal.
    """

    scale: torch.Tensor
    basis: torch.Tensor | None = None

    @classmethod
    def of_diagonal(cls, weights: torch.Tensor) -> "Weights":
        """Return R = diag(weights)."""
        return cls(weights)

    @classmethod
    def of_gram(cls, gram: torch.Tensor, name: str = "the second moment") -> "Weights":
        """Return a root of a positive semidefinite matrix, on its range."""
        values, vectors = torch.linalg.eigh(gram)
        largest = values.abs().max()
        if float(values.min()) < -1e-6 * float(largest):
            raise ValueError(
                f"{name} must be positive semidefinite; its eigenvalues begin at "
                f"{float(values.min()):.3g} and end at {float(values.max()):.3g}"
            )
        # Sums of few rows have no full rank. A coarser bound already breaks the identity of the
        # error with the dropped values; a clamp would make a huge inverse of nothing.
        cut = largest * len(values) * 10 * torch.finfo(torch.float64).eps
        keep = torch.flip(torch.nonzero(values > cut)[:, 0], [0])
        return cls(values[keep].sqrt(), vectors[:, keep])

    def times(self, W: torch.Tensor) -> torch.Tensor:
        """Return W R."""
        return (W if self.basis is None else W @ self.basis) * self.scale

    def solve(self, V: torch.Tensor) -> torch.Tensor:
        """Return V times the pseudo-inverse of R."""
        inverse = torch.where(self.scale > 0, 1 / self.scale, 0.0)
        return V * inverse if self.basis is None else (V * inverse) @ self.basis.T


@dataclass(frozen=True)
class WeightedSVD:
    """Singular value decomposition of L W R, with L and R taken off again."""

    left: torch.Tensor  # (m, k): L^-1 U
    values: torch.Tensor  # (k,)
    right: torch.Tensor  # (k, n): V^T R^-1
    U: torch.Tensor  # orthonormal, in the coordinates of L

    @property
    def n_nonzero(self) -> int:
        """Number of singular values that are not rounding."""
        if not len(self.values) or not float(self.values[0]):
            return 0
        cut = self.values[0] * max(self.left.shape[0], self.right.shape[1]) * 2.2e-16
        return int((self.values > cut).sum())

    def balanced(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (A, B) of a rank, each with the root of the singular values."""
        r = max(1, min(rank, self.n_nonzero))
        root = self.values[:r].sqrt()
        return root[:, None] * self.right[:r], self.left[:, :r] * root


def weighted_svd(
    W: torch.Tensor, *, left: Weights | None = None, right: Weights | None = None
) -> WeightedSVD:
    """Decompose L W R once, for all ranks; the largest entry of each column of U is positive."""
    inner = W if right is None else right.times(W)
    inner = inner if left is None else left.times(inner.T).T
    U, values, Vh = torch.linalg.svd(inner, full_matrices=False)
    if U.numel():
        largest = U.abs().argmax(dim=0)
        sign = torch.where(U[largest, torch.arange(U.shape[1], device=U.device)] < 0, -1.0, 1.0)
        U, Vh = U * sign, sign[:, None] * Vh
    return WeightedSVD(
        U if left is None else left.solve(U.T).T,
        values,
        Vh if right is None else right.solve(Vh),
        U,
    )
