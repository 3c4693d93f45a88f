"""Low-dimensional pictures of graphs and tables."""

from sklr.manifold._fastrp import FastRP, fast_random_projection
from sklr.manifold._fastrp_blocks import fastrp_blocks
from sklr.manifold._heat_distances import heat_geodesic_distances
from sklr.manifold._heat_geodesic import HeatGeodesicEmbedding
from sklr.manifold._heat_geodesic_display import (
    EmbeddingDisplay,
    HeatEntropyDisplay,
    ShepardDisplay,
)

__all__ = [
    "EmbeddingDisplay",
    "FastRP",
    "HeatEntropyDisplay",
    "HeatGeodesicEmbedding",
    "ShepardDisplay",
    "fast_random_projection",
    "fastrp_blocks",
    "heat_geodesic_distances",
]
