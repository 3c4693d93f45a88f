"""Riemannian geometry of arrays: functions that know nothing of estimators."""

from sklr.geometry._frames import (
    connection_laplacian,
    farthest_point_sampling,
    tangent_frames,
    vector_diffusion,
)
from sklr.geometry._spd import mean_riemann, tangent_space

__all__ = [
    "connection_laplacian",
    "farthest_point_sampling",
    "mean_riemann",
    "tangent_frames",
    "tangent_space",
    "vector_diffusion",
]
