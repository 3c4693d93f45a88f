"""Low-dimensional pictures of graphs and tables, and how many dimensions they have."""

from sklr.manifold._bootstrap_amg import BootstrapAMGEmbedding
from sklr.manifold._diffusion_entropy import DiffusionSpectralEntropy
from sklr.manifold._fastrp import FastRP, fast_random_projection
from sklr.manifold._fastrp_blocks import fastrp_blocks
from sklr.manifold._fastrp_cv import FastRPCV
from sklr.manifold._heat_distances import heat_geodesic_distances
from sklr.manifold._heat_geodesic import HeatGeodesicEmbedding
from sklr.manifold._heat_geodesic_display import (
    EmbeddingDisplay,
    HeatEntropyDisplay,
    ShepardDisplay,
)

__all__ = [
    "BootstrapAMGEmbedding",
    "DiffusionSpectralEntropy",
    "EmbeddingDisplay",
    "FastRP",
    "FastRPCV",
    "HeatEntropyDisplay",
    "HeatGeodesicEmbedding",
    "ShepardDisplay",
    "fast_random_projection",
    "fastrp_blocks",
    "heat_geodesic_distances",
]
