"""Low-dimensional pictures of graphs and tables."""

from sklr.manifold._fastrp import FastRP, fast_random_projection

__all__ = [
    "FastRP",
    "fast_random_projection",
]
