"""Low-dimensional pictures of graphs and tables."""

from sklr.manifold._bootstrap_amg import BootstrapAMGEmbedding
from sklr.manifold._fastrp import FastRP, fast_random_projection

__all__ = [
    "BootstrapAMGEmbedding",
    "FastRP",
    "fast_random_projection",
]
