"""Clustering by structure: subspaces and graphs."""

from sklr.cluster._diffusion_subspaces import DiffusionSubspaceClustering

__all__ = ["DiffusionSubspaceClustering"]
