"""Kernels as functions of places and of group elements: fixed bases, learnt coefficients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from sklr.geometry import polar_log

# Gaussian bumps across a kernel, and their standard deviation where its half width is 1.
_BUMPS = 5
_BUMP_WIDTH = 0.35
# Standard deviation of the window over logarithms of the relative stretch.
_STRETCH_WIDTH = 0.5
MASKS = ("disc", "smooth")


def check_elements(elements: Any, name: str = "elements") -> np.ndarray:
    """Return group elements as float64 of shape (n, 2, 2), of positive determinant."""
    if isinstance(elements, Tensor):
        elements = elements.detach().cpu().numpy()
    elements = np.asarray(elements, dtype=np.float64)
    if elements.ndim != 3 or elements.shape[1:] != (2, 2) or not len(elements):
        raise ValueError(f"{name} must have shape (n_elements, 2, 2), got {elements.shape}")
    if not np.isfinite(elements).all():
        raise ValueError(f"{name} must be finite")
    det = np.linalg.det(elements)
    if not (det > 0).all():
        raise ValueError(f"{name} must have positive determinants, the least is {det.min():.3g}")
    return elements


def places(elements: np.ndarray, kernel_size: int) -> np.ndarray:
    """Return where each pixel of a kernel is, seen from each element: (n, size, size, 2).

    Pixel centres are stacked as (x, y) with y down, from -1 to 1 across the kernel.
    """
    ticks = (2 * np.arange(kernel_size) + 1) / kernel_size - 1
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return np.einsum("nab,ijb->nija", np.linalg.inv(elements), np.stack([x, y], axis=-1))


def window(at: np.ndarray, mask: str) -> np.ndarray:
    """Return the support of a kernel, which moves with the element: the unit disc.

    "disc" is 1 there and 0 outside; "smooth" falls from 1 to 0 without an edge, so that sums over
    pixels are close to integrals.
    """
    square = (at**2).sum(axis=-1)
    # The edge is moved out by less than rounding: a pixel on it belongs to all quarter turns.
    inside = (square <= 1 + 1e-9).astype(np.float64)
    return inside if mask == "disc" else inside * (1 - np.minimum(square, 1)) ** 2


def place_basis(at: np.ndarray, mask: str) -> np.ndarray:
    """Return Gaussian bumps on the unit disc at places, times the window: (n, size, size, b)."""
    ticks = (2 * np.arange(_BUMPS) + 1) / _BUMPS - 1
    centres = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    centres = centres[(centres**2).sum(axis=1) <= 1]
    square = ((at[..., None, :] - centres) ** 2).sum(axis=-1)
    return np.exp(-square / (2 * _BUMP_WIDTH**2)) * window(at, mask)[..., None]


def element_basis(elements: np.ndarray, in_elements: np.ndarray, order: int) -> np.ndarray:
    """Return functions of each input element seen from each output element: (n, m, b).

    In the polar chart: harmonics of the angle up to an order, which are smooth everywhere on the
    circle, times 1 and the coordinates of the stretch in a Gaussian window.
    """
    A, angle = polar_log(np.linalg.inv(elements)[:, None] @ in_elements[None])
    stretch = np.stack([A[..., 0, 0], math.sqrt(2) * A[..., 0, 1], A[..., 1, 1]], axis=-1)
    stretch /= _STRETCH_WIDTH
    near = np.exp(-(stretch**2).sum(axis=-1) / 2)
    waves = [np.ones_like(angle)]
    for m in range(1, order + 1):
        waves += [math.sqrt(2) * np.cos(m * angle), math.sqrt(2) * np.sin(m * angle)]
    by_angle = np.stack(waves, axis=-1)
    by_stretch = near[..., None] * np.concatenate([np.ones_like(angle)[..., None], stretch], -1)
    return (by_angle[..., :, None] * by_stretch[..., None, :]).reshape(*angle.shape, -1)


def mean_square(basis: Any) -> float:
    """Return the mean over elements of the squared basis, summed over all else."""
    return float((basis**2).sum() / len(basis))
