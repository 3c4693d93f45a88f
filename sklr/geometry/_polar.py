"""Plane maps of positive determinant: their polar chart, and samples of their groups."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

GROUPS = ("so2", "scale_rotation", "sl2", "gl2")


def polar_exp(A: Any, angle: Any) -> np.ndarray:
    r"""Return the plane map of a symmetric matrix and an angle, :math:`\exp(A) R(\theta)`.

    Every 2 x 2 matrix of positive determinant is the image of exactly one symmetric matrix and one
    angle in :math:`(-\pi, \pi]`: the chart has no gaps, which the matrix exponential of all 2 x 2
    matrices has.

    Parameters
    ----------
    A : array-like of shape (..., 2, 2)
        Symmetric matrices: logarithms of the stretch. Without trace the determinant is 1.
    angle : array-like of shape (...)
        Angles in radians.

    Returns
    -------
    H : ndarray of float64 of shape (..., 2, 2)
        Maps: first the rotation, then the stretch.

    See Also
    --------
    polar_log : The inverse.
    scipy.linalg.polar : The factors of one matrix of any size.

    Notes
    -----
    In closed form: with the mean `a` of the diagonal and the traceless rest S of norm r in each
    direction, the exponential is :math:`e^a (\cosh r\, I + \sinh(r) / r\, S)`.

    References
    ----------
    .. [1] M. Mironenco and P. Forré, "Lie group decompositions for equivariant neural networks",
       ICLR 2024, arXiv:2310.11366.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import polar_exp
    >>> polar_exp(np.diag([np.log(2), 0]), np.pi / 2).round(6)
    array([[ 0., -2.],
           [ 1.,  0.]])
    """
    A, angle = _matrices(A, "A"), np.asarray(angle, dtype=np.float64)
    skew = np.abs(A[..., 0, 1] - A[..., 1, 0])
    if (skew > 1e-8 * (1 + np.abs(A).max(axis=(-2, -1)))).any():
        raise ValueError(
            f"A must be symmetric, but off-diagonal entries differ by up to {skew.max():.3g}"
        )
    if not np.isfinite(angle).all():
        raise ValueError("angle has values that are not finite")
    mean = (A[..., 0, 0] + A[..., 1, 1]) / 2
    p, q = (A[..., 0, 0] - A[..., 1, 1]) / 2, (A[..., 0, 1] + A[..., 1, 0]) / 2
    r = np.hypot(p, q)
    even, odd = np.cosh(r), _ratio(np.sinh(r), r)
    P = np.stack([even + odd * p, odd * q, odd * q, even - odd * p], axis=-1)
    P = (np.exp(mean)[..., None] * P).reshape(*r.shape, 2, 2)
    return P @ _rotations(angle)


def polar_log(H: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the symmetric matrix and the angle of a plane map: the inverse of `polar_exp`.

    Parameters
    ----------
    H : array-like of shape (..., 2, 2)
        Matrices of positive determinant.

    Returns
    -------
    A : ndarray of float64 of shape (..., 2, 2)
        Symmetric matrices: logarithms of the stretch; the trace is the logarithm of the
        determinant.
    angle : ndarray of float64 of shape (...)
        Angles in :math:`(-\pi, \pi]`.

    See Also
    --------
    polar_exp : The inverse.
    scipy.linalg.polar : The factors of one matrix of any size.

    References
    ----------
    .. [1] M. Mironenco and P. Forré, "Lie group decompositions for equivariant neural networks",
       ICLR 2024, arXiv:2310.11366.

    Examples
    --------
    >>> from sklr.geometry import polar_log
    >>> A, angle = polar_log([[0, -2], [1, 0]])
    >>> float(A[0, 0].round(4)), float(angle.round(4))
    (0.6931, 1.5708)
    """
    H = _matrices(H, "H")
    det = H[..., 0, 0] * H[..., 1, 1] - H[..., 0, 1] * H[..., 1, 0]
    if not (det > 0).all():
        raise ValueError(
            f"H must have positive determinants, the least is {det.min():.3g}: reflections and "
            "singular maps are no part of the group"
        )
    angle = np.arctan2(H[..., 1, 0] - H[..., 0, 1], H[..., 0, 0] + H[..., 1, 1])
    P = H @ np.swapaxes(_rotations(angle), -1, -2)
    p, q = (P[..., 0, 0] - P[..., 1, 1]) / 2, (P[..., 0, 1] + P[..., 1, 0]) / 2
    r = np.hypot(p, q)
    # sinh of the stretch beyond the common scale; exact also for maps that are nearly singular.
    factor = _ratio(np.arcsinh(r / np.sqrt(det)), r, at_zero=1 / np.sqrt(det))
    mean, p, q = np.log(det) / 2, factor * p, factor * q
    A = np.stack([mean + p, q, q, mean - p], axis=-1).reshape(*r.shape, 2, 2)
    return A, angle


def sample_group(
    group: str = "gl2",
    n_samples: int = 8,
    *,
    spread: float = 0.15,
    max_angle: float = 180.0,
    random_state: Any = None,
) -> np.ndarray:
    r"""Draw plane maps from a group, well spread over its angles.

    Parameters
    ----------
    group : {"so2", "scale_rotation", "sl2", "gl2"}, default="gl2"
        "so2" are rotations; "scale_rotation" rotations times a common scale; "sl2" all matrices
        of determinant 1 (rotations, shears, squeezes); "gl2" all of positive determinant.
    n_samples : int, default=8
        Number of maps.
    spread : float, default=0.15
        Standard deviation of the logarithms of the stretch (the orthonormal coordinates of `A` in
        :func:`polar_exp`). 0 leaves rotations.
    max_angle : float, default=180.0
        Largest angle in degrees, in both senses.
    random_state : int, RandomState instance or None, default=None
        Decides the stretches and where the angles begin.

    Returns
    -------
    H : ndarray of float64 of shape (n_samples, 2, 2)
        The maps. With all angles and `n_samples` a multiple of four they are whole orbits under
        quarter turns: maps ``4 k`` to ``4 k + 3`` are quarter turns of one map.

    See Also
    --------
    polar_exp : From coordinates to maps.
    scipy.stats.special_ortho_group : Random rotations of any dimension.

    References
    ----------
    .. [1] M. Mironenco and P. Forré, "Lie group decompositions for equivariant neural networks",
       ICLR 2024, arXiv:2310.11366.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import sample_group
    >>> H = sample_group("sl2", 4, random_state=0)
    >>> H.shape
    (4, 2, 2)
    >>> np.linalg.det(H).round(6)
    array([1., 1., 1., 1.])
    """
    if group not in GROUPS:
        raise ValueError(f"group must be one of {GROUPS}, got {group!r}")
    if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples must be a whole number of at least 1, got {n_samples!r}")
    if not isinstance(spread, Real) or not 0 <= spread < np.inf:
        raise ValueError(f"spread must be finite and not negative, got {spread!r}")
    if not isinstance(max_angle, Real) or not 0 <= max_angle <= 180:
        raise ValueError(f"max_angle must be between 0 and 180 degrees, got {max_angle!r}")
    rng = check_random_state(random_state)
    n = int(n_samples)
    orbits = max_angle == 180 and n % 4 == 0
    n_drawn = n // 4 if orbits else n
    A = group_stretches(group, float(spread) * rng.standard_normal((n_drawn, 3)))
    place = (np.arange(n_drawn) + rng.uniform()) / n_drawn
    if orbits:
        drawn = polar_exp(A, place * np.pi / 2)
        quarter = _rotations(np.arange(4) * np.pi / 2).round()
        return (quarter[None] @ drawn[:, None]).reshape(n, 2, 2)
    return polar_exp(A, np.deg2rad(max_angle) * (2 * place - 1))


def group_stretches(group: str, drawn: np.ndarray) -> np.ndarray:
    """Return symmetric matrices of orthonormal coordinates: common scale, squeeze, shear."""
    scale, squeeze, shear = (drawn / np.sqrt(2)).T
    if group in ("so2", "sl2"):
        scale = 0 * scale
    if group in ("so2", "scale_rotation"):
        squeeze, shear = 0 * squeeze, 0 * shear
    A = np.stack([scale + squeeze, shear, shear, scale - squeeze], axis=-1)
    return A.reshape(-1, 2, 2)


def _matrices(values: Any, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-2:] != (2, 2):
        raise ValueError(f"{name} must have shape (..., 2, 2), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")
    return values


def _rotations(angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos, -sin, sin, cos], axis=-1).reshape(*angle.shape, 2, 2)


def _ratio(above: np.ndarray, below: np.ndarray, at_zero: Any = 1.0) -> np.ndarray:
    """Return a quotient with its limit where it is 0 / 0."""
    safe = np.where(below > 0, below, 1.0)
    return np.where(below > 0, above / safe, at_zero)
