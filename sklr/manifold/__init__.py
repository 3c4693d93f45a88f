"""Low-dimensional pictures of graphs and tables."""

from sklr.manifold._fastrp import FastRP, fast_random_projection
from sklr.manifold._fastrp_blocks import fastrp_blocks

__all__ = [
    "FastRP",
    "fast_random_projection",
    "fastrp_blocks",
]
