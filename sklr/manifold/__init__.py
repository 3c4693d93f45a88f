"""Low-dimensional pictures of graphs and tables, and how many dimensions they have."""

from sklr.manifold._diffusion_entropy import DiffusionSpectralEntropy
from sklr.manifold._fastrp import FastRP, fast_random_projection
from sklr.manifold._fastrp_blocks import fastrp_blocks

__all__ = [
    "DiffusionSpectralEntropy",
    "FastRP",
    "fast_random_projection",
    "fastrp_blocks",
]
