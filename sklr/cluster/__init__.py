"""Clustering by structure: subspaces and graphs."""

from sklr.cluster._bootstrap_amg import BootstrapAMGClustering
from sklr.cluster._diffusion_subspaces import DiffusionSubspaceClustering
from sklr.manifold._amg._augmented_graph import augment_graph

__all__ = ["BootstrapAMGClustering", "DiffusionSubspaceClustering", "augment_graph"]
