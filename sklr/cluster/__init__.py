"""Clustering of graphs, with attributes of their vertices."""

from sklr.cluster._bootstrap_amg import BootstrapAMGClustering
from sklr.geometry._augmented_graph import augment_graph

__all__ = ["BootstrapAMGClustering", "augment_graph"]
