"""Embeddings of graphs and of data on manifolds."""

from sklr.manifold._bootstrap_amg import BootstrapAMGEmbedding

__all__ = ["BootstrapAMGEmbedding"]
