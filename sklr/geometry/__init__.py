"""Riemannian geometry of arrays: functions that know nothing of estimators."""

from sklr.geometry._bures_wasserstein import (
    bw_distance,
    bw_exp,
    bw_geodesic,
    bw_log,
    bw_mean,
    bw_transport,
)
from sklr.geometry._diffusion import (
    diffusion_operator,
    diffusion_spectrum,
    graph_laplacian,
    heat_kernel,
)
from sklr.geometry._frames import (
    connection_laplacian,
    farthest_point_sampling,
    tangent_frames,
    vector_diffusion,
)
from sklr.geometry._neighbors_graph import (
    anisotropic_affinity,
    join_components,
    nearest_neighbors,
    neighbors_graph,
)
from sklr.geometry._polar import polar_exp, polar_log, sample_group
from sklr.geometry._random_subspace import RandomSubspace
from sklr.geometry._spd import mean_riemann, tangent_space

__all__ = [
    "RandomSubspace",
    "anisotropic_affinity",
    "bw_distance",
    "bw_exp",
    "bw_geodesic",
    "bw_log",
    "bw_mean",
    "bw_transport",
    "connection_laplacian",
    "diffusion_operator",
    "diffusion_spectrum",
    "farthest_point_sampling",
    "graph_laplacian",
    "heat_kernel",
    "join_components",
    "mean_riemann",
    "nearest_neighbors",
    "neighbors_graph",
    "polar_exp",
    "polar_log",
    "sample_group",
    "tangent_frames",
    "tangent_space",
    "vector_diffusion",
]
