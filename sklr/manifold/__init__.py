"""Embeddings of graphs and point clouds."""

from sklr.manifold._heat_distances import heat_geodesic_distances
from sklr.manifold._heat_geodesic import HeatGeodesicEmbedding
from sklr.manifold._heat_geodesic_display import (
    EmbeddingDisplay,
    HeatEntropyDisplay,
    ShepardDisplay,
)

__all__ = [
    "EmbeddingDisplay",
    "HeatEntropyDisplay",
    "HeatGeodesicEmbedding",
    "ShepardDisplay",
    "heat_geodesic_distances",
]
