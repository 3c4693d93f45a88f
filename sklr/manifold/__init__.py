"""Embeddings and measures of manifolds that are known by points."""

from sklr.manifold._diffusion_entropy import DiffusionSpectralEntropy

__all__ = ["DiffusionSpectralEntropy"]
