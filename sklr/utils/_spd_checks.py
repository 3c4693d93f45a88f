"""The one check of symmetric positive (semi)definite matrices, for functions and estimators.

Matrices are judged after scaling to unit diagonal, so that channels may have any units (volts
beside teslas), each matrix alone, and within the rounding of the dtype that came in.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Eigenvalues of a unit-diagonal matrix below this, times its size, are rounding of zero.
EIGENVALUE_NOISE = 10 * float(np.finfo(np.float64).eps)
#: How far below zero an eigenvalue of a semidefinite matrix may be, relative to the trace.
NEGATIVE = 1e-10
#: Products of two matrices occur.
LARGEST = 1e-4 * float(np.sqrt(np.finfo(np.float64).max))
#: A variance that is this small beside that of the other matrices is that of a flat channel.
_FLAT = 1e-12
_DOUBLE = float(np.finfo(np.float64).eps)

NOT_SPD = (
    "{what} is not positive definite. Average-referenced or ICA-cleaned signals have less than "
    "full rank, and short windows too: use a shrinkage estimator ('oas', 'lwf', 'sch'; with "
    "standardize=True where channels have unlike units), or fewer channels."
)


def rounding(X: Any) -> float:
    """Machine epsilon of the dtype in which the numbers came, before they became float64."""
    dtype = getattr(X, "dtype", None)
    try:
        dtype = np.dtype(dtype) if dtype is not None else np.asarray(X).dtype
    except (TypeError, ValueError):  # a dtype of another library, such as torch.float32
        dtype = np.asarray(X).dtype
    return max(float(np.finfo(dtype).eps), _DOUBLE) if dtype.kind == "f" else _DOUBLE


def definite_tolerance(n: int, eps: float = _DOUBLE) -> float:
    """Eigenvalues of unit-diagonal matrices of `n` rows that are no more than rounding."""
    return EIGENVALUE_NOISE * n if eps <= _DOUBLE else 4.0 * eps * float(np.sqrt(n))


def semidefinite_tolerance(n: int, eps: float = _DOUBLE) -> float:
    """How far below zero their eigenvalues may be."""
    return NEGATIVE * n if eps <= _DOUBLE else 10.0 * eps * n


def check_matrices(X: Any, name: str, *, psd: bool = True) -> tuple[np.ndarray, float]:
    """Return symmetric float64 matrices (..., n, n), and the rounding of what came in."""
    eps = rounding(X)
    X = np.asarray(X)
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {X.dtype}.")
    X = X.astype(np.float64, copy=False)
    if X.ndim < 2 or X.shape[-1] != X.shape[-2] or X.shape[-1] == 0:
        raise ValueError(f"{name} must be square matrices (..., n, n), got shape {X.shape}.")
    if not np.isfinite(X).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return symmetric(X, f"{name} must be symmetric; ", eps, psd=psd), eps


def check_semidefinite(X: Any, name: str) -> np.ndarray:
    """Positive semidefinite float64 matrices (..., n, n)."""
    X, eps = check_matrices(X, name)
    require_semidefinite(X, name, eps=eps)
    return X


def check_stack(X: Any, name: str = "X") -> tuple[np.ndarray, float]:
    """As :func:`check_matrices`, for a non-empty stack (..., n_matrices, n, n)."""
    shape = np.shape(X)
    if len(shape) < 3 or shape[-1] != shape[-2] or 0 in shape:
        raise ValueError(f"{name} must be a non-empty stack of square matrices, got shape {shape}.")
    return check_matrices(X, name)


def symmetric(X: np.ndarray, message: str, eps: float, *, psd: bool = True) -> np.ndarray:
    """Refuse asymmetry above half of the digits; take what is left of it out, in a copy.

    Entries are compared with the diagonal's (``psd=False``: with the largest entry), so that the
    block of a small unit is not hidden by a large one.
    """
    turned = np.swapaxes(X, -1, -2)
    if np.array_equal(X, turned):
        return X
    gap = np.abs(X - turned)
    if psd:
        root = np.sqrt(np.abs(np.diagonal(X, axis1=-2, axis2=-1)))
        size = root[..., :, None] * root[..., None, :]
    else:
        size = np.abs(X).max(axis=(-2, -1), keepdims=True)
    bad = (gap > np.sqrt(eps) * size).any(axis=(-2, -1)).ravel()
    if bad.any():
        worst = int(np.argmax(bad))
        gaps = gap.reshape(-1, *X.shape[-2:])[worst]
        row, column = np.unravel_index(int(gaps.argmax()), gaps.shape)
        raise ValueError(
            f"{message}matrix {worst} differs from its transpose by up to {gaps.max():.3g}. "
            f"That is in row {row}, column {column}."
        )
    return 0.5 * (X + turned)


def unit_diagonal(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices scaled to unit diagonal, and the scale; rows whose variance is zero stay."""
    scale = np.sqrt(np.maximum(np.diagonal(X, axis1=-2, axis2=-1), 0.0))
    inverse = 1.0 / np.where(scale > 0.0, scale, 1.0)
    return X * inverse[..., :, None] * inverse[..., None, :], scale


def require_definite(
    X: np.ndarray,
    name: str = "X",
    *,
    eps: float = _DOUBLE,
    numbers: Sequence[int] | None = None,
    channels: Sequence[str] | None = None,
) -> None:
    """Refuse the first matrix that is not positive definite, by its number and its channel.

    Parameters
    ----------
    X : ndarray of shape (..., n, n)
        Symmetric matrices.
    name : str, default="X"
        What they are called in the message; "X" numbers them.
    eps : float
        Rounding of the numbers that came in.
    numbers : sequence of int, default=None
        The matrices' numbers in the message, by default their places.
    channels : sequence of str, default=None
        Names of the rows in the message, by default their places.
    """
    flat = X.reshape(-1, *X.shape[-2:])
    n = flat.shape[-1]
    scaled, scale = unit_diagonal(flat)
    tolerance = definite_tolerance(n, eps)
    if scale.all():
        index = np.arange(n)
        scaled[:, index, index] -= tolerance
        try:  # a small part of the cost of eigenvalues
            np.linalg.cholesky(scaled)
            return
        except np.linalg.LinAlgError:
            scaled[:, index, index] += tolerance
    bad = (np.linalg.eigvalsh(scaled)[:, 0] <= tolerance) | (scale == 0.0).any(axis=1)
    if bad.any():
        worst = int(np.argmax(bad))
        raise ValueError(NOT_SPD.format(what=_why_not(flat, worst, name, numbers, channels)))


def _called(worst: int, name: str, numbers: Sequence[int] | None, many: bool) -> str:
    if name != "X":
        return f"Matrix {worst} of {name}" if many else f"The {name} matrix"
    return f"Matrix {worst if numbers is None else numbers[worst]}"


def _why_not(
    X: np.ndarray,
    worst: int,
    name: str,
    numbers: Sequence[int] | None,
    channels: Sequence[str] | None,
) -> str:
    """Say which matrix it is, and which of its channels are the cause."""
    called = _called(worst, name, numbers, len(X) > 1)
    variances = np.diagonal(X, axis1=1, axis2=2)
    own = variances[worst]
    usual = np.median(variances, axis=0)
    flat = own <= _FLAT * np.maximum(usual, 0.0)
    if (own < 0).any():
        row = int(np.argmin(own))
        what = f"has the negative variance {own[row]:.3g}"
        return f"{called} (channel {_listed([row], channels)} {what})"
    if flat.any() or (own == 0).any():
        rows = np.flatnonzero(flat | (own == 0)).tolist()
        of = f", {usual[rows[0]]:.3g} in most" if len(X) > 1 else ""
        return (
            f"{called} (channel {_listed(rows, channels)} is constant in it: variance "
            f"{own[rows[0]]:.3g}{of})"
        )
    values, vectors = np.linalg.eigh(unit_diagonal(X[worst])[0])
    rank = int((values > definite_tolerance(len(values))).sum())
    involved = np.flatnonzero(np.abs(vectors[:, 0]) > 1e-3).tolist()
    return (
        f"{called} (smallest eigenvalue {values[0]:.3g} after scaling to unit diagonal, rank "
        f"{rank} of {len(values)}; channels {_listed(involved, channels)} depend on each other)"
    )


def _listed(rows: list[int], channels: Sequence[str] | None) -> str:
    # Delayed copies of a channel have its name.
    names = list(dict.fromkeys(str(row) if channels is None else channels[row] for row in rows))
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def require_semidefinite(
    X: np.ndarray,
    name: str = "X",
    numbers: Sequence[int] | None = None,
    *,
    eps: float = _DOUBLE,
) -> None:
    """Refuse a matrix with an eigenvalue below zero by more than rounding; say which one.

    Parameters are those of :func:`require_definite`.
    """
    flat = X.reshape(-1, *X.shape[-2:])
    n = flat.shape[-1]
    trace = np.trace(flat, axis1=1, axis2=2)
    if len(trace) and np.abs(trace).max() > LARGEST:
        raise ValueError(
            f"{name} has a matrix of trace {np.abs(trace).max():.3g}, whose square overflows; "
            "divide all matrices by a common number"
        )
    scaled, _ = unit_diagonal(flat)
    tolerance = semidefinite_tolerance(n, eps)
    index = np.arange(n)
    scaled[:, index, index] += tolerance
    try:  # a small part of the cost of eigenvalues
        np.linalg.cholesky(scaled)
        return
    except np.linalg.LinAlgError:
        pass
    smallest = np.linalg.eigvalsh(scaled)[:, 0]
    bad = smallest < 0.0
    if bad.any():
        worst = int(np.argmax(bad))
        number = worst if numbers is None else numbers[worst]
        value = float(np.linalg.eigvalsh(flat[worst])[0])
        lowest = int(np.argmin(flat[worst].diagonal()))
        cause = ""
        if flat[worst, lowest, lowest] < 0:
            cause = f" Its channel {lowest} has the variance {flat[worst, lowest, lowest]:.3g}."
        raise ValueError(
            f"Matrix {number} of {name} is not positive semidefinite: smallest eigenvalue "
            f"{value:.3g}, trace {trace[worst]:.3g}; after scaling to unit diagonal "
            f"{smallest[worst] - tolerance:.3g}, where down to -{tolerance:.1g} passes. "
            f"Covariances have none below zero.{cause}"
        )


def check_weights(sample_weight, n):
    """Weights that sum to one."""
    if sample_weight is None:
        return np.full(n, 1.0 / n)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n},).")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise ValueError("sample_weight must be finite, non-negative and not all zero.")
    return weights / weights.sum()
